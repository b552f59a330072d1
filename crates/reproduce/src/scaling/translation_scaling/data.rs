//! Batches of sentence pairs: from the generated languages, or from a real text by words.

use super::{Config, TESTS, WORLD};
use crate::experiment::Plan;
use anyhow::{Result, ensure};
use autodidact_core::metrics::tokenize_13a;
use autodidact_core::seed::{Rng, rng};
use autodidact_core::text::pad;
use autodidact_datasets::load_parallel;
use autodidact_datasets::synthetic::{Origin, PairBatch, ParallelLanguages, SentencePair, TranslationWorld};
use autodidact_datasets::text::ParallelText;
use rand::RngExt;
use std::collections::HashMap;
use tch::Device;

/// Words of the natural side of a generated sentence.
const LENGTHS: std::ops::RangeInclusive<usize> = 6..=12;
/// Tokens of the longest sentence of a real text; what is behind them is left out.
const LONGEST: usize = 60;
/// Sentences that are tested at a time.
const PART: usize = 500;

/// Test sentences with what is known of them.
pub struct TestSet {
    pub name: &'static str,
    pub parts: Vec<Part>,
    /// The loss of a model that knows the languages and which side is the natural one (which those that are trained are not told).
    pub floor: Option<f64>,
}

/// Some test sentences.
pub struct Part {
    pub batch: PairBatch,
    /// Tokens of the targets; words that the vocabulary lacks have numbers that no model gives.
    pub references: Vec<Vec<i64>>,
}

/// Where sentences come from.
pub enum Corpus {
    World(Box<ParallelLanguages>),
    Text(Box<Text>),
}

/// A real text as tokens.
pub struct Text {
    source: Words,
    target: Words,
    train: Vec<(Vec<i64>, Vec<i64>)>,
    rest: [Vec<(String, String)>; 2],
}

/// The most frequent words of a language.
struct Words {
    index: HashMap<String, i64>,
    size: i64,
}

impl Words {
    /// Padding, start, end, and what is not known.
    const SPECIAL: i64 = 4;
    const UNKNOWN: i64 = 3;

    fn new(sentences: &[Vec<String>], most: usize) -> Self {
        let mut counts = HashMap::<&str, usize>::new();
        sentences.iter().flatten().for_each(|w| *counts.entry(w).or_default() += 1);
        let mut words: Vec<(&str, usize)> = counts.into_iter().collect();
        words.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        words.truncate(most);
        let index: HashMap<String, i64> =
            words.iter().enumerate().map(|(i, (w, _))| ((*w).to_owned(), i as i64 + Self::SPECIAL)).collect();
        Self { size: words.len() as i64 + Self::SPECIAL, index }
    }

    fn encode(&self, words: &[String]) -> Vec<i64> {
        let token = |w: &String| self.index.get(w).copied().unwrap_or(Self::UNKNOWN);
        words.iter().take(LONGEST).map(token).collect()
    }

    /// Tokens for comparison: unknown words are like nothing else.
    fn reference(&self, words: &[String]) -> Vec<i64> {
        let token = |w: &String| self.index.get(w).copied().unwrap_or(self.size);
        words.iter().map(token).collect()
    }
}

fn words(sentence: &str) -> Vec<String> {
    tokenize_13a(&sentence.to_lowercase())
}

impl Corpus {
    pub fn load(plan: &Plan, c: &Config) -> Result<Self> {
        if plan.dataset == WORLD {
            return Ok(Self::World(Box::new(TranslationWorld::default().build()?)));
        }
        let ParallelText { train, validation, test } = load_parallel(&plan.dataset, plan.data_dir.as_deref())?;
        let (a, b): (Vec<_>, Vec<_>) = train.iter().map(|(a, b)| (words(a), words(b))).unzip();
        let (source, target) = (Words::new(&a, c.vocabulary), Words::new(&b, c.vocabulary));
        let pairs = a.iter().zip(&b).map(|(a, b)| (source.encode(a), target.encode(b)));
        let train: Vec<_> = pairs.filter(|(a, b)| !a.is_empty() && !b.is_empty()).collect();
        ensure!(!train.is_empty(), "{} has no sentences to train on", plan.dataset);
        Ok(Self::Text(Box::new(Text { source, target, train, rest: [validation, test] })))
    }

    pub fn vocabularies(&self) -> (i64, i64) {
        match self {
            Self::World(world) => world.vocabularies(),
            Self::Text(text) => (text.source.size, text.target.size),
        }
    }

