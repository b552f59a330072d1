//! A probabilistic grammar whose entropy is known exactly.

use autodidact_core::error::check_range;
use autodidact_core::seed::{Rng, derive, rng};
use autodidact_core::{Error, Result};
use rand::RngExt;
use std::collections::HashSet;

/// A made-up language: lines of a play whose speakers, sentences and words follow a probabilistic grammar.
///
/// ```text
/// LINE    -> Speaker ": " CLAUSE ".\n"  |  Speaker ": " CLAUSE " and " CLAUSE ".\n"
/// CLAUSE  -> NP(n) VP(n)                                          n singular or plural, as likely as the other
/// VP(n)   -> Verb(n)  |  Verb(n) NP(m)
/// NP(n)   -> Article(n) PHRASE(n)
/// PHRASE  -> Noun(n)  |  Adjective PHRASE(n)  |  Noun(n) " that " VP(n)
/// ```
///
/// Every level has something to learn: spelling (words are made of syllables; each class has words of one length),
/// agreement of article, noun and verb in number (over any distance: relative clauses nest), speakers (the next one
/// depends on the last, each prefers other nouns), and collocations (which verb or adjective follows which noun or verb
/// is a habit of the language).
///
/// Each choice of a word takes rank `r` with probability proportional to `r^-zipf` in an order of the class that the
/// context (speaker or previous word) names. Words of different classes differ, so a text has one derivation only, and
/// its entropy is that of the choices. [`Grammar::entropy`] gives it in closed form; `zipf` moves it: 0 makes words
/// uniform, large values make them predictable.
///
/// ```
/// use autodidact_datasets::synthetic::Grammar;
/// let grammar = Grammar::default();
/// let text = grammar.text(2_000, 0)?;
/// assert_eq!(text.len(), 2_000);
/// let predictable = Grammar { zipf: 3.0, ..Grammar::default() };
/// assert!(predictable.entropy()?.bits_per_char < grammar.entropy()?.bits_per_char);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Grammar {
    /// Number of speakers, 1 to 26.
    pub speakers: usize,
    /// Number of nouns, 1 to 1,000.
    pub nouns: usize,
    /// Number of verbs, 1 to 1,000.
    pub verbs: usize,
    /// Number of adjectives, 1 to 1,000.
    pub adjectives: usize,
    /// Exponent of the word frequencies, 0 to 10.
    pub zipf: f64,
    /// Probability of a second clause in a line.
    pub second_clause: f64,
    /// Probability of an object behind a verb.
    pub object: f64,
    /// Probability of one more adjective.
    pub adjective: f64,
    /// Probability of a relative clause behind a noun.
    pub relative: f64,
    /// Names the language: its words and habits.
    pub language: u64,
}

impl Default for Grammar {
    /// 8 speakers, 60 nouns, 60 verbs, 30 adjectives, Zipf exponent 1.2.
    fn default() -> Self {
        Self {
            speakers: 8,
            nouns: 60,
            verbs: 60,
            adjectives: 30,
            zipf: 1.2,
            second_clause: 0.25,
            object: 0.6,
            adjective: 0.3,
            relative: 0.2,
            language: 0,
        }
    }
}

/// The entropy rate of a [`Grammar`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entropy {
    /// Bits per character (of all characters, blanks and line ends included): the loss of a perfect model.
    pub bits_per_char: f64,
    /// Bits per line.
    pub bits_per_line: f64,
    /// Mean length of a line in characters.
    pub chars_per_line: f64,
}

/// Classes of words with a length of their own; a plural noun or singular verb has one letter more.
const SPEAKER: (usize, usize) = (0, 5);
const NOUN: (usize, usize) = (1, 5);
const VERB: (usize, usize) = (2, 4);
const ADJECTIVE: (usize, usize) = (3, 6);
/// Singular and plural, of one length.
const ARTICLES: [&str; 2] = ["the", "few"];

/// Expected bits and characters of a part of a line.
#[derive(Clone, Copy)]
struct Cost {
    bits: f64,
    chars: f64,
}

impl std::ops::Add for Cost {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { bits: self.bits + other.bits, chars: self.chars + other.chars }
    }
}

impl std::ops::Mul<Cost> for f64 {
    type Output = Cost;
    fn mul(self, cost: Cost) -> Cost {
        Cost { bits: self * cost.bits, chars: self * cost.chars }
    }
}

