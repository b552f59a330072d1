//! Writes text of the synthetic language to standard output, and its entropy to standard error.
//!
//! `cargo run --release -p autodidact-datasets --example grammar -- [BYTES]`

use anyhow::Context;
use autodidact_datasets::synthetic::Grammar;

fn main() -> anyhow::Result<()> {
    let bytes = std::env::args().nth(1).map_or(Ok(2000), |a| a.parse()).context("BYTES is a number")?;
    let grammar = Grammar::default();
    let entropy = grammar.entropy()?;
    print!("{}", grammar.text(bytes, 0)?);
    eprintln!(
        "{:.3} bits ({:.3} nats) per character, {:.1} bits and {:.1} characters per line",
        entropy.bits_per_char,
        entropy.bits_per_char * std::f64::consts::LN_2,
        entropy.bits_per_line,
        entropy.chars_per_line
    );
    Ok(())
}
