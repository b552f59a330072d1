//! A small language with a gold reward: sentences of a class grammar, prompts that ask for some of them, and a hidden taste.

use autodidact_core::seed::{Rng, rng};
use autodidact_core::{Error, Result};
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_distr::{Distribution, StandardNormal, weighted::WeightedIndex};

/// Number of topics, and of words; words `8c..8c+8` are of class `c`: determiner, adjective, noun, verb, adverb.
const TOPICS: usize = 4;
const WORDS: usize = 40;
const PER_CLASS: usize = 8;
const NOUN: usize = 2;
/// Longest sentence of the corpus.
const LONGEST: usize = 20;
/// Lengths that the three tags ask for.
const LENGTHS: [usize; 3] = [6, 9, 12];
/// Utility of a token that is no word.
const NO_WORD: f64 = -1.5;

/// What follows a class in the corpus, with its probability; `None` ends the sentence.
const NEXT: [&[(Option<usize>, f64)]; 5] = [
    &[(Some(1), 0.5), (Some(2), 0.5)],
    &[(Some(1), 0.2), (Some(2), 0.8)],
    &[(Some(3), 0.7), (None, 0.3)],
    &[(Some(4), 0.4), (Some(0), 0.6)],
    &[(None, 0.6), (Some(0), 0.4)],
];

/// A request: a topic, a length (6, 9 or 12 words) and a noun that should occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GarlandPrompt {
    /// Topic, 0 to 3.
    pub topic: usize,
    /// Which length, 0 to 2.
    pub tag: usize,
    /// Which noun, 0 to 7.
    pub noun: usize,
}

impl GarlandPrompt {
    /// Tokens of every prompt.
    pub const TOKENS: usize = 5;

    /// All 96 prompts.
    pub fn all() -> Vec<Self> {
        let of = |i: usize| Self { topic: i / 24, tag: i / 8 % 3, noun: i % 8 };
        (0..TOPICS * LENGTHS.len() * PER_CLASS).map(of).collect()
    }

    /// Whether this is one of the 24 combinations kept out of preference data.
    pub fn is_held_out(&self) -> bool {
        (self.topic + self.noun).is_multiple_of(4)
    }

    /// Words asked for.
    pub fn length(&self) -> usize {
        LENGTHS[self.tag]
    }

    /// The prompt that tokens stand for; none where they are no prompt's.
    pub fn from_tokens(tokens: &[i64]) -> Option<Self> {
        Self::all().into_iter().find(|p| p.tokens()[..] == *tokens)
    }

    /// Beginning of text, topic, length, noun, separator.
    pub fn tokens(&self) -> [i64; Self::TOKENS] {
        let [topic, tag, noun] = [16 + self.topic, 12 + self.tag, NOUN * PER_CLASS + self.noun].map(|x| x as i64);
        [Garland::BOS, topic, tag, Garland::WORD + noun, Garland::SEP]
    }
}

/// The terms of the gold reward of a response.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GarlandReward {
    /// Mean utility of the words, times 2.
    pub utility: f64,
    /// Share of transitions that the grammar does not have, times -2.
    pub grammar: f64,
    /// Share of repeated words, negative.
    pub repetition: f64,
    /// -0.1 for each word above or below the length asked for.
    pub length: f64,
    /// 0.5 if the noun asked for occurs.
    pub noun: f64,
    /// -1 without an end.
    pub unfinished: f64,
}

impl GarlandReward {
    /// The reward.
    pub fn total(&self) -> f64 {
        self.utility + self.grammar + self.repetition + self.length + self.noun + self.unfinished
    }
}

/// A world: how often words are used under each topic, and how much they are liked. Frequencies say nothing about the liking.
///
/// Vocabulary of 64 tokens: [`PAD`](Self::PAD), [`BOS`](Self::BOS), [`SEP`](Self::SEP), [`EOS`](Self::EOS), 4 to 23 for markers, scores,
/// lengths and topics, and from [`WORD`](Self::WORD) on the 40 words.
///
/// ```
/// use autodidact_datasets::synthetic::{Garland, GarlandPrompt};
/// let world = Garland::with_utilities([[0.0; 40]; 4], 0);
/// let prompt = GarlandPrompt { topic: 0, tag: 0, noun: 0 };
/// // Determiner, noun, end: 2 words instead of 6 (-0.4), with the noun (+0.5).
/// let reward = world.reward(&prompt, &[Garland::WORD, Garland::WORD + 16], true);
/// assert!((reward.total() - 0.1).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Garland {
    frequency: [[f64; WORDS]; TOPICS],
    utility: [[f64; WORDS]; TOPICS],
}

