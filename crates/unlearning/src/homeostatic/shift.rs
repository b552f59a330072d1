//! Concept shift: the labels of two classes change places, again and again.

use autodidact_core::error::check_range;
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// When labels are swapped; the count of samples starts anew with every epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spacing {
    /// A stationary stream.
    Never,
    /// After every so many samples, at the end of the minibatch.
    Every(usize),
    /// Second-order shift: the spacing itself changes, from `slow` to `fast` and back after every `epochs` epochs.
    Seasons {
        /// Spacing of the first season.
        slow: usize,
        /// Spacing of the second.
        fast: usize,
        /// Length of a season.
        epochs: usize,
    },
}

impl Spacing {
    /// The spacing in an epoch.
    pub fn at(self, epoch: usize) -> Option<usize> {
        match self {
            Self::Never => None,
            Self::Every(samples) => Some(samples),
            Self::Seasons { slow, fast, epochs } => Some(if (epoch / epochs).is_multiple_of(2) { slow } else { fast }),
        }
    }

    /// # Errors
    /// A spacing or season of 0.
    pub fn check(self) -> Result<()> {
        let check = |what: &str, n: usize| check_range(what, n as f64, 1.0..);
        match self {
            Self::Never => Ok(()),
            Self::Every(samples) => check("spacing", samples),
            Self::Seasons { slow, fast, epochs } => {
                check("slow spacing", slow)?;
                check("fast spacing", fast)?;
                check("epochs of a season", epochs)
            }
        }
    }
}

/// The labels that classes have at present: a permutation on which swaps accumulate. Images, and how many there are of each, stay.
///
/// ```
/// use autodidact_unlearning::homeostatic::ConceptShift;
/// let mut shift = ConceptShift::new(10)?;
/// shift.exchange(2, 7)?;
/// assert_eq!((shift.label(2), shift.label(7), shift.label(3)), (7, 2, 3));
/// shift.exchange(2, 7)?;
/// assert_eq!(shift, ConceptShift::new(10)?);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConceptShift {
    labels: Vec<usize>,
}

impl ConceptShift {
    /// Every class has its own label.
    ///
    /// # Errors
    /// Fewer than two classes.
    pub fn new(classes: usize) -> Result<Self> {
        check_range("classes", classes as f64, 2.0..)?;
        Ok(Self { labels: (0..classes).collect() })
    }

    /// The label of a class.
    pub fn label(&self, class: usize) -> usize {
        self.labels[class]
    }

    /// The labels of all classes.
    pub fn permutation(&self) -> &[usize] {
        &self.labels
    }

    /// Two labels change places: what was called `a` is called `b` from now on, and the other way round.
    ///
    /// # Errors
    /// A label that there is not.
    pub fn exchange(&mut self, a: usize, b: usize) -> Result<()> {
        let n = self.labels.len();
        if let Some(bad) = [a, b].into_iter().find(|l| *l >= n) {
            return Err(Error::value("label", format!("one of 0 to {}", n - 1), bad));
        }
        for label in &mut self.labels {
            *label = match *label {
                l if l == a => b,
                l if l == b => a,
                l => l,
            };
        }
        Ok(())
    }

    /// Exchanges two distinct labels, all pairs being as likely.
    pub fn swap(&mut self, rng: &mut Rng) {
        let n = self.labels.len();
        let a = rng.random_range(0..n);
        let b = (a + rng.random_range(1..n)) % n;
        self.exchange(a, b).expect("labels in range");
    }
}
