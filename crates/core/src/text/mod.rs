//! Text: tokenizers, batches of token windows, batched sampling.

mod sample;
mod tokenizer;
mod windows;

pub use sample::{Sampler, SamplerConfig};
pub use tokenizer::{CharTokenizer, HfTokenizer, Tokenizer, pad, pad_left};
pub use windows::Windows;
