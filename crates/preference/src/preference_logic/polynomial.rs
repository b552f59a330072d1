//! Multilinear polynomials in the probabilities of propositions, and the worlds that they sum over.

use super::formula::Parser;
use super::table::{Cube, TruthTable, check_propositions};
use autodidact_core::{Error, Result};
use std::fmt::Write;

/// Names of the probabilities of a pair's propositions: the policy's of winner and loser, and the reference's.
pub const PROBABILITIES: [&str; 4] = ["p_w", "p_l", "q_w", "q_l"];

/// A polynomial with integer coefficients, of degree at most one in each of `n` probabilities.
///
/// The sum over worlds of which each has a coefficient is of this form, and every polynomial of this form is such a sum: the coefficient
/// of a world is the polynomial's value where the probabilities are the world's truth values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polynomial {
    n: usize,
    /// Of the product of the probabilities in the bit set that is the index.
    coefficients: Vec<i64>,
}

fn overflow() -> Error {
    Error::value("polynomial", "coefficients of 64 bits", "larger ones")
}

impl Polynomial {
    /// A number.
    ///
    /// # Errors
    /// `n` outside 1 to 6.
    pub fn constant(n: usize, value: i64) -> Result<Self> {
        check_propositions(n)?;
        let mut coefficients = vec![0; 1 << n];
        coefficients[0] = value;
        Ok(Self { n, coefficients })
    }

    /// The probability of proposition `i` of `n`.
    ///
    /// # Errors
    /// `n` outside 1 to 6, `i` not below it.
    pub fn probability(n: usize, i: usize) -> Result<Self> {
        let mut p = Self::constant(n, 0)?;
        if i >= n {
            return Err(Error::value("proposition", format!("below {n}"), i));
        }
        p.coefficients[1 << i] = 1;
        Ok(p)
    }

    /// The sum over the worlds of a table: the weighted model count of every formula with that table.
    pub fn of_worlds(table: TruthTable) -> Self {
        let n = table.propositions();
        // The value at a vertex is the sum of the coefficients of all subsets; undone proposition by proposition.
        let mut coefficients: Vec<i64> = (0..1 << n).map(|set| table.contains(row(n, set)).into()).collect();
        for i in 0..n {
            for set in (0..1 << n).filter(|set| set >> i & 1 == 1) {
                coefficients[set] -= coefficients[set & !(1 << i)];
            }
        }
        Self { n, coefficients }
    }

    /// Number of probabilities, n.
    pub fn propositions(&self) -> usize {
        self.n
    }

    /// The sum.
    ///
    /// # Errors
    /// Another number of probabilities, coefficients beyond 64 bits.
    pub fn plus(&self, other: &Self) -> Result<Self> {
        self.check(other)?;
        let sum = |(a, b): (&i64, &i64)| a.checked_add(*b).ok_or_else(overflow);
        let coefficients = self.coefficients.iter().zip(&other.coefficients).map(sum).collect::<Result<_>>()?;
        Ok(Self { n: self.n, coefficients })
    }

    /// The product.
    ///
    /// # Errors
    /// As [`Polynomial::plus`]; factors that share a probability, whose square is not multilinear.
    pub fn times(&self, other: &Self) -> Result<Self> {
        self.check(other)?;
        let mut product = Self::constant(self.n, 0)?;
        let terms = |p: &Self| p.coefficients.clone().into_iter().enumerate().filter(|(_, c)| *c != 0);
        for (a, x) in terms(self) {
            for (b, y) in terms(other) {
                if a & b != 0 {
                    let i = (a & b).trailing_zeros();
                    return Err(Error::value(
                        "polynomial",
                        "a multilinear one",
                        format!("a square of the probability of proposition {i}"),
                    ));
                }
                let term = x.checked_mul(y).ok_or_else(overflow)?;
                let sum = &mut product.coefficients[a | b];
                *sum = sum.checked_add(term).ok_or_else(overflow)?;
            }
        }
        Ok(product)
    }

    fn check(&self, other: &Self) -> Result<()> {
        if self.n == other.n {
            return Ok(());
        }
        Err(Error::value("polynomial", format!("{} probabilities", self.n), other.n))
    }

    /// The coefficients of all `2^n` worlds, in the order of a truth table's rows.
    pub fn world_coefficients(&self) -> Vec<i64> {
        let mut values = self.coefficients.clone();
        for i in 0..self.n {
            for set in (0..1 << self.n).filter(|set| set >> i & 1 == 1) {
                values[set] = values[set].saturating_add(values[set & !(1 << i)]);
            }
        }
        (0..1 << self.n).map(|r| values[row(self.n, r)]).collect()
    }

