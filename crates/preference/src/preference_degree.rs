//! SPO: how much a response is preferred, learnt from responses whose key content is removed by degrees.
//!
//! Li, Huang and others: *Self-supervised Preference Optimization: Enhance Your Language Model with Preference Degree Awareness*,
//! Findings of EMNLP 2024, arXiv 2409.17791.
//!
//! The key content of a response is what RAKE (Rose, Engel, Cramer, Cowley 2010) finds: runs of words between stop-words and
//! punctuation, scored by the sum of their words' `degree / frequency`. Of degree `d` in `0..G` is the response without its top
//! `ceil(d n / (G-1))` of n phrases. A small head on the language model's state `z` at the end of such a response tells the degree, and
//! both learn together with any preference loss on the untouched pairs:
//!
//! ```text
//! L = L_preference + gamma mean over responses of -log softmax(head(z))_d,      d uniform
//! ```
//!
//! The head is thrown away afterwards. (The number of degrees, the head and gamma are this project's specification: the paper's are not
//! published in full.)
//!
//! ```
//! use autodidact_preference::preference_degree::{grades, rake_text};
//! let stop = ["of", "over", "the"];
//! let text = "compatibility of systems of linear constraints over the set of natural numbers";
//! let phrases = rake_text(text, |word| stop.contains(&word));
//! // Words of a pair have degree 2 and frequency 1.
//! assert_eq!((&text[phrases[0].places[0].clone()], phrases[0].score), ("linear constraints", 4.0));
//! assert_eq!((&text[phrases[1].places[0].clone()], phrases[1].score), ("natural numbers", 4.0));
//! assert_eq!((phrases.len(), phrases[2].score), (5, 1.0));
//!
//! // Words as numbers; 0, 1, 25 and 33 are stop-words. Both phrases go, one after the other.
//! let words = [0, 9, 17, 25, 1, 18, 33];
//! let phrases = autodidact_preference::preference_degree::rake(&words, |w| [0, 1, 25, 33].contains(w));
//! assert_eq!(grades(&words, &phrases, 3).unwrap(), [vec![0, 9, 17, 25, 1, 18, 33], vec![0, 25, 1, 18, 33], vec![0, 25, 1, 33]]);
//! ```

use autodidact_core::error::{check_matrix, check_range, check_values};
use autodidact_core::{Error, Result};
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;
use tch::nn::{self, Module, Path};
use tch::{Kind, Tensor};

/// A piece of content and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Phrase {
    /// All its occurrences, in order: places of tokens, or bytes of a text.
    pub places: Vec<Range<usize>>,
    /// The sum of its words' `degree / frequency`.
    pub score: f64,
}

impl Phrase {
    /// One word at a place.
    pub fn word(place: usize, score: f64) -> Self {
        Self { places: std::iter::once(place..place + 1).collect(), score }
    }
}

/// Key phrases of a list of words, the highest score first (ties in the order of the text): the runs between words that `separates`
/// (stop-words, punctuation). A word's frequency is the number of its occurrences in such runs, its degree the number of words in the
/// runs that it occurs in, counted at each occurrence.
pub fn rake<T: Eq + Hash>(words: &[T], separates: impl Fn(&T) -> bool) -> Vec<Phrase> {
    let mut runs: Vec<Range<usize>> = vec![];
    for (i, word) in words.iter().enumerate() {
        if separates(word) {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.end == i => run.end = i + 1,
            _ => runs.push(i..i + 1),
        }
    }
    phrases(&runs.iter().map(|run| words[run.clone()].iter().collect()).collect::<Vec<Vec<&T>>>(), &runs)
}

/// The same for a text, with places in bytes: words are maximal runs of letters, digits, apostrophes and hyphens with a
/// letter or digit among them, of which `is_stop` sees the lower case; every other sign but white space separates.
pub fn rake_text(text: &str, is_stop: impl Fn(&str) -> bool) -> Vec<Phrase> {
    let part_of_word = |c: char| c.is_alphanumeric() || "'’-".contains(c);
    let (mut runs, mut places): (Vec<Vec<String>>, Vec<Range<usize>>) = (vec![], vec![]);
    // Whether the next word goes on with the last run.
    let mut open = false;
    let mut rest = text.char_indices().peekable();
    while let Some((from, c)) = rest.next() {
        if !part_of_word(c) {
            open &= c.is_whitespace();
            continue;
        }
        let mut end = from + c.len_utf8();
        while let Some((at, c)) = rest.next_if(|(_, c)| part_of_word(*c)) {
            end = at + c.len_utf8();
        }
        let word = text[from..end].to_lowercase();
        if !word.contains(char::is_alphanumeric) || is_stop(&word) {
            open = false;
            continue;
        }
        match (open, runs.last_mut(), places.last_mut()) {
            (true, Some(run), Some(place)) => {
                run.push(word);
                place.end = end;
            }
            _ => {
                runs.push(vec![word]);
                places.push(from..end);
            }
        }
        open = true;
    }
    phrases(&runs, &places)
}

