//! Text with known properties: a grammar of known entropy, and arithmetic that can be checked.

mod arithmetic;
mod grammar;

pub use arithmetic::{Arithmetic, Task};
pub use grammar::{Entropy, Grammar};
