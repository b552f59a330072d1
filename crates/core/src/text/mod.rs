//! Text: tokenizers, chat templates, batches of token windows, batched sampling.

mod chat;
mod sample;
mod tokenizer;
mod windows;

pub use chat::{ChatTemplate, Message};
pub use sample::{Sampler, SamplerConfig};
pub use tokenizer::{CharTokenizer, HfTokenizer, Tokenizer, pad, pad_left};
pub use windows::Windows;
