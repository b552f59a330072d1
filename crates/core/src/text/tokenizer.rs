//! Tokenizers.

use crate::{Error, Result};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use tch::{Device, Tensor};

/// Text to token indices and back.
pub trait Tokenizer {
    /// Number of tokens.
    fn vocab(&self) -> i64;

    /// Token indices of a text.
    ///
    /// # Errors
    /// Text that the vocabulary cannot express.
    fn encode(&self, text: &str) -> Result<Vec<i64>>;

    /// Text of token indices.
    ///
    /// # Errors
    /// Indices outside the vocabulary.
    fn decode(&self, tokens: &[i64]) -> Result<String>;
}

/// One token per character, numbered in the order of code points.
///
/// ```
/// use autodidact_core::text::{CharTokenizer, Tokenizer};
/// let t = CharTokenizer::from_text("banana").unwrap();
/// assert_eq!(t.encode("nab").unwrap(), [2, 0, 1]);
/// assert_eq!(t.decode(&[1, 0, 2]).unwrap(), "ban");
/// assert_eq!(t.encode("bat").unwrap_err().to_string(), "text: expected one of the 3 known characters, got 't'");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CharTokenizer {
    chars: Vec<char>,
}

impl CharTokenizer {
    /// The characters of a text.
    ///
    /// # Errors
    /// An empty text.
    pub fn from_text(text: &str) -> Result<Self> {
        let chars: Vec<char> = text.chars().collect::<BTreeSet<_>>().into_iter().collect();
        if chars.is_empty() { Err(Error::value("text", "at least one character", "none")) } else { Ok(Self { chars }) }
    }
}

impl Tokenizer for CharTokenizer {
    fn vocab(&self) -> i64 {
        self.chars.len() as i64
    }

    fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let unknown =
            |c| Error::value("text", format!("one of the {} known characters", self.chars.len()), format!("{c:?}"));
        text.chars().map(|c| self.chars.binary_search(&c).map(|i| i as i64).map_err(|_| unknown(c))).collect()
    }

    fn decode(&self, tokens: &[i64]) -> Result<String> {
        let unknown = |t| Error::value("token", format!("an index below {}", self.chars.len()), t);
        tokens
            .iter()
            .map(|&t| usize::try_from(t).ok().and_then(|i| self.chars.get(i)).copied().ok_or_else(|| unknown(t)))
            .collect()
    }
}

/// One token per word: special tokens first, then words in the order in which they were given. Words are what single spaces separate.
///
/// ```
/// use autodidact_core::text::{Tokenizer, WordTokenizer};
/// let t = WordTokenizer::new(&["<pad>", "<end>"], "who knows who ?".split(' ')).unwrap();
/// assert_eq!(t.encode("who ? <end>").unwrap(), [2, 4, 1]);
/// assert_eq!(t.decode(&[3, 2]).unwrap(), "knows who");
/// assert_eq!(t.encode("whom").unwrap_err().to_string(), "text: expected one of the 5 known words, got \"whom\"");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordTokenizer {
    words: Vec<String>,
    index: HashMap<String, i64>,
}

impl WordTokenizer {
    /// Special tokens and words; those that were there already count once.
    ///
    /// # Errors
    /// No words, or one that is empty or holds a space.
    pub fn new<S: AsRef<str>>(special: &[&str], words: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut tokenizer = Self { words: vec![], index: HashMap::new() };
        for word in special {
            tokenizer.add(word)?;
        }
        for word in words {
            tokenizer.add(word.as_ref())?;
        }
        if tokenizer.words.is_empty() { Err(Error::value("words", "one at least", "none")) } else { Ok(tokenizer) }
    }

    fn add(&mut self, word: &str) -> Result<()> {
        if word.is_empty() || word.contains(' ') {
            return Err(Error::value("word", "one without spaces, not empty", format!("{word:?}")));
        }
        if !self.index.contains_key(word) {
            self.index.insert(word.to_owned(), self.words.len() as i64);
            self.words.push(word.to_owned());
        }
        Ok(())
    }

    /// Index of a word, if it is known.
    pub fn token(&self, word: &str) -> Option<i64> {
        self.index.get(word).copied()
    }
}

impl Tokenizer for WordTokenizer {
    fn vocab(&self) -> i64 {
        self.words.len() as i64
    }

    fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let unknown =
            |w| Error::value("text", format!("one of the {} known words", self.words.len()), format!("{w:?}"));
        text.split(' ').map(|w| self.token(w).ok_or_else(|| unknown(w))).collect()
    }

    fn decode(&self, tokens: &[i64]) -> Result<String> {
        let unknown = |t| Error::value("token", format!("an index below {}", self.words.len()), t);
        let word = |&t: &i64| usize::try_from(t).ok().and_then(|i| self.words.get(i)).ok_or_else(|| unknown(t));
        let words = tokens.iter().map(word).collect::<Result<Vec<_>>>()?;
        Ok(words.iter().map(|w| w.as_str()).collect::<Vec<_>>().join(" "))
    }
}