/// Scores runs of words, and joins those that are the same.
fn phrases<T: Eq + Hash>(runs: &[Vec<T>], places: &[Range<usize>]) -> Vec<Phrase> {
    let mut counts: HashMap<&T, (usize, usize)> = HashMap::new();
    for run in runs {
        for word in run {
            let (frequency, degree) = counts.entry(word).or_default();
            *frequency += 1;
            *degree += run.len();
        }
    }
    let score = |word: &T| counts[word].1 as f64 / counts[word].0 as f64;
    let mut found: Vec<Phrase> = vec![];
    let mut known: HashMap<&[T], usize> = HashMap::new();
    for (run, place) in runs.iter().zip(places) {
        let i = *known.entry(run).or_insert(found.len());
        if i == found.len() {
            found.push(Phrase { places: vec![], score: run.iter().map(score).sum() });
        }
        found[i].places.push(place.clone());
    }
    // The sort is stable: ties stay in the order of the text.
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found
}

/// The words of phrases as phrases of their own, one per place, with the scores of those that they come from: finer steps where
/// responses have few phrases.
pub fn key_words(phrases: &[Phrase]) -> Vec<Phrase> {
    let mut words: Vec<Phrase> = vec![];
    for phrase in phrases {
        let places = phrase.places.iter().flat_map(|place| place.clone());
        words.extend(places.map(|i| Phrase::word(i, phrase.score)));
    }
    words.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.places[0].start.cmp(&b.places[0].start)));
    words
}

/// Phrases that go at a degree: `ceil(degree n / (grades - 1))` of `n`.
fn removed(degree: usize, grades: usize, n: usize) -> usize {
    (degree * n).div_ceil((grades - 1).max(1)).min(n)
}

/// The words without the first `count` of the phrases, in order.
pub fn remove_top<T: Clone>(words: &[T], phrases: &[Phrase], count: usize) -> Vec<T> {
    let gone = |i: usize| phrases.iter().take(count).flat_map(|p| &p.places).any(|place| place.contains(&i));
    words.iter().enumerate().filter(|(i, _)| !gone(*i)).map(|(_, word)| word.clone()).collect()
}

/// The words at each degree from 0 (untouched) to `grades - 1` (without any of the phrases). None where degrees would be the same (fewer
/// phrases than steps) or where nothing would be left.
pub fn grades<T: Clone>(words: &[T], phrases: &[Phrase], grades: usize) -> Option<Vec<Vec<T>>> {
    if grades < 2 || phrases.len() < grades - 1 {
        return None;
    }
    let all: Vec<Vec<T>> = (0..grades).map(|d| remove_top(words, phrases, removed(d, grades, phrases.len()))).collect();
    all.iter().all(|words| !words.is_empty()).then_some(all)
}

/// The head that tells the degree: layer norm and a linear map that starts at zero, so that at the first step it gives no gradient to
/// what is below.
#[derive(Debug)]
pub struct DegreeHead {
    norm: nn::LayerNorm,
    linear: nn::Linear,
}

impl DegreeHead {
    /// For states of a width and so many degrees. Give it variables of its own if the policy's are to be saved without it.
    ///
    /// # Errors
    /// A width below 1, fewer than two degrees.
    pub fn new(p: Path, width: i64, grades: i64) -> Result<Self> {
        check_range("width", width as f64, 1.0..)?;
        check_range("grades", grades as f64, 2.0..)?;
        let zero = nn::LinearConfig { ws_init: nn::Init::Const(0.0), bs_init: Some(nn::Init::Const(0.0)), bias: true };
        Ok(Self {
            norm: nn::layer_norm(&p / "norm", vec![width], Default::default()),
            linear: nn::linear(&p / "degree", width, grades, zero),
        })
    }

