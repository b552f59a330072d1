//! Propositional formulas: parsing, printing, and the shortest readable form of a truth table.

use super::table::{Cube, TruthTable, check_propositions};
use autodidact_core::{Error, Result};
use std::fmt;
use std::ops::{BitAnd, BitOr, BitXor, Not};
use std::str::FromStr;

/// Short names of the propositions of a pair: the policy's winner and loser, and the reference's.
pub const SHORT: [&str; 4] = ["w", "l", "w_ref", "l_ref"];

/// Names of the same as the paper writes them: `M(y)` says that the policy, `M_ref(y)` that the reference validly generates `y`.
pub const LONG: [&str; 4] = ["M(y_w)", "M(y_l)", "M_ref(y_w)", "M_ref(y_l)"];

/// Longest text that is parsed, in bytes, and deepest nesting of calls, two to a parenthesis: recursion stays within any stack.
const MAX_TEXT: usize = 2048;
const MAX_DEPTH: usize = 200;

/// A propositional formula. Propositions are numbered from 0.
///
/// Written `not`, `and`, `xor`, `or`, `->`, `true`, `false`, from the strongest binding to the weakest (`->` groups to the right, the
/// others to the left); read as well with `!` `~`, `&` `&&`, `^`, `|` `||`, `=>` and the signs of logic. [`fmt::Display`] and [`FromStr`]
/// name the first four propositions as [`SHORT`] does and the others `x4`, `x5`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Formula {
    /// True in every world.
    Top,
    /// True in none.
    Bottom,
    /// A proposition.
    Var(usize),
    /// Negation.
    Not(Box<Formula>),
    /// Conjunction.
    And(Box<Formula>, Box<Formula>),
    /// Disjunction.
    Or(Box<Formula>, Box<Formula>),
    /// Material implication.
    Implies(Box<Formula>, Box<Formula>),
    /// Exclusive or.
    Xor(Box<Formula>, Box<Formula>),
}

impl Formula {
    /// `self -> other`.
    pub fn implies(self, other: Self) -> Self {
        Self::Implies(self.into(), other.into())
    }

    /// One more than the largest number of a proposition in it.
    pub fn arity(&self) -> usize {
        match self {
            Self::Top | Self::Bottom => 0,
            Self::Var(i) => i.saturating_add(1),
            Self::Not(f) => f.arity(),
            Self::And(f, g) | Self::Or(f, g) | Self::Implies(f, g) | Self::Xor(f, g) => f.arity().max(g.arity()),
        }
    }

    /// The worlds that satisfy it, over `n` propositions.
    ///
    /// # Errors
    /// `n` outside 1 to 6, a proposition that is not among them.
    pub fn truth_table(&self, n: usize) -> Result<TruthTable> {
        check_propositions(n)?;
        if self.arity() > n {
            return Err(Error::value("formula", format!("propositions 0 to {}", n - 1), self.arity() - 1));
        }
        Ok(self.table(n))
    }

    fn table(&self, n: usize) -> TruthTable {
        match self {
            Self::Top => TruthTable::constant(n, true),
            Self::Bottom => TruthTable::constant(n, false),
            Self::Var(i) => TruthTable::of_proposition(n, *i),
            Self::Not(f) => !f.table(n),
            Self::And(f, g) => f.table(n) & g.table(n),
            Self::Or(f, g) => f.table(n) | g.table(n),
            Self::Implies(f, g) => !f.table(n) | g.table(n),
            Self::Xor(f, g) => f.table(n) ^ g.table(n),
        }
    }

    /// An equivalent formula of the fewest terms ([`TruthTable::formula`]).
    ///
    /// # Errors
    /// A proposition beyond the sixth.
    pub fn simplify(&self) -> Result<Self> {
        Ok(self.truth_table(self.arity().max(1))?.formula())
    }

    /// Whether `other` is true wherever this one is.
    ///
    /// # Errors
    /// As [`Formula::simplify`].
    pub fn entails(&self, other: &Self) -> Result<bool> {
        let n = self.arity().max(other.arity()).max(1);
        Ok(self.truth_table(n)?.entails(other.truth_table(n)?))
    }

    /// Whether both are true in the same worlds.
    ///
    /// # Errors
    /// As [`Formula::simplify`].
    pub fn equivalent(&self, other: &Self) -> Result<bool> {
        Ok(self.entails(other)? && other.entails(self)?)
    }

    /// Reads a formula whose propositions are named; the first name is proposition 0.
    ///
    /// # Errors
    /// What is no formula, or too long (2048 bytes) or deep (about 100 parentheses); the message says where.
    pub fn parse(text: &str, names: &[&str]) -> Result<Self> {
        let mut parser = Parser::new("formula", text, names)?;
        let formula = parser.formula(0, 0)?;
        parser.end()?;
        Ok(formula)
    }

    /// Prints with names of the propositions; those without one are `x` and their number.
    pub fn with_names<'a>(&'a self, names: &'a [&'a str]) -> impl fmt::Display + 'a {
        Named { formula: self, names }
    }

    fn strength(&self) -> u8 {
        match self {
            Self::Implies(..) => 1,
            Self::Or(..) => 2,
            Self::Xor(..) => 3,
            Self::And(..) => 4,
            Self::Not(_) => 5,
            Self::Top | Self::Bottom | Self::Var(_) => 6,
        }
    }
}