impl Garland {
    /// Fills sequences.
    pub const PAD: i64 = 0;
    /// Beginning of a text.
    pub const BOS: i64 = 1;
    /// Between prompt and response.
    pub const SEP: i64 = 2;
    /// End of a text.
    pub const EOS: i64 = 3;
    /// Before a revision.
    pub const REV: i64 = 4;
    /// The two verdicts on a pair.
    pub const VERDICTS: [i64; 2] = [5, 6];
    /// The first of five scores, or counts from 0.
    pub const SCORE: i64 = 7;
    /// Asks for a judgement.
    pub const JUDGE: i64 = 15;
    /// Markers of a rationale: illegal transitions, repetitions, length, noun.
    pub const RATIONALE: [i64; 4] = [20, 21, 22, 23];
    /// The first of 40 words.
    pub const WORD: i64 = 24;
    /// Tokens.
    pub const VOCAB: i64 = 64;
    /// Most tokens of a response, its end included.
    pub const MOST: usize = 24;

    /// The world of this name. Utilities have a part that all topics share and one of 0.4 times its size for each topic.
    pub fn new(world: u64) -> Self {
        let mut rng = rng(world, &["garland", "utility"]);
        let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
        let shared: [f64; WORDS] = std::array::from_fn(|_| normal());
        let utility = std::array::from_fn(|_| std::array::from_fn(|j| shared[j] + 0.4 * normal()));
        Self::with_utilities(utility, world)
    }

    /// A world with given utilities and the frequencies of this name.
    pub fn with_utilities(utility: [[f64; WORDS]; TOPICS], world: u64) -> Self {
        let mut rng = rng(world, &["garland", "frequency"]);
        let frequency = std::array::from_fn(|_| std::array::from_fn(|_| StandardNormal.sample(&mut rng)));
        Self { frequency, utility }
    }

    /// How much each word is liked under a topic (0 to 3).
    ///
    /// # Panics
    /// For a topic of 4 or more.
    pub fn utilities(&self, topic: usize) -> &[f64; WORDS] {
        &self.utility[topic]
    }

    fn word(&self, topic: usize, class: usize, rng: &mut Rng) -> i64 {
        let weights = self.frequency[topic][class * PER_CLASS..][..PER_CLASS].iter().map(|g| g.exp());
        let word = WeightedIndex::new(weights).expect("exponentials are positive").sample(rng);
        Self::WORD + (class * PER_CLASS + word) as i64
    }

    /// Words of a corpus sentence under a topic (0 to 3), without its end.
    ///
    /// # Panics
    /// For a topic of 4 or more.
    pub fn sentence(&self, topic: usize, rng: &mut Rng) -> Vec<i64> {
        loop {
            let (mut words, mut class) = (vec![], Some(0));
            while let Some(c) = class {
                words.push(self.word(topic, c, rng));
                class = NEXT[c].choose_weighted(rng, |n| n.1).expect("the weights are positive").0;
            }
            if words.len() <= LONGEST {
                return words;
            }
        }
    }

    /// A corpus example: a sentence and the prompt that it fulfils (the nearest length, the lower of two; one of its nouns).
    pub fn example(&self, rng: &mut Rng) -> (GarlandPrompt, Vec<i64>) {
        let topic = rng.random_range(0..TOPICS);
        let words = self.sentence(topic, rng);
        let tag =
            (0..LENGTHS.len()).min_by_key(|&t| LENGTHS[t].abs_diff(words.len())).expect("there are three lengths");
        let nouns: Vec<usize> =
            words.iter().filter_map(|&w| class_and_place(w)).filter(|w| w.0 == NOUN).map(|w| w.1).collect();
        let noun = *nouns.choose(rng).expect("the grammar leads every sentence over a noun");
        (GarlandPrompt { topic, tag, noun }, words)
    }