fn chars(chars: f64) -> Cost {
    Cost { bits: 0.0, chars }
}

/// Entropy of a yes with probability `p`, in bits.
fn coin(p: f64) -> Cost {
    let part = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    Cost { bits: part(p) + part(1.0 - p), chars: 0.0 }
}

impl Grammar {
    fn check(&self) -> Result<()> {
        for (what, n, most) in [
            ("speakers", self.speakers, 26),
            ("nouns", self.nouns, 1000),
            ("verbs", self.verbs, 1000),
            ("adjectives", self.adjectives, 1000),
        ] {
            if !(1..=most).contains(&n) {
                return Err(Error::value(what, format!("1 to {most}"), n));
            }
        }
        check_range("zipf", self.zipf, 0.0..=10.0)?;
        check_range("second_clause", self.second_clause, 0.0..=1.0)?;
        check_range("object", self.object, 0.0..=1.0)?;
        check_range("adjective", self.adjective, 0.0..=0.9)?;
        check_range("relative", self.relative, 0.0..=0.9)
    }

    /// The exact entropy rate.
    ///
    /// Expected bits and characters of the grammar's parts solve one linear equation: with `a`, `o`, `r` the
    /// probabilities of an adjective, object and relative clause, `VP = verb + o NP` and `NP = article + a/(1-a)
    /// adjective + noun + r VP`.
    pub fn entropy(&self) -> Result<Entropy> {
        self.check()?;
        let word = |n: usize, (_, length): (usize, usize), extra: f64| Cost {
            bits: self.weights(n).iter().map(|p| -p * p.log2()).sum(),
            chars: length as f64 + extra,
        };
        let more = self.adjective / (1.0 - self.adjective);
        // Each noun phrase tosses for an adjective once more than it has adjectives. Half of the verbs and nouns carry
        // an ending.
        let adjectives = (more + 1.0) * coin(self.adjective) + more * (word(self.adjectives, ADJECTIVE, 1.0));
        let noun = word(self.nouns, NOUN, 0.5) + coin(self.relative);
        // Article and blank have four characters, " that " six.
        let noun_phrase = chars(ARTICLES[0].len() as f64 + 1.0) + adjectives + noun + self.relative * chars(6.0);
        let verb = word(self.verbs, VERB, 0.5) + coin(self.object);
        // An object phrase costs a blank and its number.
        let verb_phrase =
            1.0 / (1.0 - self.object * self.relative) * (verb + self.object * (chars(1.0) + coin(0.5) + noun_phrase));
        let clause = coin(0.5) + noun_phrase + self.relative * verb_phrase + chars(1.0) + verb_phrase;
        let line = word(self.speakers, SPEAKER, 0.0)
            + coin(self.second_clause)
            + chars(": ".len() as f64 + ".\n".len() as f64)
            + clause
            + self.second_clause * (chars(" and ".len() as f64) + clause);
        Ok(Entropy { bits_per_char: line.bits / line.chars, bits_per_line: line.bits, chars_per_line: line.chars })
    }

    /// A text of `bytes` bytes (ASCII), from its own stream `seed`.
    pub fn text(&self, bytes: usize, seed: u64) -> Result<String> {
        let (mut text, _) = self.lines_until(bytes, seed)?;
        text.truncate(bytes);
        Ok(text)
    }

    /// Whole lines of at least `bytes` bytes together, and the surprisal of all choices in bits.
    fn lines_until(&self, bytes: usize, seed: u64) -> Result<(String, f64)> {
        self.check()?;
        let mut writer = Writer {
            grammar: self,
            words: self.words(),
            weights: [self.speakers, self.nouns, self.verbs, self.adjectives].map(|n| self.weights(n)),
            rng: rng(derive(self.language, &["grammar-text"]), &[&seed.to_string()]),
            text: String::with_capacity(bytes + 200),
            bits: 0.0,
            speaker: 0,
            previous: 0,
        };
        while writer.text.len() < bytes {
            writer.line();
        }
        Ok((writer.text, writer.bits))
    }

    /// Probabilities of ranks 1 to `n`.
    fn weights(&self, n: usize) -> Vec<f64> {
        let raw: Vec<f64> = (1..=n).map(|r| (r as f64).powf(-self.zipf)).collect();
        let sum: f64 = raw.iter().sum();
        raw.into_iter().map(|p| p / sum).collect()
    }

