//! The one error type of the library crates.

use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};

/// What went wrong, with what was expected and what came instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor (or slice) of the wrong shape or size.
    #[error("{what}: expected {expected}, got shape {got:?}")]
    Shape {
        /// The argument at fault.
        what: String,
        /// The shape that would have been accepted, in words or brackets.
        expected: String,
        /// The shape that came.
        got: Vec<i64>,
    },
    /// A number, name or setting outside its range.
    #[error("{what}: expected {expected}, got {got}")]
    Value {
        /// The argument at fault.
        what: String,
        /// The range or set of accepted values.
        expected: String,
        /// The value that came.
        got: String,
    },
    /// The operating system refused a file operation.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason. (No `source`: it is in the message, which a chain of errors would say twice.)
        reason: std::io::Error,
    },
    /// A file that is there but does not hold what its format promises.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the format requires at this place.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// An error raised inside libtorch.
    #[error("libtorch: {}", first_line(.0))]
    Torch(tch::TchError),
    /// Training whose loss is no longer finite.
    #[error("the loss became {loss} at step {step} of {total}; lower the learning rate or clip the gradients")]
    Diverged {
        /// NaN or an infinity.
        loss: f64,
        /// Step, from 0.
        step: usize,
        /// Steps of the run.
        total: usize,
    },
    /// A computation that cannot go on (a singular system, a failed fit).
    #[error("{0}")]
    Failed(String),
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error)
    }
}

/// libtorch's messages go on with a C++ stack trace, which says nothing to a user.
fn first_line(error: &tch::TchError) -> String {
    let text = match error {
        tch::TchError::Torch(text) => text.clone(),
        other => other.to_string(),
    };
    text.lines().next().unwrap_or_default().to_owned()
}

/// `std::result::Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// [`Error::Shape`] for `tensor`.
    pub fn shape(what: impl Into<String>, expected: impl Into<String>, tensor: &tch::Tensor) -> Self {
        Self::Shape { what: what.into(), expected: expected.into(), got: tensor.size() }
    }

    /// [`Error::Value`].
    pub fn value(what: impl Into<String>, expected: impl Into<String>, got: impl ToString) -> Self {
        Self::Value { what: what.into(), expected: expected.into(), got: got.to_string() }
    }

    /// [`Error::Io`] at `path`.
    pub fn io(path: impl AsRef<Path>, reason: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_owned(), reason }
    }

    /// [`Error::Format`] of `path`.
    pub fn format(path: impl AsRef<Path>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Format { path: path.as_ref().to_owned(), expected: expected.into(), found: found.into() }
    }
}

/// Checks that a number is finite and inside `range`, for the doors of public functions.
pub fn check_range(what: &str, value: f64, range: impl RangeBounds<f64> + std::fmt::Debug) -> Result<()> {
    if value.is_finite() && range.contains(&value) { Ok(()) } else { Err(Error::value(what, in_words(&range), value)) }
}

/// A range as a user reads it: `f64::MIN_POSITIVE..` is written where 0 is not allowed.
fn in_words(range: &(impl RangeBounds<f64> + std::fmt::Debug)) -> String {
    match (range.start_bound(), range.end_bound()) {
        (Bound::Unbounded, Bound::Unbounded) => "a finite number".to_owned(),
        (Bound::Included(&f64::MIN_POSITIVE), high) => match high {
            Bound::Unbounded => "a finite number above 0".to_owned(),
            Bound::Included(high) => format!("a finite number above 0 and at most {high}"),
            Bound::Excluded(high) => format!("a finite number above 0 and below {high}"),
        },
        _ => format!("a finite number in {range:?}"),
    }
}

/// Checks that all values of a tensor are finite and inside `range`. They are looked at on the CPU only: elsewhere a look would hold up
/// the device at every call.
pub fn check_values(
    what: &str,
    tensor: &tch::Tensor,
    range: impl RangeBounds<f64> + std::fmt::Debug + Clone,
) -> Result<()> {
    if tensor.device() == tch::Device::Cpu && tensor.numel() > 0 {
        for bound in [tensor.min(), tensor.max()] {
            check_range(what, bound.double_value(&[]), range.clone())?;
        }
    }
    Ok(())
}

/// Checks that `tensor` lies on `device`, where the other inputs are.
pub fn check_device(what: &str, tensor: &tch::Tensor, device: tch::Device) -> Result<()> {
    if tensor.device() == device {
        Ok(())
    } else {
        Err(Error::value(what, format!("a tensor on the device {device:?}"), format!("one on {:?}", tensor.device())))
    }
}

/// Checks that `tensor` is a floating-point matrix and returns its rows and columns.
pub fn check_matrix(what: &str, tensor: &tch::Tensor) -> Result<(i64, i64)> {
    match tensor.size()[..] {
        [n, d] if tensor.is_floating_point() => Ok((n, d)),
        [_, _] => Err(Error::value(what, "a floating-point tensor", format!("{:?}", tensor.kind()))),
        _ => Err(Error::shape(what, "[N, D]", tensor)),
    }
}

/// Checks that `labels` is an integer vector of `n` class indices.
pub fn check_labels(what: &str, labels: &tch::Tensor, n: i64) -> Result<()> {
    if labels.size() != [n] {
        return Err(Error::shape(what, format!("[{n}]"), labels));
    }
    if labels.kind() != tch::Kind::Int64 {
        return Err(Error::value(what, "Int64 class indices", format!("{:?}", labels.kind())));
    }
    Ok(())
}

/// Checks that `labels` is a vector of `n` class indices, at least one, all (looked at on the CPU only, as by [`check_values`]) in
/// `0..classes`.
pub fn check_class_indices(what: &str, labels: &tch::Tensor, n: i64, classes: i64) -> Result<()> {
    check_labels(what, labels, n)?;
    if n == 0 {
        return Err(Error::value(what, format!("one or more in 0..{classes}"), "none"));
    }
    if labels.device() != tch::Device::Cpu {
        return Ok(());
    }
    let (low, high) = (labels.min().int64_value(&[]), labels.max().int64_value(&[]));
    if low < 0 || high >= classes {
        return Err(Error::value(
            what,
            format!("class indices in 0..{classes}"),
            format!("values from {low} to {high}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_was_expected_and_what_came() {
        let t = tch::Tensor::zeros([2, 3, 4], (tch::Kind::Float, tch::Device::Cpu));
        let e = check_matrix("za", &t).unwrap_err();
        assert_eq!(e.to_string(), "za: expected [N, D], got shape [2, 3, 4]");
        let e = check_range("momentum", f64::NAN, 0.0..1.0).unwrap_err();
        assert_eq!(e.to_string(), "momentum: expected a finite number in 0.0..1.0, got NaN");
        assert!(check_range("momentum", 0.9, 0.0..1.0).is_ok());
        let said = |e: Result<()>| e.unwrap_err().to_string();
        assert_eq!(said(check_range("tau", 0.0, f64::MIN_POSITIVE..)), "tau: expected a finite number above 0, got 0");
        let share = said(check_range("top_p", 2.0, f64::MIN_POSITIVE..=1.0));
        assert_eq!(share, "top_p: expected a finite number above 0 and at most 1, got 2");
        assert_eq!(said(check_range("r", f64::INFINITY, ..)), "r: expected a finite number, got inf");
    }

    #[test]
    fn a_chain_of_errors_says_each_reason_once() {
        use std::error::Error as _;
        let e = Error::io("a.json", std::io::Error::from(std::io::ErrorKind::NotFound));
        assert_eq!(e.to_string(), "a.json: entity not found");
        assert!(e.source().is_none());
    }
}
