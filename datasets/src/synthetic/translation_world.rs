//! Two languages with a known translation, and sentence pairs whose conditional entropy is known exactly.

mod likelihood;
mod ranked;

use autodidact_core::error::check_range;
use autodidact_core::seed::{Rng, rng};
use autodidact_core::{Error, Result};
use rand::RngExt;
use rand::seq::SliceRandom;
use ranked::Ranked;
use tch::{Device, Tensor};

/// Two languages, A and B, and translations between them, for studies of where parallel text comes from.
///
/// Both are bigram languages: the successors of a word have probabilities `rank^-zipf` in an order of their own. Words belong to classes. A
/// text of A is translated by a dictionary into stems of B; adjacent words of the first and the second class (in this order) change places;
/// half of the words have a particle behind them, which the class of the next word of A decides; and every word of B has an ending that
/// agrees with the class of the word before it, or with probability `noise` another. A text of B is natural: its words and its particles
/// are drawn from its own distributions, endings as above; its translation into A drops endings and particles, and puts adjacent words of
/// the second and the first class in the order of A. So much of natural B cannot be told from its translation.
///
/// ```
/// use autodidact_core::seed::rng;
/// use autodidact_datasets::synthetic::{Origin, TranslationWorld};
/// let world = TranslationWorld::default().build()?;
/// let pair = world.pair(Origin::Source, 8, &mut rng(0, &["example"]));
/// assert_eq!(pair.source.len(), 8);
/// // All that is left to chance in a translation is its endings.
/// assert!((world.ending_entropy() - 0.3944).abs() < 1e-4);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TranslationWorld {
    /// Words of A, at least 4 and twice the classes; B has as many stems.
    pub words: usize,
    /// Classes of words, at least 2.
    pub classes: usize,
    /// Exponent of the successors' probabilities, and of the natural particles'.
    pub zipf: f64,
    /// Particles of B.
    pub particles: usize,
    /// Endings of a word of B, at least 2.
    pub endings: usize,
    /// Probability of an ending that does not agree.
    pub noise: f64,
    /// Names the languages: all tables are drawn from it.
    pub language: u64,
}

impl Default for TranslationWorld {
    /// 200 words in 6 classes, exponent 1.2, 8 particles, 3 endings, 10 % noise.
    fn default() -> Self {
        Self { words: 200, classes: 6, zipf: 1.2, particles: 8, endings: 3, noise: 0.1, language: 0 }
    }
}

/// Which side of a pair is natural; the other is its translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A natural text of A with its translation into B.
    Source,
    /// A natural text of B with its translation into A.
    Target,
}

/// A word of B: `stem` in `0..words` (the stem of the word of A of that number) or, for particles, in `words..words + particles`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Inflected {
    /// Stem.
    pub stem: usize,
    /// Ending.
    pub ending: usize,
}

/// A sentence of A and one of B.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentencePair {
    /// Which is natural.
    pub origin: Origin,
    /// Words of A.
    pub source: Vec<usize>,
    /// Words of B.
    pub target: Vec<Inflected>,
}

/// Sentences as tensors of tokens: 0 is padding, [`START`](Self::START) and [`END`](Self::END) frame targets, words follow.
#[derive(Debug)]
pub struct PairBatch {
    /// `[N, S]`, Int64.
    pub source: Tensor,
    /// Which are words, `[N, S]` (bool); `None` where all are.
    pub mask: Option<Tensor>,
    /// `[N, T]`, Int64, each with its end; -1 behind it.
    pub target: Tensor,
}

impl PairBatch {
    /// The token before a target.
    pub const START: i64 = 1;
    /// The token behind a target.
    pub const END: i64 = 2;
    /// Tokens that are no words.
    const SPECIAL: i64 = 3;
}

/// The languages of a [`TranslationWorld`].
#[derive(Debug)]
pub struct ParallelLanguages {
    world: TranslationWorld,
    /// Classes of words (and of their stems), then of particles.
    class: Vec<usize>,
    /// Whether a particle stands behind the stem.
    with_particle: Vec<bool>,
    /// Successors in A and in B; the last context is the start.
    a: Ranked,
    b: Ranked,
    /// Natural particles by stem.
    natural: Ranked,
    /// A translation's particle, by the class of the next word of A; the last is the end's.
    rule: Vec<usize>,
    /// The ending that agrees with a class; the last is the start's.
    agreement: Vec<usize>,
}