    /// The words of each class: syllables of the language, no word twice in any class or form.
    fn words(&self) -> [Vec<String>; 4] {
        let mut rng = rng(self.language, &["grammar-words"]);
        let mut taken: HashSet<String> = ["and", "that"].into_iter().chain(ARTICLES).map(String::from).collect();
        let mut class = |n: usize, (_, length): (usize, usize)| {
            let mut words = Vec::with_capacity(n);
            while words.len() < n {
                let word = spell(length, &mut rng);
                // No stem ends in the ending "s", so inflected forms differ as well.
                if taken.insert(word.clone()) {
                    words.push(word);
                }
            }
            words
        };
        let mut speakers = class(self.speakers, SPEAKER);
        speakers.iter_mut().for_each(|name| name[..1].make_ascii_uppercase());
        [speakers, class(self.nouns, NOUN), class(self.verbs, VERB), class(self.adjectives, ADJECTIVE)]
    }
}

/// A word of alternating consonants and vowels.
fn spell(length: usize, rng: &mut Rng) -> String {
    let pick = |letters: &[u8], rng: &mut Rng| char::from(letters[rng.random_range(0..letters.len())]);
    let start = rng.random_range(0..2);
    (0..length).map(|i| if (i + start) % 2 == 0 { pick(b"bdfgklmnprtv", rng) } else { pick(b"aeiou", rng) }).collect()
}

/// A text in the making.
struct Writer<'a> {
    grammar: &'a Grammar,
    words: [Vec<String>; 4],
    weights: [Vec<f64>; 4],
    rng: Rng,
    text: String,
    bits: f64,
    speaker: usize,
    /// The last content word: its number over all classes.
    previous: usize,
}

