//! Truth tables as bit sets, and the cubes (conjunctions of literals) that cover them.

use autodidact_core::{Error, Result};
use std::collections::HashMap;
use std::ops::{BitAnd, BitOr, BitXor, Not};

/// Most propositions of a truth table: three and their reference copies.
pub const MAX_PROPOSITIONS: usize = 6;

/// The worlds that satisfy a formula over `n` propositions, 1 to [`MAX_PROPOSITIONS`].
///
/// Worlds are numbered as rows of a truth table are written: for two propositions 11, 10, 01, 00, so that row `r` makes proposition `i`
/// true where bit `n - 1 - i` of `r` is 0. Tables over fewer propositions are read as tables over more that do not mention the others
/// wherever two meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TruthTable {
    n: u8,
    bits: u64,
}

/// A conjunction of literals: the propositions in `mask` have the truth values in `values` (bit `i` for proposition `i`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Cube {
    pub mask: u8,
    pub values: u8,
}

impl Cube {
    /// Its literals: proposition and whether it is negated.
    pub fn literals(self) -> impl Iterator<Item = (usize, bool)> {
        (0..MAX_PROPOSITIONS).filter(move |i| self.mask >> i & 1 == 1).map(move |i| (i, self.values >> i & 1 == 0))
    }

    pub fn len(self) -> u32 {
        self.mask.count_ones()
    }

    fn with(self, i: usize, value: bool) -> Self {
        Self { mask: self.mask | 1 << i, values: self.values | u8::from(value) << i }
    }
}

/// Checks a number of propositions.
pub(crate) fn check_propositions(n: usize) -> Result<()> {
    if (1..=MAX_PROPOSITIONS).contains(&n) {
        return Ok(());
    }
    Err(Error::value("propositions", format!("1 to {MAX_PROPOSITIONS}"), n))
}

impl TruthTable {
    /// From bits: bit `r` says whether row `r` satisfies.
    ///
    /// # Errors
    /// A number of propositions outside 1 to 6, bits beyond the `2^n` rows.
    pub fn new(n: usize, bits: u64) -> Result<Self> {
        check_propositions(n)?;
        let table = Self { n: n as u8, bits };
        if bits & !table.mask() != 0 {
            return Err(Error::value(
                "truth table",
                format!("bits of {} rows", table.rows_in_all()),
                format!("{bits:#x}"),
            ));
        }
        Ok(table)
    }

    /// Of the rows for which `satisfied` holds; `n` is in range.
    pub(crate) fn of(n: usize, satisfied: impl Fn(usize) -> bool) -> Self {
        let bits = (0..1 << n).filter(|&r| satisfied(r)).fold(0, |bits, r| bits | 1u64 << r);
        Self { n: n as u8, bits }
    }

    /// Of proposition `i`; `n` is in range.
    pub(crate) fn of_proposition(n: usize, i: usize) -> Self {
        Self::of(n, |r| r >> (n - 1 - i) & 1 == 0)
    }

    pub(crate) fn constant(n: usize, value: bool) -> Self {
        Self::of(n, |_| value)
    }

    fn of_cube(n: usize, cube: Cube) -> Self {
        cube.literals().fold(Self::constant(n, true), |all, (i, negated)| {
            let literal = Self::of_proposition(n, i);
            all & if negated { !literal } else { literal }
        })
    }

    fn rows_in_all(self) -> u32 {
        1 << self.n
    }

    fn mask(self) -> u64 {
        u64::MAX >> (64 - self.rows_in_all())
    }

    /// Number of propositions, n.
    pub fn propositions(self) -> usize {
        self.n.into()
    }

    /// Bit `r` says whether row `r` satisfies.
    pub fn bits(self) -> u64 {
        self.bits
    }

    /// Whether a row satisfies.
    pub fn contains(self, row: usize) -> bool {
        row < 64 && self.bits >> row & 1 == 1
    }

    /// The satisfying rows, in order.
    pub fn rows(self) -> impl Iterator<Item = usize> {
        (0..64).filter(move |&r| self.contains(r))
    }

    /// Number of satisfying rows.
    pub fn len(self) -> usize {
        self.bits.count_ones() as usize
    }

    /// Whether no world satisfies.
    pub fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// Whether every world satisfies.
    pub fn is_valid(self) -> bool {
        self.bits == self.mask()
    }

    /// Whether every world of this table is one of `other`.
    pub fn entails(self, other: Self) -> bool {
        (self & !other).is_empty()
    }

    /// Whether both have the same worlds.
    pub fn equivalent(self, other: Self) -> bool {
        (self ^ other).is_empty()
    }

