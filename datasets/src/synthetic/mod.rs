//! Data with known properties: text of known entropy, arithmetic that can be checked, interactions from a known Markov chain.

mod arithmetic;
mod grammar;
mod markov;

pub use arithmetic::{Arithmetic, Task};
pub use grammar::{Entropy, Grammar};
pub use markov::{MarkovInteractions, MarkovShop};
