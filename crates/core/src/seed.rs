//! Seeds: every random stream of the project comes from one function, [`derive()`].
//!
//! A stream is named by a base seed and a path of labels (paper, arm, seed, purpose, step). Streams of different names are
//! independent for all practical purposes, and the same name always gives the same stream: a resumed run needs no saved
//! generator, it derives the stream of its step again.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The generator used for everything drawn in Rust: portable, and the same on every platform and version.
pub type Rng = ChaCha8Rng;

/// Derives a 64-bit seed from a base seed and a path of labels.
///
/// Labels are length-prefixed before they are hashed, so `["ab", "c"]` and `["a", "bc"]` differ.
///
/// ```
/// use autodidact_core::seed::derive;
/// assert_eq!(derive(0, &["barlow-twins", "full"]), derive(0, &["barlow-twins", "full"]));
/// assert_ne!(derive(0, &["ab", "c"]), derive(0, &["a", "bc"]));
/// assert_ne!(derive(0, &["order"]), derive(1, &["order"]));
/// ```
pub fn derive(base: u64, path: &[&str]) -> u64 {
    let mut hash = Sha256::new();
    hash.update(base.to_le_bytes());
    for label in path {
        hash.update((label.len() as u64).to_le_bytes());
        hash.update(label.as_bytes());
    }
    u64::from_le_bytes(hash.finalize()[..8].try_into().expect("a digest has 32 bytes"))
}

/// A generator for the stream that [`derive()`] names.
pub fn rng(base: u64, path: &[&str]) -> Rng {
    Rng::seed_from_u64(derive(base, path))
}

/// Seeds libtorch's global generator (of every device) for the stream that [`derive()`] names.
///
/// libtorch has one generator per device for the whole process; calling this at the start of each step (with the step in
/// the path) makes dropout and on-device augmentation a function of the step alone.
pub fn seed_torch(base: u64, path: &[&str]) {
    tch::manual_seed(derive(base, path) as i64);
}
