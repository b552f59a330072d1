//! Marks of a truth table's rows, and the preference structures that they stand for.

use super::formula::Formula;
use super::polynomial::Polynomial;
use super::table::{MAX_PROPOSITIONS, TruthTable, check_propositions};
use autodidact_core::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// What a preference loss is up to equivalence: the worlds whose probabilities make the numerator and those that make the denominator.
///
/// Written with one sign per row of the truth table (11, 10, 01, 00 for two propositions): `+` for a world of the numerator alone, `-`
/// of the denominator alone, `*` of both, `.` of neither.
///
/// By convention the propositions are winner and loser (further ones are winners too, as the second copy in DPOP); with four or six
/// propositions the second half is the reference's copies of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Marks {
    winning: TruthTable,
    losing: TruthTable,
}

impl Marks {
    /// From numerator and denominator.
    ///
    /// # Errors
    /// Tables of different numbers of propositions.
    pub fn new(winning: TruthTable, losing: TruthTable) -> Result<Self> {
        if winning.propositions() != losing.propositions() {
            return Err(Error::value(
                "losing form",
                format!("{} propositions", winning.propositions()),
                losing.propositions(),
            ));
        }
        Ok(Self { winning, losing })
    }

    /// The `index`-th of the `4^(2^n)`: its digits to base 4, the last row's lowest.
    pub(crate) fn of_index(n: usize, index: u64) -> Self {
        let digit = |r: usize| index >> (2 * ((1 << n) - 1 - r)) & 3;
        Self { winning: TruthTable::of(n, |r| digit(r) & 1 == 1), losing: TruthTable::of(n, |r| digit(r) & 2 == 2) }
    }

    /// Number of propositions, n.
    pub fn propositions(self) -> usize {
        self.winning.propositions()
    }

    /// The worlds of the numerator, F_t.
    pub fn winning(self) -> TruthTable {
        self.winning
    }

    /// The worlds of the denominator, F_b.
    pub fn losing(self) -> TruthTable {
        self.losing
    }

    /// Whether a world is both in the numerator and in the denominator (`*`).
    pub fn has_additive(self) -> bool {
        !(self.winning & self.losing).is_empty()
    }

    /// Whether numerator or denominator is zero, so that there is no loss.
    pub fn is_degenerate(self) -> bool {
        self.winning.is_empty() || self.losing.is_empty()
    }

    /// Whether its loss is at least as large as that of `other` at all probabilities, as entailment shows: the numerator's worlds are
    /// among the other's, the denominator's comprise the other's. Every structure is at least as strong as itself.
    pub fn stronger_than(self, other: Self) -> bool {
        self.winning.entails(other.winning) && other.losing.entails(self.losing)
    }

    /// The number of the policy's own propositions.
    fn own(self) -> usize {
        let n = self.propositions();
        if n == 4 || n == 6 { n / 2 } else { n }
    }

    /// Whether a higher probability of proposition `i` is to lower the loss.
    fn rises(self, i: usize) -> bool {
        (i % self.own() != 1) == (i < self.own())
    }

    /// Whether the pair itself is ranked right: the world in which every winner is valid and no loser (for the reference the other way
    /// round) is of the numerator alone, and its opposite of the denominator alone.
    pub fn consistent(self) -> bool {
        let n = self.propositions();
        let best = (0..n).filter(|&i| !self.rises(i)).fold(0, |row, i| row | 1 << (n - 1 - i));
        let worst = !best & ((1 << n) - 1);
        let only = |one: TruthTable, other: TruthTable, row| one.contains(row) && !other.contains(row);
        only(self.winning, self.losing, best) && only(self.losing, self.winning, worst)
    }