impl TranslationWorld {
    /// Draws the tables.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn build(&self) -> Result<ParallelLanguages> {
        check_range("classes", self.classes as f64, 2.0..)?;
        check_range("particles", self.particles as f64, 1.0..)?;
        check_range("endings", self.endings as f64, 2.0..)?;
        check_range("noise", self.noise, 0.0..1.0)?;
        check_range("Zipf exponent", self.zipf, 0.0..=10.0)?;
        if self.words < 2 * self.classes || self.words > 1 << 14 {
            let expected = format!("from twice the {} classes to {}", self.classes, 1 << 14);
            return Err(Error::value("words", expected, self.words));
        }
        let rng = |what: &str| rng(self.language, &["translation world", what]);
        let mut draw = rng("words");
        // As even as can be, in random order.
        let mut class: Vec<usize> = (0..self.words).map(|i| i % self.classes).collect();
        class.shuffle(&mut draw);
        let mut with_particle: Vec<bool> = (0..self.words).map(|i| i % 2 == 0).collect();
        with_particle.shuffle(&mut draw);
        class.extend((0..self.particles).map(|_| draw.random_range(0..self.classes)));
        let bigrams = |what| Ranked::new(self.words + 1, self.words, self.zipf, &mut rng(what));
        let mut rules = rng("rules");
        let mut among = |n: usize| (0..=self.classes).map(|_| rules.random_range(0..n)).collect();
        Ok(ParallelLanguages {
            world: *self,
            class,
            with_particle,
            a: bigrams("language A"),
            b: bigrams("language B"),
            natural: Ranked::new(self.words, self.particles, self.zipf, &mut rng("particles")),
            rule: among(self.particles),
            agreement: among(self.endings),
        })
    }
}

impl ParallelLanguages {
    /// Tokens of A and of B, with those that are no words.
    pub fn vocabularies(&self) -> (i64, i64) {
        let w = &self.world;
        (w.words as i64 + PairBatch::SPECIAL, ((w.words + w.particles) * w.endings) as i64 + PairBatch::SPECIAL)
    }

    /// The token of a word of B.
    pub fn token(&self, word: Inflected) -> i64 {
        (word.stem * self.world.endings + word.ending) as i64 + PairBatch::SPECIAL
    }

    /// A pair whose natural side has `length` words, particles apart (so the source has as many).
    pub fn pair(&self, origin: Origin, length: usize, rng: &mut Rng) -> SentencePair {
        let language = if origin == Origin::Source { &self.a } else { &self.b };
        let mut words = Vec::with_capacity(length);
        let mut context = self.world.words;
        for _ in 0..length {
            context = language.draw(context, rng);
            words.push(context);
        }
        let (source, stems) = match origin {
            Origin::Source => {
                let stems = self.translate(&words);
                (words, stems)
            }
            Origin::Target => {
                let mut stems = vec![];
                for &word in &words {
                    stems.push(word);
                    if self.with_particle[word] {
                        stems.push(self.world.words + self.natural.draw(word, rng));
                    }
                }
                (self.translate_back(&words), stems)
            }
        };
        let mut before = self.world.classes;
        let inflect = |stem: usize| {
            let agreed = self.agreement[before];
            before = self.class[stem];
            let astray = rng.random::<f64>() < self.world.noise;
            let shift = if astray { rng.random_range(1..self.world.endings) } else { 0 };
            Inflected { stem, ending: (agreed + shift) % self.world.endings }
        };
        SentencePair { origin, source, target: stems.into_iter().map(inflect).collect() }
    }

    /// Swaps neighbours of these classes, each word once, from the left.
    fn swap(&self, words: &[usize], first: usize, second: usize) -> Vec<(usize, usize)> {
        let mut order: Vec<(usize, usize)> = words.iter().copied().enumerate().collect();
        let mut i = 0;
        while i + 1 < words.len() {
            if self.class[words[i]] == first && self.class[words[i + 1]] == second {
                order.swap(i, i + 1);
                i += 1;
            }
            i += 1;
        }
        order
    }