    /// The sentence with a random third of its words in a row (rounded up) drawn anew, each of its own class: an edit that the grammar
    /// allows wherever the sentence was right, and that knows nothing of the reward.
    ///
    /// # Panics
    /// For a topic of 4 or more.
    pub fn edited(&self, topic: usize, words: &[i64], rng: &mut Rng) -> Vec<i64> {
        let mut out = words.to_vec();
        let count = words.len().div_ceil(3);
        if count > 0 {
            let from = rng.random_range(0..=words.len() - count);
            for word in &mut out[from..from + count] {
                if let Some((class, _)) = class_and_place(*word) {
                    *word = self.word(topic, class, rng);
                }
            }
        }
        out
    }

    /// A row of sampled tokens up to its end, and whether it has one; at most [`MOST`](Self::MOST) tokens count, the end included.
    pub fn response(row: &[i64]) -> (&[i64], bool) {
        let row = &row[..row.len().min(Self::MOST)];
        match row.iter().position(|&t| t == Self::EOS) {
            Some(end) => (&row[..end], true),
            None => (row, false),
        }
    }

    /// The gold reward of a response (its tokens before the end, and whether it ended). An empty response has -4 in all.
    ///
    /// # Panics
    /// For a prompt outside the 96.
    pub fn reward(&self, prompt: &GarlandPrompt, tokens: &[i64], finished: bool) -> GarlandReward {
        let n = tokens.len();
        if n == 0 {
            let nothing =
                GarlandReward { utility: 0.0, grammar: 0.0, repetition: 0.0, length: 0.0, noun: 0.0, unfinished: 0.0 };
            return GarlandReward { utility: -4.0, ..nothing };
        }
        let words: Vec<_> = tokens.iter().map(|&t| class_and_place(t)).collect();
        let utility =
            |w: &Option<(usize, usize)>| w.map_or(NO_WORD, |(c, i)| self.utility[prompt.topic][c * PER_CLASS + i]);
        let transitions = n + usize::from(finished);
        let noun = words.contains(&Some((NOUN, prompt.noun)));
        GarlandReward {
            utility: 2.0 * words.iter().map(utility).sum::<f64>() / n as f64,
            grammar: -2.0 * illegal_transitions(tokens, finished) as f64 / transitions as f64,
            repetition: -(repeated_words(tokens) as f64) / n as f64,
            length: -0.1 * n.abs_diff(prompt.length()) as f64,
            noun: if noun { 0.5 } else { 0.0 },
            unfinished: if finished { 0.0 } else { -1.0 },
        }
    }

    /// Probability that a response of reward `first` is preferred to one of reward `second`: `sigmoid((r1 - r2) / tau)`.
    ///
    /// # Errors
    /// A tau not above 0.
    pub fn preference(first: f64, second: f64, tau: f64) -> Result<f64> {
        if tau.is_nan() || tau <= 0.0 {
            return Err(Error::value("tau", "above 0", tau));
        }
        Ok(1.0 / (1.0 + ((second - first) / tau).exp()))
    }
}

/// Class and place in it of a word's token; `None` for other tokens.
pub(super) fn class_and_place(token: i64) -> Option<(usize, usize)> {
    let word = usize::try_from(token - Garland::WORD).ok().filter(|&w| w < WORDS)?;
    Some((word / PER_CLASS, word % PER_CLASS))
}

/// Number of transitions between neighbours (the start, and the end of a finished response included) that the grammar does not have.
pub fn illegal_transitions(tokens: &[i64], finished: bool) -> usize {
    let class = |t: &i64| class_and_place(*t).map(|w| w.0);
    let legal = |from: Option<usize>, to: Option<usize>, ends: bool| match (from, to) {
        (Some(from), to) if to.is_some() || ends => NEXT[from].iter().any(|n| n.0 == to),
        _ => false,
    };
    let start = usize::from(tokens.first().and_then(class) != Some(0));
    let inner = tokens.windows(2).filter(|w| !legal(class(&w[0]), class(&w[1]), false)).count();
    let end = usize::from(finished && !legal(tokens.last().and_then(class), None, true));
    start + inner + end
}