    /// Whether the log-ratio never falls as the probability of a winner grows, nor rises with that of a loser (for the reference the
    /// other way round), wherever the other probabilities lie. Exact for two propositions; for more, violations below 1e-4 of
    /// the derivative's numerator are not seen.
    pub fn monotone(self) -> bool {
        (0..self.propositions()).all(|i| {
            let given = |table: TruthTable, value| Polynomial::of_worlds(table.given(i, value)).world_coefficients();
            let [n1, n0] = [true, false].map(|value| given(self.winning, value));
            let [d1, d0] = [true, false].map(|value| given(self.losing, value));
            // The derivative of log(N/D) has the sign of N1 D0 - N0 D1, of second degree in each of the others.
            let sign = if self.rises(i) { 1.0 } else { -1.0 };
            let n = self.propositions();
            let others: Vec<usize> = (0..n).filter(|&j| j != i).map(|j| n - 1 - j).collect();
            let mut bernstein = vec![0.0; 3usize.pow(others.len() as u32)];
            let rows = (0..1usize << n).filter(|r| r >> (n - 1 - i) & 1 == 0);
            for (a, b) in rows.clone().flat_map(|a| rows.clone().map(move |b| (a, b))) {
                // A true proposition contributes p, a false one 1 - p: the exponent of p among two such factors.
                let exponents = others.iter().map(|bit| 2 - (a >> bit & 1) - (b >> bit & 1));
                let (index, weight) = exponents
                    .fold((0, 1.0), |(index, weight), e| (3 * index + e, if e == 1 { weight * 0.5 } else { weight }));
                bernstein[index] += sign * weight * (n1[a] * d0[b] - n0[a] * d1[b]) as f64;
            }
            non_negative(&bernstein, others.len(), 0)
        })
    }

    /// The same loss as the policy has it, relative to a reference: with propositions of the reference after the policy's own, the
    /// numerator is F_t and the reference's F_b, the denominator F_b and the reference's F_t; the log-ratio is the policy's less the
    /// reference's.
    ///
    /// # Errors
    /// More than three propositions.
    pub fn with_reference(self) -> Result<Self> {
        if 2 * self.propositions() > MAX_PROPOSITIONS {
            return Err(Error::value("propositions", format!("at most {}", MAX_PROPOSITIONS / 2), self.propositions()));
        }
        Ok(Self { winning: self.winning.product(self.losing), losing: self.losing.product(self.winning) })
    }

    /// The formulas that it stands for, in their shortest form ([`TruthTable::formula`]).
    pub fn structure(self) -> PreferenceStructure {
        let (top, bottom) = (self.winning, self.losing);
        let [core, cond, add] = [!bottom | top, top | bottom, top & bottom].map(|table| self.formula(table));
        PreferenceStructure { core, cond, add, marks: self }
    }

    /// As the paper writes formulas: the reference's propositions first.
    fn formula(self, table: TruthTable) -> Formula {
        let order: Vec<usize> = (self.own()..self.propositions()).chain(0..self.own()).collect();
        table.formula_in(&order)
    }
}

/// Whether a polynomial of second degree in each of `d` variables, given by its Bernstein coefficients on the unit cube, is nowhere
/// negative there: so if no coefficient is, not so if one at a corner is; else both halves decide.
fn non_negative(coefficients: &[f64], d: usize, level: usize) -> bool {
    const TOUCHES: f64 = -1e-4;
    if coefficients.iter().all(|&c| c >= if level == 0 { 0.0 } else { TOUCHES }) {
        return true;
    }
    let corner = |index: usize| (0..d).all(|j| index / 3usize.pow(j as u32) % 3 != 1);
    if coefficients.iter().enumerate().any(|(index, &c)| c < TOUCHES && corner(index)) {
        return false;
    }
    let stride = 3usize.pow((level % d.max(1)) as u32);
    let (mut low, mut high) = (coefficients.to_vec(), coefficients.to_vec());
    for index in (0..coefficients.len()).filter(|index| (index / stride).is_multiple_of(3)) {
        let [a, b, c] = [0, 1, 2].map(|k| coefficients[index + k * stride]);
        let (ab, bc) = ((a + b) / 2.0, (b + c) / 2.0);
        let middle = (ab + bc) / 2.0;
        for (k, (l, h)) in [(a, middle), (ab, bc), (middle, c)].into_iter().enumerate() {
            low[index + k * stride] = l;
            high[index + k * stride] = h;
        }
    }
    non_negative(&low, d, level + 1) && non_negative(&high, d, level + 1)
}

impl fmt::Display for Marks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = |r| match (self.winning.contains(r), self.losing.contains(r)) {
            (true, true) => '*',
            (true, false) => '+',
            (false, true) => '-',
            (false, false) => '.',
        };
        out.pad(&(0..1 << self.propositions()).map(sign).collect::<String>())
    }
}

impl FromStr for Marks {
    type Err = Error;

