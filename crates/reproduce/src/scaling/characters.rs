//! The chosen text as characters.

use crate::experiment::Plan;
use anyhow::Result;
use autodidact_core::text::{CharTokenizer, Tokenizer};
use autodidact_datasets::load_text;

/// A text, and the tokenizer of its characters.
pub(super) struct Characters {
    pub tokenizer: CharTokenizer,
    pub tokens: Vec<i64>,
}

impl Characters {
    /// The text of a plan; the tokenizer knows the characters of `further` texts as well.
    pub fn load(plan: &Plan, further: &str) -> Result<Self> {
        Self::of(&plan.dataset, plan, further)
    }

    /// Of a text that the chosen data set does not name.
    pub fn of(name: &str, plan: &Plan, further: &str) -> Result<Self> {
        let text = load_text(name, plan.data_dir.as_deref(), plan.download)?;
        let tokenizer = CharTokenizer::from_text(&[text.as_str(), further].concat())?;
        Ok(Self { tokens: tokenizer.encode(&text)?, tokenizer })
    }

    pub fn vocab(&self) -> i64 {
        self.tokenizer.vocab()
    }

    /// Nine tenths for training, the rest for validation.
    pub fn split(&self) -> (&[i64], &[i64]) {
        self.tokens.split_at(self.tokens.len() / 10 * 9)
    }
}
