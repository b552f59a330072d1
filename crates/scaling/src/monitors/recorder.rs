//! Values of many steps, read together.

use autodidact_core::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Keeps scalars of steps where they are, and reads a whole window of them at once.
///
/// ```
/// use autodidact_scaling::monitors::Recorder;
/// use tch::Tensor;
/// let mut window = Recorder::new(&["max logit", "loss"]);
/// window.push(&[Tensor::from(3.0), Tensor::from(2.5)]).unwrap();
/// window.push(&[Tensor::from(7.0), Tensor::from(1.5)]).unwrap();
/// let columns = window.take().unwrap();
/// assert_eq!(columns, [("max logit", vec![3.0, 7.0]), ("loss", vec![2.5, 1.5])]);
/// assert!(window.is_empty());
/// ```
#[derive(Debug)]
pub struct Recorder {
    names: Vec<&'static str>,
    rows: Vec<Tensor>,
}

impl Recorder {
    /// For scalars of these names.
    pub fn new(names: &[&'static str]) -> Self {
        Self { names: names.to_vec(), rows: vec![] }
    }

    /// Keeps the scalars of a step, in the order of the names; their graphs are dropped.
    ///
    /// # Errors
    /// Another number of values, or some that are no scalars.
    pub fn push(&mut self, values: &[Tensor]) -> Result<()> {
        if values.len() != self.names.len() {
            return Err(Error::value(
                "values of a step",
                format!("{} ({:?})", self.names.len(), self.names),
                values.len(),
            ));
        }
        if let Some(bad) = values.iter().find(|v| v.numel() != 1) {
            return Err(Error::shape("value of a step", "a scalar", bad));
        }
        let values: Vec<Tensor> = values.iter().map(|v| v.detach().to_kind(Kind::Double).reshape([])).collect();
        self.rows.push(Tensor::stack(&values, 0));
        Ok(())
    }

    /// Whether no step is kept.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The values by name, oldest first, read from the device in one go; the recorder is empty afterwards.
    ///
    /// # Errors
    /// A device that fails.
    pub fn take(&mut self) -> Result<Vec<(&'static str, Vec<f64>)>> {
        let rows = std::mem::take(&mut self.rows);
        let columns: Vec<f64> = match rows.is_empty() {
            true => vec![],
            false => Tensor::stack(&rows, 1).contiguous().view(-1).to_device(Device::Cpu).try_into()?,
        };
        let count = rows.len();
        let column = |i: usize| columns[i * count..(i + 1) * count].to_vec();
        Ok(self.names.iter().enumerate().map(|(i, name)| (*name, column(i))).collect())
    }
}
