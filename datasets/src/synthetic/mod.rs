//! Data with known properties: text of known entropy, arithmetic that can be checked, interactions from a known Markov chain,
//! sentences with a known reward, and judgements of them, programs whose solutions can be checked step by step, questions about
//! pictures, facts whose frequencies follow Zipf's law, tokens of a hidden Markov chain, facts about people that do not exist,
//! sums by their digits, two languages with a known translation, an alphabet of invented characters.

mod arithmetic;
mod digit_sums;
mod fictitious_authors;
mod garland;
mod grammar;
mod hidden_markov;
mod judging;
mod markov;
mod register_machine;
mod stroke_glyphs;
mod translation_world;
mod visual_questions;
mod word_problems;
mod zipf_recall;

pub use arithmetic::{Arithmetic, Task};
pub use digit_sums::DigitSums;
pub use fictitious_authors::{FictitiousAuthors, FictitiousFacts, REFUSALS};
pub use garland::{Garland, GarlandPrompt, GarlandReward, illegal_transitions, repeated_words};
pub use grammar::{Entropy, Grammar};
pub use hidden_markov::{Filtered, HiddenMarkov, HiddenSequences};
pub use judging::{Criterion, GarlandFacts, JudgedResponse};
pub use markov::{MarkovInteractions, MarkovShop};
pub use register_machine::{RegisterCheck, RegisterMachine, RegisterOp};
pub use stroke_glyphs::{GlyphStyle, StrokeGlyphs};
pub use translation_world::{Inflected, Origin, PairBatch, ParallelLanguages, SentencePair, TranslationWorld};
pub use visual_questions::{AnswerFault, DigitOperation, DigitPairs, VisualQuestion};
pub use word_problems::word_problems;
pub use zipf_recall::{CountedBatch, RecallTable, ZipfRecall};
