//! Judgements of garland responses: countable facts, and scores that follow from them.

use super::garland::{Garland, GarlandPrompt, class_and_place, illegal_transitions, repeated_words};
use autodidact_core::seed::Rng;
use rand::RngExt;
use rand::seq::IndexedRandom;

/// Counts go up to this.
const MOST: u8 = 4;

/// What a judgement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Criterion {
    /// Illegal transitions.
    Grammar,
    /// Repeated words.
    Repetition,
    /// The length asked for.
    Length,
    /// All facts together.
    Overall,
}

impl Criterion {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Grammar, Self::Repetition, Self::Length, Self::Overall];

    /// Its token, first in the prompt of a judgement.
    pub fn token(self) -> i64 {
        match self {
            Self::Grammar => Garland::RATIONALE[0],
            Self::Repetition => Garland::RATIONALE[1],
            Self::Length => Garland::RATIONALE[2],
            Self::Overall => Garland::JUDGE,
        }
    }
}

/// The facts of a response, counts capped at 4: the rationale of a judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GarlandFacts {
    /// Illegal transitions, the end of the response included.
    pub illegal: u8,
    /// Words that occurred before.
    pub repeated: u8,
    /// Words above or below the length asked for.
    pub off_length: u8,
    /// 1 if the noun asked for occurs.
    pub noun: u8,
}

impl GarlandFacts {
    /// Tokens of a rationale.
    pub const TOKENS: usize = 8;

    /// Of a finished response.
    pub fn of(prompt: &GarlandPrompt, words: &[i64]) -> Self {
        let capped = |count: usize| count.min(MOST.into()) as u8;
        Self {
            illegal: capped(illegal_transitions(words, true)),
            repeated: capped(repeated_words(words)),
            off_length: capped(words.len().abs_diff(prompt.length())),
            noun: u8::from(words.iter().any(|&w| class_and_place(w) == Some((2, prompt.noun)))),
        }
    }

    fn all(self) -> [u8; 4] {
        [self.illegal, self.repeated, self.off_length, self.noun]
    }

    /// The score from 1 to 5 that the facts give under a criterion.
    pub fn score(self, criterion: Criterion) -> u8 {
        let from_count = |count: u8| 5 - count.min(MOST);
        match criterion {
            Criterion::Grammar => from_count(self.illegal),
            Criterion::Repetition => from_count(self.repeated),
            Criterion::Length => from_count(self.off_length),
            Criterion::Overall => {
                let lost = self.illegal + self.repeated / 2 + self.off_length / 2 + (1 - self.noun.min(1));
                5u8.saturating_sub(lost).max(1)
            }
        }
    }

    /// How many of the four are those of `other`.
    pub fn agreement(self, other: Self) -> usize {
        self.all().iter().zip(other.all()).filter(|(a, b)| **a == *b).count()
    }

    /// Which of the four (illegal transitions, repetitions, length, noun) are those of `other`.
    pub fn matches(self, other: Self) -> [bool; 4] {
        let (a, b) = (self.all(), other.all());
        std::array::from_fn(|i| a[i] == b[i])
    }

    /// Each fact with this probability replaced by another value that it might have.
    pub fn corrupted(self, probability: f64, rng: &mut Rng) -> Self {
        let mut other = |value: u8, most: u8| {
            if rng.random_bool(probability) { (value + rng.random_range(1..=most)) % (most + 1) } else { value }
        };
        Self {
            illegal: other(self.illegal, MOST),
            repeated: other(self.repeated, MOST),
            off_length: other(self.off_length, MOST),
            noun: other(self.noun, 1),
        }
    }

    /// Markers and counts, in order.
    pub fn tokens(self) -> [i64; Self::TOKENS] {
        let all = self.all();
        std::array::from_fn(
            |i| {
                if i % 2 == 0 { Garland::RATIONALE[i / 2] } else { Garland::SCORE + i64::from(all[i / 2]) }
            },
        )
    }

    /// Facts from their tokens; none where these are not in the form of [`tokens`](Self::tokens).
    pub fn parse(tokens: &[i64]) -> Option<Self> {
        let mut facts = [0; 4];
        if tokens.len() != Self::TOKENS {
            return None;
        }
        for (i, pair) in tokens.chunks(2).enumerate() {
            let most = if i == 3 { 1 } else { MOST };
            let count = u8::try_from(pair[1] - Garland::SCORE).ok().filter(|c| *c <= most)?;
            if pair[0] != Garland::RATIONALE[i] {
                return None;
            }
            facts[i] = count;
        }
        let [illegal, repeated, off_length, noun] = facts;
        Some(Self { illegal, repeated, off_length, noun })
    }
}

/// A response that is to be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgedResponse {
    /// What is asked about it.
    pub criterion: Criterion,
    /// What it answers.
    pub prompt: GarlandPrompt,
    /// Its words, without the end.
    pub words: Vec<i64>,
}

impl JudgedResponse {
    /// Criterion, prompt, words, separator.
    pub fn tokens(&self) -> Vec<i64> {
        [&[self.criterion.token()][..], &self.prompt.tokens(), &self.words, &[Garland::SEP]].concat()
    }

    /// Its true facts.
    pub fn facts(&self) -> GarlandFacts {
        GarlandFacts::of(&self.prompt, &self.words)
    }