    /// Stems of the translation of a sentence of A.
    pub fn translate(&self, words: &[usize]) -> Vec<usize> {
        let mut stems = vec![];
        for (i, word) in self.swap(words, 0, 1) {
            stems.push(word);
            if self.with_particle[word] {
                let next = words.get(i + 1).map_or(self.world.classes, |w| self.class[*w]);
                stems.push(self.world.words + self.rule[next]);
            }
        }
        stems
    }

    /// The translation into A of the words of a sentence of B (without particles).
    pub fn translate_back(&self, words: &[usize]) -> Vec<usize> {
        self.swap(words, 1, 0).into_iter().map(|(_, word)| word).collect()
    }

    /// Pairs as tensors.
    ///
    /// # Errors
    /// No pairs.
    pub fn batch(&self, pairs: &[SentencePair], device: Device) -> Result<PairBatch> {
        let (Some(longest), Some(most)) =
            (pairs.iter().map(|p| p.source.len()).max(), pairs.iter().map(|p| p.target.len()).max())
        else {
            return Err(Error::value("pairs", "at least one", "none"));
        };
        let (mut source, mut target) =
            (Vec::with_capacity(pairs.len() * longest), Vec::with_capacity(pairs.len() * (most + 1)));
        for p in pairs {
            source.extend(p.source.iter().map(|&w| w as i64 + PairBatch::SPECIAL));
            source.resize(source.len() + longest - p.source.len(), 0);
            target.extend(p.target.iter().map(|&w| self.token(w)));
            target.push(PairBatch::END);
            target.resize(target.len() + most - p.target.len(), -1);
        }
        let rows = pairs.len() as i64;
        let tensor =
            |values: &[i64], width: usize| Tensor::from_slice(values).view([rows, width as i64]).to_device(device);
        let source = tensor(&source, longest);
        let padded = pairs.iter().any(|p| p.source.len() < longest);
        Ok(PairBatch { mask: padded.then(|| source.gt(0)), source, target: tensor(&target, most + 1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> TranslationWorld {
        TranslationWorld { words: 6, classes: 3, particles: 2, endings: 2, ..TranslationWorld::default() }
    }

    /// All sentences of words below `words`.
    fn sentences(words: usize, length: usize) -> Vec<Vec<usize>> {
        (0..length).fold(vec![vec![]], |all, _| {
            all.iter().flat_map(|s: &Vec<usize>| (0..words).map(move |w| [&s[..], &[w]].concat())).collect()
        })
    }

    #[test]
    fn the_probability_of_a_source_is_the_sum_over_what_is_translated_into_it() {
        for language in 0..3 {
            let world = TranslationWorld { language, ..tiny() }.build().unwrap();
            let mut by_source = std::collections::BTreeMap::<Vec<usize>, f64>::new();
            for b in sentences(6, 5) {
                let mut before = 6;
                let mut p = 1.0;
                for &w in &b {
                    p *= world.b.log_prob(before, w).exp();
                    before = w;
                }
                *by_source.entry(world.translate_back(&b)).or_default() += p;
            }
            assert!((by_source.values().sum::<f64>() - 1.0).abs() < 1e-12);
            assert!(by_source.len() < 6usize.pow(5));
            for (source, p) in by_source {
                assert!((world.log_source(&source).exp() / p - 1.0).abs() < 1e-10, "{source:?}");
            }
        }
    }

    #[test]
    fn targets_of_a_source_have_probabilities_that_sum_to_one() {
        let world = tiny().build().unwrap();
        let mut rng = rng(1, &["test"]);
        for origin in [Origin::Source, Origin::Target] {
            for _ in 0..4 {
                let source = world.pair(origin, 2, &mut rng).source;
                let mut sum = 0.0;
                // Up to two stems with a particle each, every one with any ending.
                for length in 2..=4 {
                    for words in sentences(8 * 2, length) {
                        let target = words.iter().map(|w| Inflected { stem: w / 2, ending: w % 2 }).collect();
                        sum += world.log_prob(&SentencePair { origin, source: source.clone(), target }).exp();
                    }
                }
                assert!((sum - 1.0).abs() < 1e-10, "{origin:?} {source:?}: {sum}");
            }
        }
    }

    #[test]
    fn translations_follow_the_rules() {
        let world = TranslationWorld { noise: 0.0, ..TranslationWorld::default() }.build().unwrap();
        let of = |class: usize, particle: bool| {
            (0..200).find(|&w| world.class[w] == class && world.with_particle[w] == particle).unwrap()
        };
        let (x, y, z) = (of(0, false), of(1, true), of(2, false));
        // The particle of y is chosen by the word behind y in A, and goes with y.
        let behind = |class: usize| 200 + world.rule[class];
        assert_eq!(world.translate(&[x, y, z]), [y, behind(2), x, z]);
        assert_eq!(world.translate(&[y, x, y]), [y, behind(0), y, behind(6), x]);
        assert_eq!(world.translate_back(&[y, x, z]), [x, y, z]);
        assert_eq!(world.translate_back(&[x, y, z]), [x, y, z]);
        let pair = world.pair(Origin::Source, 12, &mut rng(0, &["rules"]));
        assert_eq!(world.ending_entropy(), 0.0);
        assert_eq!(world.log_prob(&pair), 0.0);
        let mut before = 6;
        for word in &pair.target {
            assert_eq!(word.ending, world.agreement[before]);
            before = world.class[word.stem];
        }
        let other = SentencePair { target: pair.target[1..].to_vec(), ..pair };
        assert_eq!(world.log_prob(&other), f64::NEG_INFINITY);
    }

    #[test]
    fn the_best_loss_of_translations_is_the_entropy_of_their_endings() {
        let world = TranslationWorld::default().build().unwrap();
        let mut rng = rng(2, &["entropy"]);
        let pairs: Vec<SentencePair> = (0..4000).map(|_| world.pair(Origin::Source, 9, &mut rng)).collect();
        let words: usize = pairs.iter().map(|p| p.target.len()).sum();
        let expected = world.ending_entropy() * words as f64 / (words + pairs.len()) as f64;
        assert!((world.best_loss(&pairs) - expected).abs() < 0.01, "{} {expected}", world.best_loss(&pairs));
        // Natural B has its particles on top, half a particle a word.
        let natural: Vec<SentencePair> = (0..4000).map(|_| world.pair(Origin::Target, 9, &mut rng)).collect();
        assert!(world.best_loss(&natural) > world.best_loss(&pairs) + 0.3);
    }

    #[test]
    fn batches_hold_words_ends_and_padding() {
        let world = TranslationWorld::default().build().unwrap();
        let mut rng = rng(3, &["batch"]);
        let pairs = [world.pair(Origin::Source, 6, &mut rng), world.pair(Origin::Target, 8, &mut rng)];
        let batch = world.batch(&pairs, Device::Cpu).unwrap();
        let (a, b) = world.vocabularies();
        assert_eq!((a, b), (203, 627));
        assert_eq!(batch.source.size(), [2, 8]);
        assert_eq!(batch.mask.unwrap().sum(tch::Kind::Int64).int64_value(&[]), 14);
        for (i, pair) in pairs.iter().enumerate() {
            let row = Vec::<i64>::try_from(batch.target.get(i as i64)).unwrap();
            let length = pair.target.len();
            let words: Vec<i64> = pair.target.iter().map(|&w| world.token(w)).collect();
            assert_eq!(row[..length], words);
            assert!(words.iter().all(|t| (3..b).contains(t)));
            assert_eq!(row[length], PairBatch::END);
            assert!(row[length + 1..].iter().all(|&t| t == -1));
        }
        assert!(world.batch(&pairs[..1], Device::Cpu).unwrap().mask.is_none());
        assert!(world.batch(&[], Device::Cpu).is_err());
    }

    #[test]
    fn settings_that_make_no_languages_are_errors() {
        let world = TranslationWorld::default();
        for (bad, said) in [
            (TranslationWorld { words: 11, ..world }, "words: expected from twice the 6 classes"),
            (TranslationWorld { classes: 1, ..world }, "classes"),
            (TranslationWorld { particles: 0, ..world }, "particles"),
            (TranslationWorld { endings: 1, ..world }, "endings"),
            (TranslationWorld { noise: 1.0, ..world }, "noise"),
            (TranslationWorld { zipf: -1.0, ..world }, "Zipf exponent"),
        ] {
            let e = bad.build().unwrap_err().to_string();
            assert!(e.starts_with(said), "{e}");
        }
    }
}
