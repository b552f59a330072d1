//! Text: tokenizers, chat templates, batches of token windows, log-probabilities of given tokens, batched sampling,
//! stems.

mod batches;
mod chat;
mod log_probs;
mod porter;
mod sample;
mod tokenizer;
mod windows;

pub use batches::{pack_responses, pad_responses};
pub use chat::{ChatTemplate, Message};
pub use log_probs::{response_log_probs, response_log_probs_after, response_loss, selected_log_probs};
pub use porter::porter_stem;
pub use sample::{Sampler, SamplerConfig};
pub use tokenizer::{CharTokenizer, HfTokenizer, Tokenizer, WordTokenizer, pad, pad_left};
pub use windows::Windows;
