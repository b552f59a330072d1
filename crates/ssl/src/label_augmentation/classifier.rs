//! The heads on a shared representation, for SLA and for what the paper compares it with.

use super::{
    SlaLoss, aggregate_logits, average_logits, check_m, data_augmentation_loss, multitask_loss, single_logits,
};
use autodidact_core::nn::layers;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch::nn::{Linear, Module, Path};

/// What is learned from the transformed copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// The class of the untransformed image; there are no other copies.
    Baseline,
    /// The class of every copy.
    DataAugmentation,
    /// The class of every copy and, by a second head, its transformation.
    MultiTask,
    /// The joint label of every copy.
    Sla,
    /// The joint label, with the aggregate distilled into a second head.
    SelfDistilled,
}

/// Linear heads on representations `[., d]`. A batch has `M` rows for each image ([`super::InputTransform::apply_all`]), or one
/// in [`Mode::Baseline`].
#[derive(Debug)]
pub struct Classifier {
    mode: Mode,
    m: i64,
    main: Linear,
    second: Option<Linear>,
}

impl Classifier {
    /// Fresh heads for `classes` classes and `m` transformations.
    ///
    /// # Errors
    /// Sizes below 1; the baseline with more than one transformation.
    pub fn new(p: Path, mode: Mode, features: i64, classes: i64, m: i64) -> Result<Self> {
        check_m(m)?;
        if features < 1 || classes < 1 {
            return Err(Error::value("features and classes", "at least 1", features.min(classes)));
        }
        if mode == Mode::Baseline && m > 1 {
            return Err(Error::value("transformations of the baseline", "1", m));
        }
        let (main, second) = match mode {
            Mode::Baseline | Mode::DataAugmentation => (classes, None),
            Mode::MultiTask => (classes, Some(m)),
            Mode::Sla => (classes * m, None),
            Mode::SelfDistilled => (classes * m, Some(classes)),
        };
        let head = |name: &str, width| layers::linear(&p / name, features, width, true);
        Ok(Self { mode, m, main: head("main", main), second: second.map(|width| head("second", width)) })
    }

    fn second(&self, z: &Tensor) -> Result<Tensor> {
        match &self.second {
            Some(head) => Ok(head.forward(z)),
            None => Err(Error::value("mode", "one with two heads", format!("{:?}", self.mode))),
        }
    }

    /// The mode's loss of representations `[B*M, d]` and classes `[B]`.
    ///
    /// # Errors
    /// Shapes that do not go together, classes outside the range.
    pub fn loss(&self, config: &SlaLoss, z: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (m, main) = (self.m, self.main.forward(z));
        match self.mode {
            Mode::Baseline | Mode::DataAugmentation => data_augmentation_loss(&main, y, m),
            Mode::MultiTask => multitask_loss(&main, &self.second(z)?, y, m),
            Mode::Sla => config.forward(&main, y, m),
            Mode::SelfDistilled => {
                // Only the untransformed copies reach the second head.
                let single = self.second(&z.unflatten(0, [-1, m]).select(1, 0))?;
                Ok(config.self_distilled(&main, &single, y, m)?.total)
            }
        }
    }

    /// Class logits `[B, N]` from the untransformed copies alone, representations `[B, d]`: one forward pass per image.
    ///
    /// # Errors
    /// As [`single_logits`].
    pub fn single(&self, z: &Tensor) -> Result<Tensor> {
        match self.mode {
            Mode::Sla => single_logits(&self.main.forward(z), self.m, 0),
            Mode::SelfDistilled => self.second(z),
            _ => Ok(self.main.forward(z)),
        }
    }

    /// Class logits `[B, N]` averaged over all copies, representations `[B*M, d]`.
    ///
    /// # Errors
    /// As [`aggregate_logits`].
    pub fn aggregate(&self, z: &Tensor) -> Result<Tensor> {
        match self.mode {
            Mode::Sla | Mode::SelfDistilled => aggregate_logits(&self.main.forward(z), self.m),
            _ => average_logits(&self.main.forward(z), self.m),
        }
    }

    /// Joint logits `[., N*M]`, where the mode has them.
    pub fn joint(&self, z: &Tensor) -> Option<Tensor> {
        matches!(self.mode, Mode::Sla | Mode::SelfDistilled).then(|| self.main.forward(z))
    }
}