    /// Its true score.
    pub fn score(&self) -> u8 {
        self.facts().score(self.criterion)
    }
}

impl Garland {
    /// The token of a score from 1 to 5.
    pub fn score_token(score: u8) -> i64 {
        Self::SCORE + i64::from(score) - 1
    }

    /// The score from 1 to 5 of a token.
    pub fn read_score(token: i64) -> Option<u8> {
        u8::try_from(token - Self::SCORE).ok().filter(|s| *s < 5).map(|s| s + 1)
    }

    /// A sentence of the corpus with 0 to 4 random edits: neighbours swapped, a word doubled, left out or replaced by any word. At most
    /// 24 words, at least one.
    pub fn flawed(&self, prompt: &GarlandPrompt, rng: &mut Rng) -> Vec<i64> {
        let mut words = self.sentence(prompt.topic, rng);
        for _ in 0..rng.random_range(0..=4) {
            let at = rng.random_range(0..words.len());
            match rng.random_range(0..4) {
                0 if at + 1 < words.len() => words.swap(at, at + 1),
                1 if words.len() < Self::MOST => words.insert(at, words[at]),
                2 if words.len() > 1 => {
                    words.remove(at);
                }
                _ => words[at] = Self::WORD + rng.random_range(0..40),
            }
        }
        words
    }

    /// A response to judge: a random criterion and prompt, a flawed sentence.
    pub fn to_judge(&self, rng: &mut Rng) -> JudgedResponse {
        let criterion = *Criterion::ALL.choose(rng).expect("there are four");
        let prompt = *GarlandPrompt::all().choose(rng).expect("there are 96");
        let words = self.flawed(&prompt, rng);
        JudgedResponse { criterion, prompt, words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use autodidact_core::seed::rng;

    fn facts(illegal: u8, repeated: u8, off_length: u8, noun: u8) -> GarlandFacts {
        GarlandFacts { illegal, repeated, off_length, noun }
    }

    #[test]
    fn scores_follow_from_facts() {
        let scores = |f: GarlandFacts| Criterion::ALL.map(|c| f.score(c));
        assert_eq!(scores(facts(2, 1, 3, 1)), [3, 4, 2, 2]);
        assert_eq!(scores(facts(0, 0, 0, 1)), [5; 4]);
        assert_eq!(scores(facts(4, 4, 4, 0)), [1; 4]);
    }

    #[test]
    fn facts_are_counted() {
        // START-0 is legal, 0-0 not, 0-2 and 2-END are; two of three words differ; three words short of six.
        let prompt = GarlandPrompt { topic: 0, tag: 0, noun: 0 };
        let words = [0, 0, 16].map(|w| Garland::WORD + w).to_vec();
        let judged = JudgedResponse { criterion: Criterion::Overall, prompt, words };
        assert_eq!((judged.facts(), judged.score()), (facts(1, 1, 3, 1), 3));
        assert_eq!(judged.tokens(), [15, 1, 16, 12, 40, 2, 24, 24, 40, 2]);
        let other = GarlandPrompt { noun: 3, ..prompt };
        assert_eq!(GarlandFacts::of(&other, &judged.words).noun, 0);
    }

    #[test]
    fn rationales_are_read_back() {
        let f = facts(2, 1, 4, 1);
        assert_eq!(f.tokens(), [20, 9, 21, 8, 22, 11, 23, 8]);
        assert_eq!(GarlandFacts::parse(&f.tokens()), Some(f));
        for broken in [&[20i64, 9, 21, 8][..], &[20, 9, 21, 8, 22, 11, 23, 9], &[21, 9, 20, 8, 22, 11, 23, 8]] {
            assert_eq!(GarlandFacts::parse(broken), None);
        }
        for score in 1..=5 {
            assert_eq!(Garland::read_score(Garland::score_token(score)), Some(score));
        }
        assert_eq!((Garland::read_score(6), Garland::read_score(12)), (None, None));
        assert_eq!((f.agreement(facts(2, 1, 0, 0)), f.matches(facts(2, 1, 0, 0))), (2, [true, true, false, false]));
    }

    #[test]
    fn noise_changes_the_share_of_facts_that_it_should() {
        let (mut rng, truth) = (rng(0, &["test"]), facts(1, 0, 2, 1));
        let changed = (0..2_000).map(|_| 4 - truth.agreement(truth.corrupted(0.1, &mut rng))).sum::<usize>();
        assert!((changed as f64 / 8_000.0 - 0.1).abs() < 0.015, "{changed}");
        assert_eq!(truth.corrupted(0.0, &mut rng), truth);
        assert_eq!(truth.agreement(truth.corrupted(1.0, &mut rng)), 0);
    }

    #[test]
    fn responses_to_judge_have_all_scores() {
        let (world, mut rng) = (Garland::new(0), rng(0, &["test"]));
        let mut counts = [0; 5];
        for _ in 0..2_000 {
            let judged = world.to_judge(&mut rng);
            assert!((1..=Garland::MOST).contains(&judged.words.len()));
            counts[usize::from(judged.score()) - 1] += 1;
        }
        assert!(counts.iter().all(|&c| c > 50), "{counts:?}");
    }
}
