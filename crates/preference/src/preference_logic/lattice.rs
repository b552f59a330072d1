//! All preference losses over given propositions, and the order of entailment between losses.

use super::structure::{Marks, PreferenceStructure};
use autodidact_core::{Error, Result};
use std::fmt::Write;
use std::ops::Range;

/// The iterator of [`landscape`].
#[derive(Debug, Clone)]
pub struct Landscape {
    n: usize,
    indices: Range<u64>,
}

/// All `4^(2^n)` preference structures over `n` propositions, as marks, made one by one: 16, 256, 65,536 and, for `n` = 4, 4.3e9, of
/// which `nth` and `step_by` reach any at once. Degenerate ones are among them ([`Marks::is_degenerate`]).
///
/// # Errors
/// `n` outside 1 to 4.
pub fn landscape(n: usize) -> Result<Landscape> {
    if !(1..=4).contains(&n) {
        return Err(Error::value("propositions", "1 to 4", n));
    }
    Ok(Landscape { n, indices: 0..1 << (2 << n) })
}

impl Iterator for Landscape {
    type Item = Marks;

    fn next(&mut self) -> Option<Marks> {
        self.nth(0)
    }

    fn nth(&mut self, k: usize) -> Option<Marks> {
        self.indices.nth(k).map(|index| Marks::of_index(self.n, index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.indices.size_hint()
    }
}

/// Losses in the order of entailment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lattice {
    /// Pairs (stronger, weaker) with nothing in between: the edges of the Hasse diagram, by index, in order.
    pub edges: Vec<(usize, usize)>,
    /// For each structure the first that is equal to it (mostly itself). Edges join the first ones.
    pub same_as: Vec<usize>,
    /// The length of the longest chain below each, 0 for those that are stronger than none.
    pub heights: Vec<usize>,
}

/// Orders structures: edges lead from the stronger to the weaker ([`PreferenceStructure::stronger_than`]), with those left out that
/// follow from others.
pub fn lattice(structures: &[PreferenceStructure]) -> Lattice {
    let marks: Vec<Marks> = structures.iter().map(PreferenceStructure::marks).collect();
    let equal = |a: Marks, b: Marks| a.stronger_than(b) && b.stronger_than(a);
    let same_as: Vec<usize> =
        (0..marks.len()).map(|j| (0..j).find(|&i| equal(marks[i], marks[j])).unwrap_or(j)).collect();
    let firsts: Vec<usize> = (0..marks.len()).filter(|&i| same_as[i] == i).collect();
    // Those below each, in order; a stronger structure has more of them.
    let mut below: Vec<Vec<usize>> = vec![Vec::new(); marks.len()];
    for &i in &firsts {
        below[i] = firsts.iter().copied().filter(|&j| j != i && marks[i].stronger_than(marks[j])).collect();
    }
    let mut order = firsts.clone();
    order.sort_by_key(|&i| below[i].len());
    let mut heights = vec![0; marks.len()];
    for &i in &order {
        heights[i] = below[i].iter().map(|&j| heights[j] + 1).max().unwrap_or(0);
    }
    for i in 0..marks.len() {
        heights[i] = heights[same_as[i]];
    }
    let between = |i: usize, j: usize| below[i].iter().any(|&k| below[k].binary_search(&j).is_ok());
    let edges = firsts.iter().flat_map(|&i| below[i].iter().map(move |&j| (i, j)));
    Lattice { edges: edges.filter(|&(i, j)| !between(i, j)).collect(), same_as, heights }
}

impl Lattice {
    fn check(&self, names: &[&str]) -> Result<()> {
        if names.len() == self.same_as.len() {
            return Ok(());
        }
        Err(Error::value("names of losses", self.same_as.len().to_string(), names.len()))
    }

    /// Groups of equal structures under one name: index of the first, and the names joined.
    fn nodes<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = (usize, String)> + 'a {
        let members = move |i: usize| (0..names.len()).filter(move |&j| self.same_as[j] == i).map(|j| names[j]);
        (0..names.len()).filter(|&i| self.same_as[i] == i).map(move |i| (i, members(i).collect::<Vec<_>>().join(" = ")))
    }

    /// The Hasse diagram for Graphviz (`dot -Tsvg`), the strongest at the top.
    ///
    /// # Errors
    /// Not one name per structure.
    pub fn to_dot(&self, names: &[&str]) -> Result<String> {
        self.check(names)?;
        let mut text = "digraph losses {\n  rankdir=TB;\n  node [shape=box];\n".to_owned();
        for (i, name) in self.nodes(names) {
            let name = name.replace('\\', "\\\\").replace('"', "\\\"");
            let _ = writeln!(text, "  n{i} [label=\"{name}\"];");
        }
        for (i, j) in &self.edges {
            let _ = writeln!(text, "  n{i} -> n{j};");
        }
        text.push_str("}\n");
        Ok(text)
    }

    /// One line per loss, the highest first: its height, its name and those directly below it.
    ///
    /// # Errors
    /// Not one name per structure.
    pub fn to_text(&self, names: &[&str]) -> Result<String> {
        self.check(names)?;
        let mut nodes: Vec<_> = self.nodes(names).collect();
        nodes.sort_by_key(|(i, _)| std::cmp::Reverse(self.heights[*i]));
        let mut text = String::new();
        for (i, name) in nodes {
            let below: Vec<&str> = self.edges.iter().filter(|(a, _)| *a == i).map(|&(_, b)| names[b]).collect();
            let arrow = if below.is_empty() { "" } else { " => " };
            let _ = writeln!(text, "{} {name}{arrow}{}", self.heights[i], below.join(", "));
        }
        Ok(text)
    }
}
