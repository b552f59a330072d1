//! Text: tokenizers, batches of token windows, batched sampling.

mod sample;
mod tokenizer;
mod windows;

pub use sample::{Sampler, SamplerConfig};
pub use tokenizer::{CharTokenizer, HfTokenizer, Tokenizer, pad};
pub use windows::Windows;