    /// # Errors
    /// Another sign than `*`, `+`, `-` and `.`, another number than 2, 4, 8, 16, 32 or 64 of them.
    fn from_str(text: &str) -> Result<Self> {
        let signs: Vec<char> = text.chars().collect();
        let rows = signs.len();
        if let Some(other) = signs.iter().find(|c| !"*+-.".contains(**c)) {
            return Err(Error::value("marks", "signs of *+-.", other));
        }
        if !rows.is_power_of_two() || check_propositions(rows.ilog2() as usize).is_err() {
            return Err(Error::value(
                "marks",
                "one sign for each of 2, 4, 8, 16, 32 or 64 rows",
                format!("{rows} signs"),
            ));
        }
        let n = rows.ilog2() as usize;
        let with = |sign| TruthTable::of(n, |r| signs[r] == sign || signs[r] == '*');
        Ok(Self { winning: with('+'), losing: with('-') })
    }
}

/// A preference structure: the core semantics P, the conditioning constraint P_C and the additive condition P_A, which entails P_C.
///
/// It stands for the winning form `(P or P_A) and P_C` and the losing form `(not P or P_A) and P_C`, of whose weighted model counts the
/// loss is a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreferenceStructure {
    core: Formula,
    cond: Formula,
    add: Formula,
    marks: Marks,
}

impl PreferenceStructure {
    /// From formulas over `n` propositions, kept as they are.
    ///
    /// # Errors
    /// `n` outside 1 to 6, propositions that are not among them, an additive condition that does not entail the constraint.
    pub fn new(core: Formula, cond: Formula, add: Formula, n: usize) -> Result<Self> {
        let [p, c, a] = [core.truth_table(n)?, cond.truth_table(n)?, add.truth_table(n)?];
        if !a.entails(c) {
            return Err(Error::value("additive condition", format!("a formula that entails {cond}"), &add));
        }
        let marks = Marks { winning: (p | a) & c, losing: (!p | a) & c };
        Ok(Self { core, cond, add, marks })
    }

    /// From [`Marks`] as they are written: `*+-.` is CPO.
    ///
    /// # Errors
    /// Those of reading marks.
    pub fn from_marks(marks: &str) -> Result<Self> {
        Ok(marks.parse::<Marks>()?.structure())
    }

    /// The core semantics, P.
    pub fn core(&self) -> &Formula {
        &self.core
    }

    /// The conditioning constraint, P_C.
    pub fn cond(&self) -> &Formula {
        &self.cond
    }

    /// The additive condition, P_A.
    pub fn add(&self) -> &Formula {
        &self.add
    }

    /// Its worlds; two structures have the same loss just if these are equal.
    pub fn marks(&self) -> Marks {
        self.marks
    }

    /// Number of propositions, n.
    pub fn propositions(&self) -> usize {
        self.marks.propositions()
    }

    /// The winning form, `(P or P_A) and P_C`.
    pub fn winning(&self) -> Formula {
        self.marks.formula(self.marks.winning)
    }

    /// The losing form, `(not P or P_A) and P_C`.
    pub fn losing(&self) -> Formula {
        self.marks.formula(self.marks.losing)
    }

    /// As [`Marks::stronger_than`].
    pub fn stronger_than(&self, other: &Self) -> bool {
        self.marks.stronger_than(other.marks)
    }

    /// As [`Marks::with_reference`].
    ///
    /// # Errors
    /// More than three propositions.
    pub fn with_reference(&self) -> Result<Self> {
        Ok(self.marks.with_reference()?.structure())
    }

    /// Numerator and denominator of the loss.
    pub fn ratio(&self) -> (Polynomial, Polynomial) {
        (Polynomial::of_worlds(self.marks.winning), Polynomial::of_worlds(self.marks.losing))
    }

    /// The three formulas with named propositions, in one line.
    pub fn describe(&self, names: &[&str]) -> String {
        let [p, c, a] = [&self.core, &self.cond, &self.add].map(|f| f.with_names(names).to_string());
        format!("P = {p}; P_C = {c}; P_A = {a}")
    }
}

impl fmt::Display for PreferenceStructure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.describe(&super::formula::SHORT))
    }
}

/// The preference structure of the loss whose core is `log(numerator / denominator)`.
///
/// # Errors
/// Polynomials of different numbers of probabilities, terms that are not disjoint ([`Polynomial::worlds`]), one that is zero.
pub fn decompile(numerator: &Polynomial, denominator: &Polynomial) -> Result<PreferenceStructure> {
    let marks = Marks::new(numerator.worlds()?, denominator.worlds()?)?;
    for (what, table) in [("numerator", marks.winning), ("denominator", marks.losing)] {
        if table.is_empty() {
            return Err(Error::value(what, "a polynomial other than zero", 0));
        }
    }
    Ok(marks.structure())
}