/// Number of tokens that occurred before.
pub fn repeated_words(tokens: &[i64]) -> usize {
    tokens.len() - tokens.iter().collect::<std::collections::HashSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(world: &Garland, noun: usize, words: &[i64], finished: bool) -> f64 {
        let prompt = GarlandPrompt { topic: 0, tag: 0, noun };
        world.reward(&prompt, &words.iter().map(|w| w + Garland::WORD).collect::<Vec<_>>(), finished).total()
    }

    #[test]
    fn rewards_are_those_computed_by_hand() {
        let plain = Garland::with_utilities([[0.0; 40]; 4], 0);
        let mut utility = [[0.0; 40]; 4];
        (utility[0][0], utility[0][16]) = (1.0, -0.5);
        let liked = Garland::with_utilities(utility, 0);
        for (world, noun, words, finished, want) in [
            (&plain, 0, &[0, 16, 24][..], true, -0.3),
            (&plain, 0, &[0, 16], true, 0.1),
            (&plain, 0, &[0, 0, 16], false, -1.8),
            (&plain, 1, &[0, 8, 16, 24, 32], true, -0.1),
            (&liked, 0, &[0, 16], true, 0.6),
            (&plain, 0, &[], true, -4.0),
        ] {
            assert!((total(world, noun, words, finished) - want).abs() < 1e-12, "{words:?}");
        }
        // A token that is no word spoils both its transitions: utility -1, grammar -2 * 2/4, length -0.3, noun 0.5.
        assert!((total(&plain, 0, &[0, -20, 16], true) - (-1.0 - 1.0 - 0.3 + 0.5)).abs() < 1e-12);
    }

    #[test]
    fn sentences_are_legal_and_fulfil_their_prompts() {
        let world = Garland::new(0);
        let mut rng = rng(1, &["test"]);
        let (mut lengths, mut rewards) = (vec![], 0.0);
        for _ in 0..2_000 {
            let (prompt, words) = world.example(&mut rng);
            assert_eq!(illegal_transitions(&words, true), 0);
            let reward = world.reward(&prompt, &words, true);
            assert_eq!((reward.noun, reward.grammar), (0.5, 0.0));
            rewards += reward.total() / 2_000.0;
            lengths.push(words.len());
            let edited = world.edited(prompt.topic, &words, &mut rng);
            assert_eq!((edited.len(), illegal_transitions(&edited, true)), (words.len(), 0));
            let changed = (0..words.len()).filter(|&i| edited[i] != words[i]).collect::<Vec<_>>();
            assert!(changed.is_empty() || changed[changed.len() - 1] - changed[0] < words.len().div_ceil(3));
        }
        lengths.sort_unstable();
        let mean = lengths.iter().sum::<usize>() as f64 / 2_000.0;
        // 6.79 and 5.5 in the limit.
        assert!((mean - 6.79).abs() < 0.3 && (5..=6).contains(&lengths[1_000]) && lengths[1_999] <= LONGEST, "{mean}");
        assert!((-1.0..1.0).contains(&rewards), "{rewards}");
    }

    #[test]
    fn prompts_are_all_different_and_a_quarter_is_held_out() {
        let prompts = GarlandPrompt::all();
        let tokens: std::collections::HashSet<_> = prompts.iter().map(GarlandPrompt::tokens).collect();
        assert_eq!((prompts.len(), tokens.len()), (96, 96));
        assert_eq!(prompts.iter().filter(|p| p.is_held_out()).count(), 24);
        let prompt = GarlandPrompt { topic: 1, tag: 2, noun: 3 };
        assert_eq!(prompt.tokens(), [1, 17, 14, 43, 2]);
        assert_eq!(GarlandPrompt::from_tokens(&prompt.tokens()), Some(prompt));
        assert_eq!(GarlandPrompt::from_tokens(&[1, 17, 14, 43]), None);
    }

    #[test]
    fn rows_end_at_their_end_or_at_the_limit() {
        assert_eq!(Garland::response(&[30, 31, 3, 0, 0]), (&[30, 31][..], true));
        assert_eq!(Garland::response(&[30; 24]), (&[30; 24][..], false));
        let mut late = [30; 30];
        late[25] = Garland::EOS;
        assert_eq!(Garland::response(&late), (&[30; 24][..], false));
    }

    #[test]
    fn the_world_is_the_same_every_time_and_preferences_follow_rewards() {
        assert_eq!(Garland::new(0), Garland::new(0));
        assert_ne!(Garland::new(0), Garland::new(1));
        assert_eq!(Garland::preference(1.0, 1.0, 1.0).unwrap(), 0.5);
        assert!((Garland::preference(1.0, 0.0, 0.5).unwrap() - 0.8807970779778823).abs() < 1e-12);
        assert!(Garland::preference(1.0, 0.0, 0.0).is_err());
    }
}
