//! Responses at all degrees of removal.

use super::super::garland::{Answer, gold_reward, world};
use super::super::language::{Sequence, Sequences};
use anyhow::{Result, bail};
use autodidact_core::seed::{self, Rng};
use autodidact_core::stats;
use autodidact_datasets::synthetic::{Garland, GarlandPrompt};
use autodidact_preference::preference_degree::{Phrase, grades, key_words, rake};
use rand::seq::SliceRandom;
use tch::{Device, Kind, Tensor};

/// What is removed from responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Key words, those of the highest phrases first.
    Key,
    /// As many random words.
    Random,
    /// The key words, the best liked under the prompt's topic first.
    Oracle,
}

/// Adjectives and nouns have content; determiners, verbs and adverbs (and whatever is no word) separate.
fn separates(token: &i64) -> bool {
    !(Garland::WORD + 8..Garland::WORD + 24).contains(token)
}

impl Content {
    /// What is removed from a response's words, first things first.
    fn of(self, topic: usize, words: &[i64], garland: &Garland, rng: &mut Rng) -> Vec<Phrase> {
        let mut found = key_words(&rake(words, separates));
        match self {
            Content::Key => {}
            Content::Random => {
                let count = found.len();
                let mut places: Vec<usize> = (0..words.len()).collect();
                places.shuffle(rng);
                found = places[..count].iter().map(|&i| Phrase::word(i, 0.0)).collect();
            }
            Content::Oracle => {
                let liking = |p: &Phrase| garland.utilities(topic)[(words[p.places[0].start] - Garland::WORD) as usize];
                found.sort_by(|a, b| liking(b).total_cmp(&liking(a)));
            }
        }
        found
    }
}

/// Responses with their removals: `count * grades` sequences, those of a response in a row.
pub(super) struct Graded {
    pub sequences: Sequences,
    /// Whether each response has all its degrees (else its rows repeat it untouched), `[count]`.
    pub usable: Tensor,
    /// The same, in Rust.
    pub kept: Vec<bool>,
    pub grades: usize,
    /// Gold rewards, as the sequences.
    pub rewards: Vec<f64>,
    /// Words, as the sequences.
    pub lengths: Vec<usize>,
}

impl Graded {
    pub fn new(answers: &[Answer], content: Content, count: usize, seed: u64, device: Device) -> Result<Self> {
        let garland = world();
        let mut rng = seed::rng(seed, &["random removal"]);
        let (mut rows, mut kept, mut rewards, mut lengths) = (vec![], vec![], vec![], vec![]);
        for answer in answers {
            let Sequence { prompt, response } = &answer.sequence;
            let Some(request) = GarlandPrompt::from_tokens(prompt) else {
                bail!("a prompt that is none of the language's: {prompt:?}")
            };
            let (words, finished) = Garland::response(response);
            let all = grades(words, &content.of(request.topic, words, &garland, &mut rng), count);
            kept.push(all.is_some());
            for words in all.unwrap_or_else(|| vec![words.to_vec(); count]) {
                let end = if finished { &[Garland::EOS][..] } else { &[] };
                lengths.push(words.len());
                let response = [&words[..], end].concat();
                rewards.push(gold_reward(&garland, &request, &response));
                rows.push(Sequence { prompt: prompt.clone(), response });
            }
        }
        if !kept.contains(&true) {
            bail!("no response has the {} key words that {count} degrees need", count - 1);
        }
        let usable = Tensor::from_slice(&kept).to_device(device);
        Ok(Self {
            sequences: Sequences::new(&rows, Garland::PAD, device)?,
            usable,
            kept,
            grades: count,
            rewards,
            lengths,
        })
    }

    /// Rows of responses `index [B]` at degrees `[B]`.
    pub fn rows(&self, index: &Tensor, degrees: &Tensor) -> Sequences {
        self.sequences.rows(&(index * self.grades as i64 + degrees))
    }

    /// Values of all sequences, by usable response and degree.
    pub fn by_response(&self, values: &[f64]) -> Vec<Vec<f64>> {
        let responses = values.chunks(self.grades).zip(&self.kept);
        responses.filter(|(_, kept)| **kept).map(|(values, _)| values.to_vec()).collect()
    }

    /// Means over usable responses by degree.
    pub fn by_degree(&self, values: &[f64]) -> Vec<f64> {
        let all = self.by_response(values);
        (0..self.grades).map(|d| stats::mean(&all.iter().map(|v| v[d]).collect::<Vec<_>>())).collect()
    }

    /// Share of sequences whose degree is the commonest of their length among `training`'s.
    pub fn accuracy_of_lengths(&self, training: &Self) -> f64 {
        let lengths = |g: &Self| g.lengths.iter().map(|&l| l as f64).collect::<Vec<_>>();
        let mut counts = vec![vec![0usize; self.grades]; Garland::MOST + 1];
        for response in training.by_response(&lengths(training)) {
            for (degree, length) in response.iter().enumerate() {
                counts[*length as usize][degree] += 1;
            }
        }
        let guess = |length: f64| {
            let counts = &counts[length as usize];
            (0..self.grades).max_by_key(|&d| counts[d]).unwrap_or(0)
        };
        let all = self.by_response(&lengths(self));
        let right = all.iter().flat_map(|r| r.iter().enumerate()).filter(|(d, l)| guess(**l) == *d).count();
        right as f64 / (all.len() * self.grades) as f64
    }
}

/// Checks the premise that removal of key content lowers the reward: on sentences of the corpus, its mean falls with every degree.
pub(super) fn check_premise(count: usize, device: Device) -> Result<()> {
    let garland = world();
    let mut rng = seed::rng(0, &["preference-degree", "premise"]);
    let answers: Vec<Answer> = (0..500)
        .map(|_| {
            let (prompt, words) = garland.example(&mut rng);
            let response = [&words[..], &[Garland::EOS]].concat();
            Answer { sequence: Sequence { prompt: prompt.tokens().to_vec(), response }, reward: 0.0 }
        })
        .collect();
    let graded = Graded::new(&answers, Content::Key, count, 0, device)?;
    let means = graded.by_degree(&graded.rewards);
    if means.windows(2).any(|w| w[1] >= w[0]) {
        bail!("removing key content should lower the reward of corpus sentences, but by degree its mean is {means:?}");
    }
    Ok(())
}

/// One degree for each of `count` responses, `[count]`.
pub(super) fn draw(rng: &mut Rng, count: i64, from: usize, grades: usize, device: Device) -> Tensor {
    use rand::RngExt;
    let degrees: Vec<i64> = (0..count).map(|_| rng.random_range(from..grades) as i64).collect();
    Tensor::from_slice(&degrees).to_kind(Kind::Int64).to_device(device)
}