    /// The same set as a table over `n` propositions, of which it mentions the first; `n` is not below its own.
    fn widened(self, n: usize) -> Self {
        Self::of(n, |r| self.contains(r >> (n - self.propositions())))
    }

    /// Worlds of which the first propositions are one of this table and the others one of `other`; both together are at most six.
    pub(crate) fn product(self, other: Self) -> Self {
        let low = other.propositions();
        Self::of(self.propositions() + low, |r| self.contains(r >> low) && other.contains(r & ((1 << low) - 1)))
    }

    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        let n = self.propositions().max(other.propositions());
        let (a, b) = (self.widened(n), other.widened(n));
        Self { n: n as u8, bits: f(a.bits, b.bits) & a.mask() }
    }

    /// The table with proposition `i` set: it no longer depends on it.
    pub(crate) fn given(self, i: usize, value: bool) -> Self {
        let bit = 1 << (self.propositions() - 1 - i);
        Self::of(self.propositions(), |r| self.contains(if value { r & !bit } else { r | bit }))
    }

    /// The propositions that it depends on.
    pub(crate) fn support(self) -> Vec<usize> {
        (0..self.propositions()).filter(|&i| self.given(i, true) != self.given(i, false)).collect()
    }

    /// Disjoint cubes whose union it is: the paths of its smallest decision tree, so that a sum over them has few terms.
    pub(crate) fn disjoint_cubes(self) -> Vec<Cube> {
        let mut best = HashMap::new();
        self.decide(&mut best);
        let mut cubes = Vec::new();
        let mut open = vec![(self, Cube::default())];
        while let Some((table, cube)) = open.pop() {
            match best.get(&table.bits) {
                Some(&(_, Some(i))) => {
                    open.extend([false, true].map(|value| (table.given(i, value), cube.with(i, value))));
                }
                _ if table.is_valid() => cubes.push(cube),
                _ => {}
            }
        }
        cubes
    }

    /// Paths and literals of the smallest decision tree, and the proposition at its root.
    fn decide(self, best: &mut HashMap<u64, ((u32, u32), Option<usize>)>) -> (u32, u32) {
        if let Some(&(cost, _)) = best.get(&self.bits) {
            return cost;
        }
        let leaf = ((u32::from(!self.is_empty()), 0), None);
        let found = (self.support().into_iter())
            .map(|i| {
                let [(a, x), (b, y)] = [true, false].map(|value| self.given(i, value).decide(best));
                ((a + b, x + y + a + b), Some(i))
            })
            .min()
            .unwrap_or(leaf);
        best.insert(self.bits, found);
        found.0
    }

    /// Fewest cubes whose union it is, of those with the fewest literals: prime implicants as Quine and McCluskey find them, and the
    /// least cover by branch and bound. Exact for up to four propositions; beyond them the search stops after [`NODES`] branches.
    pub(crate) fn minimal_cubes(self) -> Vec<Cube> {
        let primes = self.primes();
        let mut cover = Cover { primes: &primes, best: None, nodes: 0 };
        cover.search(self.bits, &mut Vec::new(), 0);
        cover.best.map(|(_, chosen)| chosen.into_iter().map(|k| primes[k].0).collect()).unwrap_or_default()
    }

    /// Implicants that no longer imply it with a literal less, each with its rows; those with few literals first.
    fn primes(self) -> Vec<(Cube, u64)> {
        let n = self.propositions();
        let implicant = |cube: Cube| Self::of_cube(n, cube).entails(self);
        let mut primes = Vec::new();
        for mask in 0..1u8 << n {
            for values in (0..=mask).filter(|v| v & !mask == 0) {
                let cube = Cube { mask, values };
                let shorter = |(i, _): (usize, bool)| Cube { mask: mask & !(1 << i), values: values & !(1 << i) };
                if implicant(cube) && !cube.literals().map(shorter).any(implicant) {
                    primes.push((cube, Self::of_cube(n, cube).bits));
                }
            }
        }
        primes.sort_by_key(|(cube, _)| cube.len());
        primes
    }
}

/// Branches after which the search for a least cover takes the best one so far. Four propositions need at most a few hundred.
const NODES: usize = 200_000;

struct Cover<'a> {
    primes: &'a [(Cube, u64)],
    /// Cubes and literals, and the primes chosen.
    best: Option<((usize, u32), Vec<usize>)>,
    nodes: usize,
}

