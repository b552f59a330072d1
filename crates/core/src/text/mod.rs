//! Text: tokenizers, batches of token windows, log-probabilities of given tokens, batched sampling.

mod log_probs;
mod sample;
mod tokenizer;
mod windows;

pub use log_probs::{response_log_probs, selected_log_probs};
pub use sample::{Sampler, SamplerConfig};
pub use tokenizer::{CharTokenizer, HfTokenizer, Tokenizer, pad};
pub use windows::Windows;