    /// A batch for training. Generated sentences of a batch have one length, drawn anew for each, so that sources have no padding; half of
    /// them are natural on the source side, half on the target side.
    pub fn batch(&self, size: usize, rng: &mut Rng, device: Device) -> autodidact_core::Result<PairBatch> {
        match self {
            Self::World(world) => {
                let length = rng.random_range(LENGTHS);
                let origin = |i: usize| if i.is_multiple_of(2) { Origin::Source } else { Origin::Target };
                let pairs: Vec<SentencePair> = (0..size).map(|i| world.pair(origin(i), length, rng)).collect();
                world.batch(&pairs, device)
            }
            Self::Text(text) => {
                // Neighbours in length of a drawn sentence would be less to pad; plain draws are simpler, and short sentences cheap.
                let rows: Vec<usize> = (0..size).map(|_| rng.random_range(0..text.train.len())).collect();
                let pairs: Vec<_> = rows.iter().map(|&i| (&text.train[i].0[..], &text.train[i].1[..])).collect();
                padded(&pairs, device)
            }
        }
    }

    /// Validation sentences, where there are any, and test sets.
    pub fn held_out(&self, c: &Config, device: Device) -> Result<(Option<TestSet>, Vec<TestSet>)> {
        match self {
            Self::World(world) => {
                let set = |(name, origin)| {
                    let draw = &mut rng(0, &["translation-scaling", "test", name]);
                    let lengths = LENGTHS.count();
                    let (mut parts, mut all) = (vec![], vec![]);
                    for (i, length) in LENGTHS.enumerate() {
                        let count = c.sentences / lengths + usize::from(i < c.sentences % lengths);
                        let pairs: Vec<SentencePair> = (0..count).map(|_| world.pair(origin, length, draw)).collect();
                        if pairs.is_empty() {
                            continue;
                        }
                        let tokens = |p: &SentencePair| p.target.iter().map(|w| world.token(*w)).collect();
                        let references = pairs.iter().map(tokens).collect();
                        parts.push(Part { batch: world.batch(&pairs, device)?, references });
                        all.extend(pairs);
                    }
                    Ok(TestSet { name, parts, floor: Some(world.best_loss(&all)) })
                };
                let sets = TESTS.into_iter().zip([Origin::Source, Origin::Target]).map(set);
                Ok((None, sets.collect::<Result<_>>()?))
            }
            Self::Text(text) => {
                let [validation, test] = &text.rest;
                let set = |name, sentences: &[(String, String)]| text.test_set(name, sentences, c.sentences, device);
                Ok((Some(set("validation", validation)?), vec![set(TESTS[0], test)?]))
            }
        }
    }
}

impl Text {
    /// The first `most` of the sentences, by length.
    fn test_set(&self, name: &'static str, all: &[(String, String)], most: usize, device: Device) -> Result<TestSet> {
        let mut pairs: Vec<(Vec<String>, Vec<String>)> =
            all.iter().take(most).map(|(a, b)| (words(a), words(b))).collect();
        pairs.retain(|(a, b)| !a.is_empty() && !b.is_empty());
        pairs.sort_by_key(|(a, _)| a.len());
        let part = |pairs: &[(Vec<String>, Vec<String>)]| {
            let tokens: Vec<_> = pairs.iter().map(|(a, b)| (self.source.encode(a), self.target.encode(b))).collect();
            let borrowed: Vec<_> = tokens.iter().map(|(a, b)| (&a[..], &b[..])).collect();
            let references = pairs.iter().map(|(_, b)| self.target.reference(b)).collect();
            Ok(Part { batch: padded(&borrowed, device)?, references })
        };
        Ok(TestSet { name, parts: pairs.chunks(PART).map(part).collect::<Result<_>>()?, floor: None })
    }
}

/// Pairs of tokens as a batch.
fn padded(pairs: &[(&[i64], &[i64])], device: Device) -> autodidact_core::Result<PairBatch> {
    let sources: Vec<Vec<i64>> = pairs.iter().map(|p| p.0.to_vec()).collect();
    let targets: Vec<Vec<i64>> = pairs.iter().map(|p| [p.1, &[PairBatch::END]].concat()).collect();
    let (source, mask) = pad(&sources, 0, device)?;
    let (target, _) = pad(&targets, -1, device)?;
    let even = sources.iter().all(|s| s.len() == sources[0].len());
    Ok(PairBatch { source, mask: (!even).then_some(mask), target })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_numbered_by_frequency_and_unknown_ones_never_match() {
        let sentences = [words("A dog, a cat."), words("A bird.")];
        let vocabulary = Words::new(&sentences, 3);
        assert_eq!(vocabulary.size, 7);
        assert_eq!(vocabulary.encode(&words("a . bird cat")), [4, 5, 3, 3]);
        assert_eq!(vocabulary.reference(&words("a . bird cat")), [4, 5, 7, 7]);
        let batch = padded(&[(&[4, 5], &[6]), (&[4], &[5, 6])], Device::Cpu).unwrap();
        assert_eq!(Vec::<Vec<i64>>::try_from(batch.target).unwrap(), [[6, 2, -1], [5, 6, 2]]);
        assert_eq!(Vec::<Vec<bool>>::try_from(batch.mask.unwrap()).unwrap(), [[true, true], [true, false]]);
    }
}
