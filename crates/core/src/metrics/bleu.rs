//! BLEU of translations, as sacrebleu computes it.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::hash::Hash;

/// Longest n-grams that are compared.
const ORDER: usize = 4;

/// What stands for the precision of an n-gram length of which no n-gram matched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub enum Smoothing {
    /// Zero, and so is the score.
    None,
    /// `value / n-grams`; sacrebleu's default value is 0.1.
    Floor {
        /// Matches that are pretended.
        value: f64,
    },
    /// `value` more matches and n-grams of every length but one; sacrebleu's default value is 1.
    Add {
        /// What is added.
        value: f64,
    },
    /// `1 / (2^k n-grams)` for the `k`-th such length (NIST's mteval).
    #[default]
    Exponential,
}

/// Counts of a corpus from which BLEU follows (Papineni et al., 2002): clipped matches and n-grams up to length four, and lengths.
///
/// `BLEU = 100 BP exp(mean_n ln p_n)` with the precisions `p_n = matches_n / ngrams_n` and the brevity penalty
/// `BP = min(1, exp(1 - r/c))`, where `c` is the length of all hypotheses and `r` that of the references closest to them in length.
///
/// ```
/// use autodidact_core::metrics::{BleuCounts, Smoothing};
/// let mut counts = BleuCounts::default();
/// counts.add(&["the", "cat", "sat", "on", "a", "mat"], &[&["the", "cat", "sat", "on", "the", "mat"]]);
/// let bleu = counts.bleu(Smoothing::Exponential).unwrap();
/// // 5 of 6 words, 3 of 5 pairs, 2 of 4 triples, 1 of 3 quadruples.
/// let expected = 100.0 * (5.0 / 6.0 * 3.0 / 5.0 * 2.0 / 4.0 * 1.0 / 3.0f64).powf(0.25);
/// assert!((bleu.score - expected).abs() < 1e-9 && bleu.brevity_penalty == 1.0);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BleuCounts {
    /// N-grams of the hypotheses that are in a reference, each at most as often as there, by length.
    pub matches: [u64; ORDER],
    /// N-grams of the hypotheses, by length.
    pub ngrams: [u64; ORDER],
    /// Words of the hypotheses.
    pub hypothesis_length: u64,
    /// Words of the references closest in length, the shorter of two that are as close.
    pub reference_length: u64,
}

/// A BLEU score and what it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bleu {
    /// In `[0, 100]`.
    pub score: f64,
    /// Precisions by length of the n-grams, smoothed, in percent.
    pub precisions: [f64; ORDER],
    /// In `[0, 1]`.
    pub brevity_penalty: f64,
}

impl BleuCounts {
    /// Adds a sentence: the hypothesis's words and those of its references.
    pub fn add<T: Hash + Eq>(&mut self, hypothesis: &[T], references: &[&[T]]) {
        let length = hypothesis.len();
        self.hypothesis_length += length as u64;
        let closest = references.iter().map(|r| r.len()).min_by_key(|&r| (r.abs_diff(length), r));
        self.reference_length += closest.unwrap_or(0) as u64;
        for n in 1..=ORDER {
            let found = count(hypothesis, n);
            self.ngrams[n - 1] += length.saturating_sub(n - 1) as u64;
            let known: Vec<HashMap<&[T], u64>> = references.iter().map(|r| count(r, n)).collect();
            for (ngram, times) in found {
                let most = known.iter().filter_map(|k| k.get(ngram)).max().copied().unwrap_or(0);
                self.matches[n - 1] += times.min(most);
            }
        }
    }

    /// The score of all that was added. Lengths that no hypothesis reaches give no n-gram and a score of 0; so does a corpus without a
    /// single match.
    ///
    /// # Errors
    /// A smoothing value that is negative or not finite.
    pub fn bleu(&self, smoothing: Smoothing) -> Result<Bleu> {
        if let Smoothing::Floor { value } | Smoothing::Add { value } = smoothing {
            crate::error::check_range("smoothing value", value, 0.0..)?;
        }
        let (c, r) = (self.hypothesis_length as f64, self.reference_length as f64);
        let brevity_penalty = match c {
            0.0 => 0.0,
            c if c < r => (1.0 - r / c).exp(),
            _ => 1.0,
        };
        let mut precisions = [0.0; ORDER];
        if self.matches.iter().all(|&m| m == 0) {
            return Ok(Bleu { score: 0.0, precisions, brevity_penalty });
        }
        let mut halvings = 1.0;
        for (n, precision) in precisions.iter_mut().enumerate() {
            let (mut matches, mut ngrams) = (self.matches[n] as f64, self.ngrams[n] as f64);
            if let (Smoothing::Add { value }, 1..) = (smoothing, n) {
                (matches, ngrams) = (matches + value, ngrams + value);
            }
            if ngrams == 0.0 {
                break;
            }
            if matches == 0.0 {
                matches = match smoothing {
                    Smoothing::Floor { value } => value,
                    Smoothing::Exponential => {
                        halvings *= 2.0;
                        1.0 / halvings
                    }
                    _ => 0.0,
                };
            }
            *precision = 100.0 * matches / ngrams;
        }
        let mean = precisions.iter().map(|p| p.ln()).sum::<f64>() / ORDER as f64;
        Ok(Bleu { score: brevity_penalty * mean.exp(), precisions, brevity_penalty })
    }
}