    /// Logits `[B, G]` of states `[B, D]`.
    ///
    /// # Errors
    /// Another shape.
    pub fn forward(&self, states: &Tensor) -> Result<Tensor> {
        let width = self.linear.ws.size()[1];
        match states.size()[..] {
            [_, w] if w == width => Ok(self.linear.forward(&self.norm.forward(states))),
            _ => Err(Error::shape("states", format!("[B, {width}]"), states)),
        }
    }
}

/// States at the last token of each sequence, `[B, D]`: from hidden states `[B, T, D]` and the mask `[B, T]` (Bool) of the tokens that
/// are no padding.
///
/// # Errors
/// Shapes that differ.
pub fn last_states(hidden: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let (b, t, width) = match hidden.size()[..] {
        [b, t, width] => (b, t, width),
        _ => return Err(Error::shape("hidden states", "[B, T, D]", hidden)),
    };
    if mask.size() != [b, t] || mask.kind() != Kind::Bool {
        return Err(Error::shape("mask", format!("Bool [{b}, {t}]"), mask));
    }
    // The last true place: the largest of the places times the mask.
    let places = Tensor::arange(t, (Kind::Int64, hidden.device())).unsqueeze(0) * mask.to_kind(Kind::Int64);
    let last = places.amax([1i64].as_slice(), false);
    Ok(hidden.gather(1, &last.view([b, 1, 1]).expand([b, 1, width], false), false).squeeze_dim(1))
}

fn check_degrees(logits: &Tensor, degrees: &Tensor) -> Result<()> {
    let (n, _) = check_matrix("logits", logits)?;
    if degrees.size() != [n] || degrees.kind() != Kind::Int64 {
        return Err(Error::shape("degrees", format!("Int64 [{n}]"), degrees));
    }
    Ok(())
}

/// Cross-entropy of each response's degree, `[B]`, in nats, from logits `[B, G]` and degrees `[B]`.
///
/// # Errors
/// Shapes that differ; on the CPU, degrees outside `0..G`.
pub fn degree_loss(logits: &Tensor, degrees: &Tensor) -> Result<Tensor> {
    check_degrees(logits, degrees)?;
    Ok(logits.f_cross_entropy_loss::<Tensor>(degrees, None, tch::Reduction::None, -100, 0.0)?)
}

/// Squared error of the expected share of removed content, `[B]`: `(sum_k softmax(logits)_k k/(G-1) - d/(G-1))^2`. Degrees that are
/// nearly right cost less than in [`degree_loss`].
///
/// # Errors
/// Shapes that differ; (on the CPU) degrees outside `0..G`.
pub fn ordinal_degree_loss(logits: &Tensor, degrees: &Tensor) -> Result<Tensor> {
    check_degrees(logits, degrees)?;
    check_values("degrees", degrees, 0.0..logits.size()[1] as f64)?;
    let steps = (logits.size()[1] - 1).max(1) as f64;
    let shares = Tensor::arange(logits.size()[1], (logits.kind(), logits.device())) / steps;
    let expected = logits.softmax(-1, logits.kind()).matmul(&shares);
    Ok((expected - degrees.to_kind(logits.kind()) / steps).square())
}

/// The loss with degree awareness: `preference + gamma degree`, of two means. With a gamma of 0 it is the preference loss to the bit.
///
/// # Errors
/// A gamma below 0, losses that are not numbers of one element.
pub fn with_degree(preference: &Tensor, degree: &Tensor, gamma: f64) -> Result<Tensor> {
    check_range("gamma", gamma, 0.0..)?;
    for (what, loss) in [("preference loss", preference), ("degree loss", degree)] {
        if loss.numel() != 1 {
            return Err(Error::shape(what, "one number: a mean", loss));
        }
    }
    Ok(if gamma == 0.0 { preference.shallow_clone() } else { preference + degree * gamma })
}

/// Share of responses whose reward falls with every degree: `rewards[i]` are those of response `i` by degree.
pub fn monotonicity(rewards: &[Vec<f64>]) -> f64 {
    let falling = rewards.iter().filter(|r| r.windows(2).all(|w| w[1] < w[0])).count();
    falling as f64 / rewards.len().max(1) as f64
}