impl Writer<'_> {
    fn line(&mut self) {
        self.speaker = self.word(SPEAKER, self.speaker);
        self.text += ": ";
        self.clause();
        if self.toss(self.grammar.second_clause) {
            self.text += " and ";
            self.clause();
        }
        self.text += ".\n";
    }

    fn clause(&mut self) {
        let plural = self.toss(0.5);
        self.noun_phrase(plural);
        self.text.push(' ');
        self.verb_phrase(plural);
    }

    fn noun_phrase(&mut self, plural: bool) {
        self.text += ARTICLES[usize::from(plural)];
        self.text.push(' ');
        while self.toss(self.grammar.adjective) {
            self.content(ADJECTIVE, self.previous);
            self.text.push(' ');
        }
        self.content(NOUN, self.speaker);
        if plural {
            self.text.push('s');
        }
        if self.toss(self.grammar.relative) {
            self.text += " that ";
            self.verb_phrase(plural);
        }
    }

    fn verb_phrase(&mut self, plural: bool) {
        self.content(VERB, self.previous);
        if !plural {
            self.text.push('s');
        }
        if self.toss(self.grammar.object) {
            self.text.push(' ');
            let plural = self.toss(0.5);
            self.noun_phrase(plural);
        }
    }

    fn toss(&mut self, p: f64) -> bool {
        let yes = self.rng.random_bool(p);
        self.bits -= if yes { p } else { 1.0 - p }.log2();
        yes
    }

    /// A content word, which becomes the context of the next.
    fn content(&mut self, class: (usize, usize), context: usize) {
        self.previous = class.0 * 1000 + self.word(class, context);
    }

    /// Writes a word of a class, its rank drawn and looked up in the order of the context.
    fn word(&mut self, (class, _): (usize, usize), context: usize) -> usize {
        let weights = &self.weights[class];
        let mut left = self.rng.random::<f64>();
        let mut rank = 0;
        while rank + 1 < weights.len() && left >= weights[rank] {
            left -= weights[rank];
            rank += 1;
        }
        self.bits -= weights[rank].log2();
        let index = self.permute(class, context, rank);
        self.text += &self.words[class][index];
        index
    }

    /// The word of `rank` in the order that a context has of a class: a keyed Feistel network, so that no table of all
    /// contexts is needed.
    fn permute(&self, class: usize, context: usize, rank: usize) -> usize {
        let n = self.words[class].len();
        let key = (self.grammar.language << 24) ^ ((class as u64) << 16) ^ context as u64;
        let half = usize::BITS - (n - 1).leading_zeros();
        let half = half.div_ceil(2).max(1);
        let mask = (1usize << half) - 1;
        let mut x = rank;
        // Cycle walking: outside the class, go on until the network leads back into it.
        loop {
            let (mut left, mut right) = (x >> half, x & mask);
            for round in 0..4u64 {
                let hash = (right as u64 ^ key.rotate_left(16 * round as u32) ^ round)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .rotate_left(29)
                    .wrapping_mul(0xbf58_476d_1ce4_e5b9);
                (left, right) = (right, left ^ ((hash >> 32) as usize & mask));
            }
            x = (left << half) | right;
            if x < n {
                return x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_entropy_is_the_mean_surprisal() {
        for grammar in [
            Grammar::default(),
            Grammar { zipf: 0.0, relative: 0.5, object: 0.8, ..Default::default() },
            Grammar { zipf: 2.5, adjective: 0.0, second_clause: 1.0, speakers: 1, language: 3, ..Default::default() },
        ] {
            let expected = grammar.entropy().unwrap();
            let (text, bits) = grammar.lines_until(1_000_000, 0).unwrap();
            let lines = text.lines().count() as f64;
            let close = |got: f64, expected: f64| assert!((got / expected - 1.0).abs() < 0.015, "{got} {expected}");
            close(bits / lines, expected.bits_per_line);
            close(text.len() as f64 / lines, expected.chars_per_line);
            assert!((bits / text.len() as f64 / expected.bits_per_char - 1.0).abs() < 0.004);
        }
    }

    #[test]
    fn word_counts_have_the_conditional_entropy_of_the_ranks() {
        // Of the text alone: the entropy of a noun given its speaker, where the noun is the first of the line.
        let grammar = Grammar { adjective: 0.0, nouns: 20, ..Default::default() };
        let text = grammar.text(2_000_000, 1).unwrap();
        let (mut pairs, mut speakers) = (HashMap::new(), HashMap::new());
        for line in text.lines() {
            let mut words = line.split(' ');
            let (Some(speaker), Some(_), Some(noun)) = (words.next(), words.next(), words.next()) else { continue };
            let Some(stem) = noun.get(..NOUN.1) else { continue };
            *pairs.entry((speaker, stem)).or_insert(0.0) += 1.0;
            *speakers.entry(speaker).or_insert(0.0) += 1.0;
        }
        let total: f64 = speakers.values().sum();
        let measured: f64 = pairs.iter().map(|((s, _), n): (_, &f64)| -n / total * (n / speakers[s]).log2()).sum();
        let expected: f64 = grammar.weights(20).iter().map(|p| -p * p.log2()).sum();
        assert!((measured - expected).abs() < 0.02, "{measured} {expected}");
    }

    #[test]
    fn a_text_has_one_derivation() {
        let words = Grammar { nouns: 1000, verbs: 1000, adjectives: 1000, ..Default::default() }.words();
        let [_, nouns, verbs, adjectives] = &words;
        let forms =
            nouns.iter().chain(verbs).flat_map(|w| [w.clone(), format!("{w}s")]).chain(adjectives.iter().cloned());
        let all: Vec<String> = forms.collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }

    #[test]
    fn the_order_of_a_context_is_a_permutation_of_its_own() {
        let grammar = Grammar::default();
        let writer = Writer {
            grammar: &grammar,
            words: grammar.words(),
            weights: Default::default(),
            rng: rng(0, &[]),
            text: String::new(),
            bits: 0.0,
            speaker: 0,
            previous: 0,
        };
        let order = |context| (0..60).map(|rank| writer.permute(NOUN.0, context, rank)).collect::<Vec<_>>();
        assert_eq!(order(3).iter().collect::<HashSet<_>>().len(), 60);
        let firsts: HashSet<usize> = (0..100).map(|context| order(context)[0]).collect();
        assert!(firsts.len() > 35, "100 contexts prefer only {} of 60 words", firsts.len());
    }

    #[test]
    fn texts_of_a_seed_agree_and_bad_settings_are_named() {
        let grammar = Grammar::default();
        assert_eq!(grammar.text(500, 1).unwrap(), grammar.text(900, 1).unwrap()[..500]);
        assert_ne!(grammar.text(500, 1).unwrap(), grammar.text(500, 2).unwrap());
        let e = Grammar { nouns: 0, ..grammar }.text(10, 0).unwrap_err().to_string();
        assert_eq!(e, "nouns: expected 1 to 1000, got 0");
    }
}
