//! Stored trajectories of experts.

use autodidact_core::error::check_matrix;
use autodidact_core::seed::Rng;
use autodidact_core::train::Checkpoint;
use autodidact_core::{Error, Result};
use rand::RngExt;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Trajectories of one kind of expert, each `[T+1, P]`: the parameters at the start and after every epoch.
#[derive(Debug, Default)]
pub struct TrajectoryBuffer {
    trajectories: Vec<Tensor>,
}

/// How fast an expert moves.
#[derive(Debug, Clone, PartialEq)]
pub struct Smoothness {
    /// `|theta_{e+1} - theta_e|^2` of every epoch.
    pub change: Vec<f64>,
    /// Cosine between the changes of successive epochs; one less.
    pub cosine: Vec<f64>,
}

impl Smoothness {
    /// Largest change of an epoch.
    pub fn max_change(&self) -> f64 {
        self.change.iter().copied().fold(0.0, f64::max)
    }
}

impl TrajectoryBuffer {
    /// Adds a trajectory `[T+1, P]`.
    ///
    /// # Errors
    /// Fewer than two rows, another shape than the others', values that are not finite (a diverged expert).
    pub fn push(&mut self, trajectory: Tensor) -> Result<()> {
        let (rows, _) = check_matrix("trajectory", &trajectory)?;
        if rows < 2 {
            return Err(Error::shape("trajectory", "[T+1, P] of at least one epoch", &trajectory));
        }
        if let Some(first) = self.trajectories.first().filter(|f| f.size() != trajectory.size()) {
            return Err(Error::shape("trajectory", format!("{:?}, as the others", first.size()), &trajectory));
        }
        if !bool::try_from(trajectory.isfinite().all())? {
            return Err(Error::Failed("an expert's parameters are not finite: lower its learning rate".into()));
        }
        self.trajectories.push(trajectory.detach());
        Ok(())
    }

    /// Number of experts.
    pub fn len(&self) -> usize {
        self.trajectories.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.trajectories.is_empty()
    }

    /// Epochs `T` of each expert.
    pub fn epochs(&self) -> usize {
        self.trajectories.first().map_or(0, |t| t.size()[0] as usize - 1)
    }

    /// The trajectories.
    pub fn trajectories(&self) -> &[Tensor] {
        &self.trajectories
    }

    /// A trajectory at random.
    ///
    /// # Errors
    /// An empty buffer.
    pub fn sample(&self, rng: &mut Rng) -> Result<&Tensor> {
        if self.is_empty() {
            return Err(Error::value("trajectory buffer", "at least one expert", "none"));
        }
        Ok(&self.trajectories[rng.random_range(0..self.len())])
    }

    /// How fast each expert moves.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn smoothness(&self) -> Result<Vec<Smoothness>> {
        let of = |t: &Tensor| -> Result<Smoothness> {
            let t = t.to_kind(Kind::Double);
            let epochs = t.size()[0] - 1;
            let delta = t.narrow(0, 1, epochs) - t.narrow(0, 0, epochs);
            let sum = |x: Tensor| x.sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
            let (early, late) = (delta.narrow(0, 0, epochs - 1), delta.narrow(0, 1, epochs - 1));
            let cosine = Tensor::cosine_similarity(&early, &late, 1, 1e-12);
            Ok(Smoothness { change: sum(delta.square()).try_into()?, cosine: cosine.try_into()? })
        };
        self.trajectories.iter().map(of).collect()
    }

    /// Writes all trajectories to a safetensors file, atomically.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut file = Checkpoint::default();
        let named = self.trajectories.iter().enumerate().map(|(i, t)| (format!("{i:05}"), t.shallow_clone()));
        file.insert("trajectory", named);
        file.save(path)
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds no trajectories of one shape.
    pub fn load(path: &Path, device: Device) -> Result<Self> {
        let mut buffer = Self::default();
        for t in Checkpoint::load(path, device)?.section("trajectory").into_values() {
            buffer.push(t)?;
        }
        if buffer.is_empty() {
            return Err(Error::format(path, "trajectories of experts", "none"));
        }
        Ok(buffer)
    }
}