/// Joins formulas from the left; none is `empty`.
fn join(parts: impl IntoIterator<Item = Formula>, with: fn(Formula, Formula) -> Formula, empty: Formula) -> Formula {
    parts.into_iter().reduce(with).unwrap_or(empty)
}

/// A disjunction, written as an implication where some parts are negated propositions: not l or w is l -> w.
fn disjunction(parts: Vec<Formula>) -> Formula {
    let (negated, others): (Vec<_>, Vec<_>) =
        parts.into_iter().partition(|part| matches!(part, Formula::Not(f) if matches!(**f, Formula::Var(_))));
    let premises = negated.into_iter().filter_map(|part| match part {
        Formula::Not(f) => Some(*f),
        _ => None,
    });
    let premise = join(premises, |a, b| a & b, Formula::Top);
    let conclusion = join(others, |a, b| a | b, Formula::Bottom);
    match (premise, conclusion) {
        (Formula::Top, conclusion) => conclusion,
        (premise, Formula::Bottom) => !premise,
        (premise, conclusion) => premise.implies(conclusion),
    }
}

impl TruthTable {
    /// A readable formula of these worlds: an exclusive or where it is one, else the shorter of the minimal disjunction of conjunctions
    /// and the minimal conjunction of disjunctions (Quine and McCluskey; fewest terms, then fewest literals), with disjunctions that
    /// have negated propositions written as implications. Minimal for up to four propositions; for five and six, as far as a bounded
    /// search finds.
    pub fn formula(self) -> Formula {
        let order: Vec<usize> = (0..self.propositions()).collect();
        self.formula_in(&order)
    }

    /// As [`TruthTable::formula`], with propositions written in the given order.
    pub(crate) fn formula_in(self, order: &[usize]) -> Formula {
        if self.is_empty() || self.is_valid() {
            return if self.is_empty() { Formula::Bottom } else { Formula::Top };
        }
        let rank = |i: usize| order.iter().position(|&o| o == i).unwrap_or(i);
        let literals = |cube: Cube| {
            let mut literals: Vec<_> = cube.literals().map(|(i, negated)| (rank(i), negated, i)).collect();
            literals.sort_unstable();
            literals
        };
        let mut support = self.support();
        support.sort_by_key(|&i| rank(i));
        let odd = join(support.iter().map(|&i| Formula::Var(i)), |a, b| a ^ b, Formula::Bottom);
        let parity = odd.table(self.propositions());
        if support.len() > 1 && (self == parity || self == !parity) {
            return if self == parity { odd } else { !odd };
        }
        let sorted = |table: Self| {
            let mut terms: Vec<_> = table.minimal_cubes().into_iter().map(literals).collect();
            terms.sort_unstable();
            terms
        };
        let (terms, clauses) = (sorted(self), sorted(!self));
        let size = |terms: &[Vec<_>]| terms.iter().map(Vec::len).sum::<usize>();
        let literal = |i, negated| if negated { !Formula::Var(i) } else { Formula::Var(i) };
        if size(&terms) <= size(&clauses) {
            let term = |term: Vec<(_, bool, usize)>| {
                join(term.into_iter().map(|(_, negated, i)| literal(i, negated)), |a, b| a & b, Formula::Top)
            };
            return disjunction(terms.into_iter().map(term).collect());
        }
        // Terms of the negation, negated.
        let clause = |clause: Vec<(_, bool, usize)>| {
            disjunction(clause.into_iter().map(|(_, negated, i)| literal(i, !negated)).collect())
        };
        join(clauses.into_iter().map(clause), |a, b| a & b, Formula::Top)
    }
}

struct Named<'a> {
    formula: &'a Formula,
    names: &'a [&'a str],
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |formula| Named { formula, names: self.names };
        let (left, sign, right) = match self.formula {
            Formula::Top => return out.write_str("true"),
            Formula::Bottom => return out.write_str("false"),
            Formula::Var(i) => {
                return match self.names.get(*i) {
                    Some(name) => out.write_str(name),
                    None => write!(out, "x{i}"),
                };
            }
            Formula::Not(f) if f.strength() < 5 => return write!(out, "not ({})", of(f)),
            Formula::Not(f) => return write!(out, "not {}", of(f)),
            Formula::And(f, g) => (f, "and", g),
            Formula::Or(f, g) => (f, "or", g),
            Formula::Implies(f, g) => (f, "->", g),
            Formula::Xor(f, g) => (f, "xor", g),
        };
        // Parentheses wherever two operators meet, needed or not, but in a chain of one that groups to the left.
        let chain = sign != "->" && left.strength() == self.formula.strength();
        match left.strength() < 5 && !chain {
            true => write!(out, "({})", of(left))?,
            false => write!(out, "{}", of(left))?,
        }
        match right.strength() < 5 {
            true => write!(out, " {sign} ({})", of(right)),
            false => write!(out, " {sign} {}", of(right)),
        }
    }
}

