//! What is measured.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One call of a piece of work. The number it returns is compared with the other side's on the first call; it should cost
/// nothing to get.
pub type Work = Box<dyn FnMut() -> Result<f64>>;

/// Makes the inputs and the work, outside the timed part.
pub type Prepare = Box<dyn FnOnce() -> Result<Work>>;

/// What our work is compared with.
pub enum Beside {
    /// A function of `peers/work`.
    Python {
        /// Its name.
        work: &'static str,
        /// Its keyword arguments, an object.
        arguments: Value,
    },
    /// Other work of ours.
    Ours(Prepare),
}

/// A place in a series over problem sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The series: what is done, and the sizes that stay.
    pub series: String,
    /// The size that grows, as formulas call it: `N`, `D`, `T`, `V`.
    pub over: String,
    /// Its value.
    pub size: f64,
}

/// One line of the suite.
pub struct Entry {
    /// `area/what/sizes`; filters match any part of it.
    pub name: String,
    /// The work in words, with its sizes.
    pub what: String,
    /// Our side.
    pub ours: Prepare,
    /// The other side and what it is called.
    pub beside: Option<(&'static str, Beside)>,
    /// Largest relative difference of the two first results; `None` where each side draws at random.
    pub agreement: Option<f64>,
    /// The ratio ours/other that is aimed at, as an upper bound.
    pub target: Option<f64>,
    /// Seconds of one call of ours that are aimed at, as an upper bound.
    pub limit: Option<f64>,
    /// Whether our work is done by another process, whose memory is not watched.
    pub elsewhere: bool,
    /// How many things one call of ours goes through, and what they are: for things per second.
    pub items: Option<(f64, &'static str)>,
    /// The series over problem sizes that this entry belongs to.
    pub point: Option<Point>,
}

impl Entry {
    /// Work of ours alone; the methods below add the rest.
    pub fn new(
        name: impl Into<String>,
        what: impl Into<String>,
        ours: impl FnOnce() -> Result<Work> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            what: what.into(),
            ours: Box::new(ours),
            beside: None,
            agreement: None,
            target: None,
            limit: None,
            elsewhere: false,
            items: None,
            point: None,
        }
    }

    /// Compares with a function of `peers/work`.
    pub fn beside_python(mut self, label: &'static str, work: &'static str, arguments: Value) -> Self {
        self.beside = Some((label, Beside::Python { work, arguments }));
        self
    }

    /// Compares with other work of ours.
    pub fn beside_ours(mut self, label: &'static str, work: impl FnOnce() -> Result<Work> + 'static) -> Self {
        self.beside = Some((label, Beside::Ours(Box::new(work))));
        self
    }

    /// Demands that the first results agree to a relative difference.
    pub fn agreeing(mut self, tolerance: f64) -> Self {
        self.agreement = Some(tolerance);
        self
    }

    /// States the ratio that is aimed at.
    pub fn at_most(mut self, ratio: f64) -> Self {
        self.target = Some(ratio);
        self
    }

    /// States the seconds of one call that are aimed at.
    pub fn within_seconds(mut self, seconds: f64) -> Self {
        self.limit = Some(seconds);
        self
    }

    /// Says that our work is done by another process, whose memory is not watched.
    pub fn elsewhere(mut self) -> Self {
        self.elsewhere = true;
        self
    }

    /// Says how many things one call goes through.
    pub fn counting(mut self, count: f64, things: &'static str) -> Self {
        self.items = Some((count, things));
        self
    }

    /// Makes this the point of a series where `over` has the value `size`.
    pub fn in_series(mut self, series: &str, over: &str, size: i64) -> Self {
        self.point = Some(Point { series: series.into(), over: over.into(), size: size as f64 });
        self
    }
}