/// A tokenizer in Hugging Face's `tokenizer.json` format.
#[derive(Debug, Clone)]
pub struct HfTokenizer {
    inner: tokenizers::Tokenizer,
}

impl HfTokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// A file that is missing or of another format.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|e| Error::format(path, "a Hugging Face tokenizer.json", e.to_string()))?;
        Ok(Self { inner })
    }

    /// Index of a token such as `<|endoftext|>`, if the vocabulary has it.
    pub fn token(&self, token: &str) -> Option<i64> {
        self.inner.token_to_id(token).map(i64::from)
    }
}

impl Tokenizer for HfTokenizer {
    fn vocab(&self) -> i64 {
        self.inner.get_vocab_size(true) as i64
    }

    fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let encoding =
            self.inner.encode(text, false).map_err(|e| Error::value("text", "text that the tokenizer accepts", e))?;
        Ok(encoding.get_ids().iter().copied().map(i64::from).collect())
    }

    fn decode(&self, tokens: &[i64]) -> Result<String> {
        let ids = tokens
            .iter()
            .map(|&t| u32::try_from(t).map_err(|_| Error::value("token", "an index of the vocabulary", t)));
        let ids = ids.collect::<Result<Vec<_>>>()?;
        self.inner.decode(&ids, false).map_err(|e| Error::value("tokens", "indices of the vocabulary", e))
    }
}

/// Sequences of different lengths as one batch: indices `[B, T]`, padded on the right with `padding`, and a mask `[B, T]`
/// (bool) of the real tokens.
///
/// # Errors
/// No sequences, or only empty ones.
pub fn pad(sequences: &[Vec<i64>], padding: i64, device: Device) -> Result<(Tensor, Tensor)> {
    pad_on(sequences, padding, device, false)
}

/// As [`pad`], on the left: prompts that are continued together end at the same place.
///
/// # Errors
/// As [`pad`].
pub fn pad_left(sequences: &[Vec<i64>], padding: i64, device: Device) -> Result<(Tensor, Tensor)> {
    pad_on(sequences, padding, device, true)
}

fn pad_on(sequences: &[Vec<i64>], padding: i64, device: Device, left: bool) -> Result<(Tensor, Tensor)> {
    let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
    if longest == 0 {
        return Err(Error::value("sequences", "at least one that is not empty", sequences.len()));
    }
    let mut tokens = vec![padding; longest * sequences.len()];
    let mut mask = vec![false; tokens.len()];
    for (row, s) in sequences.iter().enumerate() {
        let from = row * longest + if left { longest - s.len() } else { 0 };
        tokens[from..from + s.len()].copy_from_slice(s);
        mask[from..from + s.len()].fill(true);
    }
    let batch = |t: Tensor| t.view([sequences.len() as i64, longest as i64]).to_device(device);
    Ok((batch(Tensor::from_slice(&tokens)), batch(Tensor::from_slice(&mask))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_keeps_the_tokens_and_marks_them() {
        let (tokens, mask) = pad(&[vec![5, 6, 7], vec![8]], 0, Device::Cpu).unwrap();
        assert_eq!(Vec::<i64>::try_from(tokens.view(-1)).unwrap(), [5, 6, 7, 8, 0, 0]);
        assert_eq!(Vec::<bool>::try_from(mask.view(-1)).unwrap(), [true, true, true, true, false, false]);
        let (tokens, mask) = pad_left(&[vec![5, 6, 7], vec![8]], 0, Device::Cpu).unwrap();
        assert_eq!(Vec::<i64>::try_from(tokens.view(-1)).unwrap(), [5, 6, 7, 0, 0, 8]);
        assert_eq!(Vec::<bool>::try_from(mask.view(-1)).unwrap(), [true, true, true, false, false, true]);
        assert!(pad(&[vec![]], 0, Device::Cpu).is_err());
    }

    #[test]
    fn a_hugging_face_file_is_read_and_a_broken_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let json = r#"{"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"},
            "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "red": 1, "fish": 2}, "unk_token": "<unk>"}}"#;
        std::fs::write(&path, json).unwrap();
        let t = HfTokenizer::from_file(&path).unwrap();
        assert_eq!(t.encode("red fish blue").unwrap(), [1, 2, 0]);
        assert_eq!((t.vocab(), t.token("fish"), t.token("cat")), (3, Some(2), None));
        assert_eq!(t.decode(&[1, 2]).unwrap(), "red fish");
        std::fs::write(&path, "{").unwrap();
        assert!(HfTokenizer::from_file(&path).unwrap_err().to_string().contains("tokenizer.json"));
        assert!(HfTokenizer::from_file(&folder.path().join("no")).is_err());
    }
}