fn count<T: Hash + Eq>(words: &[T], n: usize) -> HashMap<&[T], u64> {
    let mut counts = HashMap::new();
    words.windows(n).for_each(|ngram| *counts.entry(ngram).or_default() += 1);
    counts
}

/// BLEU of a corpus of sentences with one reference each, tokenised by [`tokenize_13a`], with exponential smoothing: what
/// `sacrebleu.corpus_bleu` gives by default.
///
/// ```
/// use autodidact_core::metrics::corpus_bleu;
/// let bleu = corpus_bleu(&["The dog barks, loudly."], &["The dog barks loudly."]).unwrap();
/// assert!((bleu.score - 37.9918).abs() < 1e-4);
/// ```
///
/// # Errors
/// No sentences, or another number of references.
pub fn corpus_bleu<H: AsRef<str>, R: AsRef<str>>(hypotheses: &[H], references: &[R]) -> Result<Bleu> {
    if hypotheses.is_empty() || hypotheses.len() != references.len() {
        let expected = format!("{} (at least 1), one for each hypothesis", hypotheses.len());
        return Err(Error::value("references", expected, references.len()));
    }
    let mut counts = BleuCounts::default();
    for (h, r) in hypotheses.iter().zip(references) {
        counts.add(&tokenize_13a(h.as_ref()), &[&tokenize_13a(r.as_ref())]);
    }
    counts.bleu(Smoothing::Exponential)
}

/// The words of a sentence as NIST's mteval-v13a separates them: most ASCII punctuation stands alone, full stops and commas unless they are
/// within numbers, hyphens only behind digits; case is kept.
///
/// ```
/// use autodidact_core::metrics::tokenize_13a;
/// let words = tokenize_13a("It's \"1,000.5\" well-known, e.g. 3-4 &amp; so.");
/// let expected = ["It's", "\"", "1,000.5", "\"", "well-known", ",", "e", ".", "g", ".", "3", "-", "4", "&", "so", "."];
/// assert_eq!(words, expected);
/// ```
pub fn tokenize_13a(sentence: &str) -> Vec<String> {
    let mut text = sentence.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    for (escape, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        text = text.replace(escape, character);
    }
    // Spaces at both ends, so that every character has neighbours.
    let mut characters = vec![' '];
    for c in text.chars() {
        match c {
            '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/' => characters.extend([' ', c, ' ']),
            c => characters.push(c),
        }
    }
    characters.push(' ');
    let digit = |c: char| c.is_ascii_digit();
    let stop = |c: char| c == '.' || c == ',';
    let apart = pairs(&characters, |a, b| !digit(a) && stop(b), |a, b| vec![a, ' ', b, ' ']);
    let apart = pairs(&apart, |a, b| stop(a) && !digit(b), |a, b| vec![' ', a, ' ', b]);
    let apart = pairs(&apart, |a, b| digit(a) && b == '-', |a, b| vec![a, ' ', b, ' ']);
    let text: String = apart.into_iter().collect();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Replaces pairs of neighbours from the left; a character is part of one pair at most.
fn pairs(characters: &[char], is: impl Fn(char, char) -> bool, put: impl Fn(char, char) -> Vec<char>) -> Vec<char> {
    let mut out = Vec::with_capacity(characters.len() * 2);
    let mut i = 0;
    while i < characters.len() {
        match characters.get(i + 1) {
            Some(&next) if is(characters[i], next) => {
                out.extend(put(characters[i], next));
                i += 2;
            }
            _ => {
                out.push(characters[i]);
                i += 1;
            }
        }
    }
    out
}