    /// The worlds that it sums over.
    ///
    /// # Errors
    /// A coefficient other than 0 and 1: the terms are not disjoint, or no probabilities of worlds.
    pub fn worlds(&self) -> Result<TruthTable> {
        let coefficients = self.world_coefficients();
        for (r, c) in coefficients.iter().enumerate() {
            if !(0..=1).contains(c) {
                let world = format!(
                    "{:0width$b}",
                    row(self.n, r).reverse_bits() >> (usize::BITS as usize - self.n),
                    width = self.n
                );
                return Err(Error::value(
                    "polynomial",
                    "disjoint terms: each world with coefficient 0 or 1",
                    format!("{c} times world {world}"),
                ));
            }
        }
        Ok(TruthTable::of(self.n, |r| coefficients[r] == 1))
    }

    /// The value at the given probabilities.
    ///
    /// # Errors
    /// Another number of probabilities.
    pub fn value(&self, probabilities: &[f64]) -> Result<f64> {
        if probabilities.len() != self.n {
            return Err(Error::value("probabilities", self.n.to_string(), probabilities.len()));
        }
        let term = |(set, c): (usize, &i64)| {
            (0..self.n).filter(|i| set >> i & 1 == 1).fold(*c as f64, |product, i| product * probabilities[i])
        };
        Ok(self.coefficients.iter().enumerate().map(term).sum())
    }

    /// Reads a polynomial of named probabilities: `p_w (1 - p_l)`, `p_w*p_l + 1 - p_l`. The first name is proposition 0.
    ///
    /// # Errors
    /// What is no polynomial (or longer or deeper than a formula may be), a square, coefficients beyond 64 bits.
    pub fn parse(text: &str, names: &[&str]) -> Result<Self> {
        let mut parser = Parser::new("polynomial", text, names)?;
        let sum = parser.sum(names.len(), 0)?;
        parser.end()?;
        Ok(sum)
    }

    /// Reads numerator and denominator, `p_w (1 - p_l) / (p_l (1 - p_w))`: all that follows the one slash is the denominator.
    ///
    /// # Errors
    /// As [`Polynomial::parse`]; not one slash.
    pub fn parse_ratio(text: &str, names: &[&str]) -> Result<(Self, Self)> {
        match text.split('/').collect::<Vec<_>>()[..] {
            [above, below] => Ok((Self::parse(above, names)?, Self::parse(below, names)?)),
            ref parts => Err(Error::value("loss", "numerator / denominator", format!("{} slashes", parts.len() - 1))),
        }
    }
}

/// The row of a truth table where the propositions of the bit set are true, and the set of a row.
fn row(n: usize, set: usize) -> usize {
    (0..n).fold(0, |r, i| r | (1 - (set >> i & 1)) << (n - 1 - i))
}

impl TruthTable {
    /// Its weighted model count as a sum of products of probabilities and their complements, with named probabilities:
    /// `p_w p_l + (1 - p_l)`.
    pub fn model_count(self, names: &[&str]) -> String {
        let factor = |(i, negated): (usize, bool)| {
            let name = names.get(i).map_or_else(|| format!("p{i}"), |name| (*name).to_owned());
            if negated { format!("(1 - {name})") } else { name }
        };
        let product = |cube: Cube| cube.literals().map(factor).collect::<Vec<_>>().join(" ");
        let mut text = String::new();
        for cube in self.disjoint_cubes() {
            let term = if cube.len() == 0 { "1".to_owned() } else { product(cube) };
            let _ = write!(text, "{}{term}", if text.is_empty() { "" } else { " + " });
        }
        if text.is_empty() { "0".to_owned() } else { text }
    }
}

impl Parser<'_> {
    fn sum(&mut self, n: usize, depth: usize) -> Result<Polynomial> {
        let depth = self.deeper(depth)?;
        let minus = Polynomial::constant(n, -1)?;
        let mut sum = match self.take("-") {
            true => self.product(n, depth)?.times(&minus)?,
            false => self.product(n, depth)?,
        };
        loop {
            if self.take("+") {
                sum = sum.plus(&self.product(n, depth)?)?;
            } else if self.take_any(&["-", "−"]) {
                sum = sum.plus(&self.product(n, depth)?.times(&minus)?)?;
            } else {
                return Ok(sum);
            }
        }
    }

    fn product(&mut self, n: usize, depth: usize) -> Result<Polynomial> {
        let Some(mut product) = self.factor(n, depth)? else {
            return Err(self.wanted("a probability, a number or '('"));
        };
        loop {
            let sign = self.take_any(&["*", "·"]);
            match self.factor(n, depth)? {
                Some(factor) => product = product.times(&factor)?,
                None if sign => return Err(self.wanted("a factor")),
                None => return Ok(product),
            }
        }
    }

    fn factor(&mut self, n: usize, depth: usize) -> Result<Option<Polynomial>> {
        if let Some(i) = self.name() {
            return Polynomial::probability(n, i).map(Some);
        }
        let rest = self.rest();
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits > 0 {
            let number = rest[..digits].parse().map_err(|_| overflow())?;
            self.advance(digits);
            return Polynomial::constant(n, number).map(Some);
        }
        if !self.take("(") {
            return Ok(None);
        }
        let inner = self.sum(n, depth)?;
        if self.take(")") { Ok(Some(inner)) } else { Err(self.wanted("an operator or ')'")) }
    }
}