impl fmt::Display for Formula {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        Named { formula: self, names: &SHORT }.fmt(out)
    }
}

impl FromStr for Formula {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let [w, l, w_ref, l_ref] = SHORT;
        Self::parse(text, &[w, l, w_ref, l_ref, "x4", "x5"])
    }
}

impl Not for Formula {
    type Output = Self;
    fn not(self) -> Self {
        Self::Not(self.into())
    }
}

impl BitAnd for Formula {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self::And(self.into(), other.into())
    }
}

impl BitOr for Formula {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self::Or(self.into(), other.into())
    }
}

impl BitXor for Formula {
    type Output = Self;
    fn bitxor(self, other: Self) -> Self {
        Self::Xor(self.into(), other.into())
    }
}

/// Reads text from the left; shared with polynomials.
pub(crate) struct Parser<'a> {
    what: &'static str,
    text: &'a str,
    at: usize,
    names: &'a [&'a str],
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '\''
}

impl<'a> Parser<'a> {
    pub fn new(what: &'static str, text: &'a str, names: &'a [&'a str]) -> Result<Self> {
        if text.len() > MAX_TEXT {
            return Err(Error::value(what, format!("at most {MAX_TEXT} bytes"), text.len()));
        }
        check_propositions(names.len())?;
        let distinct = names.iter().enumerate().all(|(i, name)| !names[..i].contains(name));
        if !distinct || !names.iter().all(|name| name.starts_with(|c: char| c.is_alphabetic() || c == '_')) {
            return Err(Error::value("names of propositions", "distinct words", format!("{names:?}")));
        }
        Ok(Self { what, text, at: 0, names })
    }

    /// What is not yet read, from the next sign that is no space.
    pub fn rest(&mut self) -> &'a str {
        let rest = self.text[self.at..].trim_start();
        self.at = self.text.len() - rest.len();
        rest
    }

    /// Reads a sign or word, if it is the next.
    pub fn take(&mut self, sign: &str) -> bool {
        let rest = self.rest();
        let whole = |tail: &str| !(sign.ends_with(in_word) && tail.starts_with(in_word));
        let found = rest.strip_prefix(sign).is_some_and(whole);
        self.at += if found { sign.len() } else { 0 };
        found
    }

    pub fn take_any(&mut self, signs: &[&str]) -> bool {
        signs.iter().any(|sign| self.take(sign))
    }

    /// The number of the name that is next; the longest, where one begins another.
    pub fn name(&mut self) -> Option<usize> {
        let mut order: Vec<usize> = (0..self.names.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(self.names[i].len()));
        order.into_iter().find(|&i| self.take(self.names[i]))
    }

    pub fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    pub fn wanted(&mut self, expected: &str) -> Error {
        let rest = self.rest();
        let got = match rest.chars().take(16).collect::<String>() {
            end if end.is_empty() => "the end".to_owned(),
            text => format!("'{text}' at byte {}", self.at),
        };
        Error::value(self.what, expected, got)
    }

    pub fn deeper(&mut self, depth: usize) -> Result<usize> {
        if depth >= MAX_DEPTH {
            return Err(self.wanted(&format!("at most {MAX_DEPTH} levels")));
        }
        Ok(depth + 1)
    }

    pub fn end(&mut self) -> Result<()> {
        if self.rest().is_empty() { Ok(()) } else { Err(self.wanted("an operator or the end")) }
    }

    fn formula(&mut self, weakest: u8, depth: usize) -> Result<Formula> {
        let depth = self.deeper(depth)?;
        let mut left = self.operand(depth)?;
        loop {
            // Only operators that bind at least as strongly as the caller wants.
            left = if weakest <= 4 && self.take_any(&["and", "&&", "&", "∧"]) {
                left & self.formula(5, depth)?
            } else if weakest <= 3 && self.take_any(&["xor", "^", "⊕"]) {
                left ^ self.formula(4, depth)?
            } else if weakest <= 2 && self.take_any(&["or", "||", "|", "∨"]) {
                left | self.formula(3, depth)?
            } else if weakest <= 1 && self.take_any(&["->", "=>", "implies", "→"]) {
                left.implies(self.formula(1, depth)?)
            } else {
                return Ok(left);
            }
        }
    }

    fn operand(&mut self, depth: usize) -> Result<Formula> {
        let depth = self.deeper(depth)?;
        if let Some(i) = self.name() {
            return Ok(Formula::Var(i));
        }
        if self.take_any(&["true", "⊤"]) {
            return Ok(Formula::Top);
        }
        if self.take_any(&["false", "⊥"]) {
            return Ok(Formula::Bottom);
        }
        if self.take_any(&["not", "!", "~", "¬"]) {
            return Ok(!self.operand(depth)?);
        }
        if self.take("(") {
            let inner = self.formula(0, depth)?;
            return if self.take(")") { Ok(inner) } else { Err(self.wanted("an operator or ')'")) };
        }
        let names = self.names.join(", ");
        Err(self.wanted(&format!("one of {names}, true, false, not or '('")))
    }
}
