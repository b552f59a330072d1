//! The benchmark harness: an [`Entry`] is our work and, beside it, the same work done by the package a user would otherwise
//! pick; [`measure()`] times the two in turns and gives the ratio with its interval; a [`Record`] is what a run leaves.
//!
//! Criterion times one function at a time: a peer measured minutes later, on a machine that meanwhile became busier, gives a
//! ratio of two machines. Here both sides take turns of a few hundredths of a second in the same run, so that what slows one
//! slows the other, and the quantity of interest, the ratio of the medians, is estimated directly, by resampling whole rounds.
//! The peer lives in a Python process that answers one JSON line per turn ([`Peer`]) and times itself, so the pipe costs
//! nothing. The first call of both sides returns a number that must agree: the two do the same work, and do it right.

pub mod entry;
pub mod machine;
pub mod measure;
pub mod peer;
pub mod record;

pub use entry::{Beside, Entry, Point, Work};
pub use measure::{Effort, Measured, Pace, Verdict, measure};
pub use peer::Peer;
pub use record::{AtSize, Growth, Record};