impl Cover<'_> {
    fn search(&mut self, open: u64, chosen: &mut Vec<usize>, literals: u32) {
        self.nodes += 1;
        if open == 0 {
            let cost = (chosen.len(), literals);
            if self.best.as_ref().is_none_or(|(best, _)| cost < *best) {
                self.best = Some((cost, chosen.clone()));
            }
            return;
        }
        // Rows of which no two are in one prime need a prime each.
        let (mut left, mut bound, mut fewest) = (open, (chosen.len(), literals), (usize::MAX, 0));
        for row in (0..64).filter(|r| open >> r & 1 == 1) {
            let of_row = || self.primes.iter().filter(|(_, rows)| rows >> row & 1 == 1);
            fewest = fewest.min((of_row().count(), row));
            if left >> row & 1 == 1 {
                left &= !of_row().fold(0, |all, (_, rows)| all | rows);
                bound = (bound.0 + 1, bound.1 + of_row().map(|(cube, _)| cube.len()).min().unwrap_or(0));
            }
        }
        if self.best.as_ref().is_some_and(|(best, _)| bound >= *best || self.nodes > NODES) {
            return;
        }
        let mut options: Vec<usize> =
            (0..self.primes.len()).filter(|&k| self.primes[k].1 >> fewest.1 & 1 == 1).collect();
        options.sort_by_key(|&k| std::cmp::Reverse((self.primes[k].1 & open).count_ones()));
        for k in options {
            chosen.push(k);
            self.search(open & !self.primes[k].1, chosen, literals + self.primes[k].0.len());
            chosen.pop();
        }
    }
}

impl Not for TruthTable {
    type Output = Self;
    fn not(self) -> Self {
        Self { bits: !self.bits & self.mask(), ..self }
    }
}

impl BitAnd for TruthTable {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }
}

impl BitOr for TruthTable {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b)
    }
}

impl BitXor for TruthTable {
    type Output = Self;
    fn bitxor(self, other: Self) -> Self {
        self.zip(other, |a, b| a ^ b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cubes_cover_exactly_and_disjointly() {
        for n in 1..=3 {
            for bits in 0..1u64 << (1 << n) {
                let table = TruthTable::new(n, bits).unwrap();
                let union = |cubes: &[Cube]| {
                    cubes.iter().fold(TruthTable::constant(n, false), |all, &c| all | TruthTable::of_cube(n, c))
                };
                let disjoint = table.disjoint_cubes();
                assert_eq!(union(&disjoint), table);
                assert_eq!(disjoint.iter().map(|&c| TruthTable::of_cube(n, c).len()).sum::<usize>(), table.len());
                assert_eq!(union(&table.minimal_cubes()), table);
            }
        }
    }

    #[test]
    fn least_covers_are_those_of_an_exhaustive_search() {
        for (n, step) in [(2, 1), (3, 1), (4, 61)] {
            let cubes: Vec<Cube> = (0..1u8 << n)
                .flat_map(|mask| (0..=mask).filter(move |v| v & !mask == 0).map(move |values| Cube { mask, values }))
                .collect();
            // The cheapest way to every union of cubes, by adding one cube at a time until nothing gets cheaper.
            let mut least = vec![(usize::MAX, 0); 1 << (1 << n)];
            least[0] = (0, 0);
            let steps: Vec<_> = cubes.iter().map(|&c| (TruthTable::of_cube(n, c).bits as usize, c.len())).collect();
            let mut changed = true;
            while std::mem::take(&mut changed) {
                for from in (0..least.len()).filter(|&from| least[from].0 != usize::MAX).collect::<Vec<_>>() {
                    for &(rows, literals) in &steps {
                        let cost = (least[from].0 + 1, least[from].1 + literals);
                        if cost < least[from | rows] {
                            least[from | rows] = cost;
                            changed = true;
                        }
                    }
                }
            }
            for bits in (0..least.len()).step_by(step) {
                let found = TruthTable::new(n, bits as u64).unwrap().minimal_cubes();
                let cost = (found.len(), found.iter().map(|c| c.len()).sum());
                assert_eq!(cost, least[bits], "{n} propositions, {bits:#x}");
            }
        }
    }

    #[test]
    fn six_propositions_stay_quick_and_right() {
        // Two to four of six: the hardest kind, with 90 prime implicants.
        let middle = TruthTable::of(6, |r| (2..=4).contains(&r.count_ones()));
        let cubes = middle.minimal_cubes();
        assert_eq!(
            cubes.iter().fold(TruthTable::constant(6, false), |all, &c| all | TruthTable::of_cube(6, c)),
            middle
        );
        assert!(cubes.len() <= 16, "{}", cubes.len());
        let parity = TruthTable::of(6, |r| r.count_ones() % 2 == 1);
        assert_eq!(parity.minimal_cubes().len(), 32);
    }
}
