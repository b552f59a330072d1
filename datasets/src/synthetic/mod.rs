//! Data with known properties: text of known entropy, arithmetic that can be checked, interactions from a known Markov chain,
//! sentences with a known reward, and judgements of them.

mod arithmetic;
mod garland;
mod grammar;
mod judging;
mod markov;

pub use arithmetic::{Arithmetic, Task};
pub use garland::{Garland, GarlandPrompt, GarlandReward, illegal_transitions, repeated_words};
pub use grammar::{Entropy, Grammar};
pub use judging::{Criterion, GarlandFacts, JudgedResponse};
pub use markov::{MarkovInteractions, MarkovShop};
