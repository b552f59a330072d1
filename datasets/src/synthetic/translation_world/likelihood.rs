//! What sentence pairs are worth to those who know the languages.

use super::{Origin, ParallelLanguages, SentencePair};
use autodidact_core::stats::ln_add_exp;

impl ParallelLanguages {
    /// Entropy of an ending in nats: that of each word of a translation from A given its source.
    pub fn ending_entropy(&self) -> f64 {
        let (p, others) = (self.world.noise, (self.world.endings - 1) as f64);
        let term = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
        term(1.0 - p) + others * term(p / others)
    }

    /// `ln p(target | source)` of a pair of its origin, exactly; the end of a sentence is certain. Minus infinity for what cannot be.
    pub fn log_prob(&self, pair: &SentencePair) -> f64 {
        let w = &self.world;
        let (mut before, mut endings) = (w.classes, 0.0);
        for word in &pair.target {
            let agrees = word.ending == self.agreement[before];
            endings += if agrees { 1.0 - w.noise } else { w.noise / (w.endings - 1) as f64 }.ln();
            before = self.class[word.stem];
        }
        let stems: Vec<usize> = pair.target.iter().map(|t| t.stem).collect();
        let impossible = f64::NEG_INFINITY;
        if pair.origin == Origin::Source {
            return if stems == self.translate(&pair.source) { endings } else { impossible };
        }
        let (mut words, mut particles, mut rest) = (vec![], 0.0, stems.as_slice());
        while let [stem, behind @ ..] = rest {
            rest = behind;
            if *stem >= w.words {
                return impossible;
            }
            words.push(*stem);
            if self.with_particle[*stem] {
                let [particle, behind @ ..] = rest else { return impossible };
                rest = behind;
                if *particle < w.words {
                    return impossible;
                }
                particles += self.natural.log_prob(*stem, particle - w.words);
            }
        }
        if self.translate_back(&words) != pair.source {
            return impossible;
        }
        let mut before = w.words;
        let mut natural = 0.0;
        for word in words {
            natural += self.b.log_prob(before, word);
            before = word;
        }
        natural - self.log_source(&pair.source) + particles + endings
    }

    /// `ln p(source)` of a translation of natural B: the sum over all orders of B that are translated into it.
    ///
    /// A sentence of A is cut into single words and swapped pairs. A single word of the second class cannot stand before a single one of the
    /// first: they would have been swapped. By place: the sums over cuts that end there, the last part being a single word or a pair.
    pub(super) fn log_source(&self, source: &[usize]) -> f64 {
        let class = |i: usize| self.class[source[i]];
        let step = |from: usize, to: usize| self.b.log_prob(from, to);
        let start = self.world.words;
        let mut single = vec![f64::NEG_INFINITY; source.len() + 1];
        let mut pair = single.clone();
        for end in 1..=source.len() {
            let word = source[end - 1];
            // The word before the part: the last single one, or the second of a pair in B, which is its first in A.
            let before = |at: usize, swapped: bool| match at {
                0 => start,
                at => source[if swapped { at - 2 } else { at - 1 }],
            };
            let at = end - 1;
            if at == 0 {
                single[end] = step(start, word);
            } else {
                let meets = class(at - 1) == 1 && class(end - 1) == 0;
                let from_single = if meets { f64::NEG_INFINITY } else { single[at] + step(before(at, false), word) };
                let from_pair = if at >= 2 { pair[at] + step(before(at, true), word) } else { f64::NEG_INFINITY };
                single[end] = ln_add_exp(from_single, from_pair);
            }
            if end >= 2 && class(end - 2) == 0 && class(end - 1) == 1 {
                let (at, inside) = (end - 2, step(word, source[end - 2]));
                pair[end] = inside
                    + match at {
                        0 => step(start, word),
                        _ => {
                            let from_pair =
                                if at >= 2 { pair[at] + step(before(at, true), word) } else { f64::NEG_INFINITY };
                            ln_add_exp(single[at] + step(before(at, false), word), from_pair)
                        }
                    };
            }
        }
        ln_add_exp(single[source.len()], pair[source.len()])
    }

    /// The loss per target token, its end included, of a model that knows the languages and which side of the pairs is the natural one:
    /// nothing can be better on these pairs but by luck.
    pub fn best_loss(&self, pairs: &[SentencePair]) -> f64 {
        let tokens: usize = pairs.iter().map(|p| p.target.len() + 1).sum();
        -pairs.iter().map(|p| self.log_prob(p)).sum::<f64>() / tokens as f64
    }
}
