//! A backbone with two heads.

use autodidact_core::error::check_range;
use autodidact_core::nn::layers;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch::nn::{BatchNorm, Linear, Module, ModuleT, Path};

/// Shape of an [`AuxHead`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuxHeadConfig {
    /// A linear classifier: for a teacher and a student of one family.
    Linear,
    /// A hidden layer: for networks of different families.
    Mlp {
        /// Width of the hidden layer.
        hidden: i64,
        /// Probability with which a hidden unit is dropped, in `[0, 1)`.
        dropout: f64,
    },
}

impl AuxHeadConfig {
    /// The published nonlinear head: 200 hidden units, dropout 0.1.
    pub fn mlp() -> Self {
        Self::Mlp { hidden: 200, dropout: 0.1 }
    }
}

/// The head that takes the logit loss, `[B, D] -> [B, C]`; dropped after training. Initialise it after the main head, so that the student starts
/// as it would without it.
#[derive(Debug)]
pub struct AuxHead {
    hidden: Option<(Linear, f64, BatchNorm)>,
    classifier: Linear,
}

impl AuxHead {
    /// Fresh weights under `p`, of features of width `features`, in PyTorch's default initialisation.
    ///
    /// # Errors
    /// Widths that are not positive, a dropout outside `[0, 1)`.
    pub fn new(p: Path, features: i64, classes: i64, config: AuxHeadConfig) -> Result<Self> {
        let mut widths = vec![features, classes];
        if let AuxHeadConfig::Mlp { hidden, dropout } = config {
            widths.push(hidden);
            check_range("dropout of the auxiliary head", dropout, 0.0..1.0)?;
        }
        if widths.iter().any(|w| *w < 1) {
            return Err(Error::value("widths of the auxiliary head", "positive widths", format!("{widths:?}")));
        }
        let (hidden, width) = match config {
            AuxHeadConfig::Linear => (None, features),
            AuxHeadConfig::Mlp { hidden, dropout } => {
                let linear = layers::linear(&p / "hidden", features, hidden, true);
                (Some((linear, dropout, layers::batch_norm1d(&p / "norm", hidden))), hidden)
            }
        };
        Ok(Self { hidden, classifier: layers::linear(&p / "classifier", width, classes, true) })
    }
}

impl ModuleT for AuxHead {
    fn forward_t(&self, features: &Tensor, train: bool) -> Tensor {
        match &self.hidden {
            None => self.classifier.forward(features),
            Some((linear, dropout, norm)) => {
                // Dropout before batch norm, as published.
                let x = linear.forward(features).dropout(*dropout, train);
                self.classifier.forward(&norm.forward_t(&x, train).relu())
            }
        }
    }
}

/// A student in training: a backbone, the main head, which classifies, and an auxiliary head. As a module it gives the main head's logits.
#[derive(Debug)]
pub struct DualHead<B> {
    backbone: B,
    main: Linear,
    auxiliary: AuxHead,
}

impl<B: ModuleT> DualHead<B> {
    /// Heads with fresh weights under `main` and `aux`, the main one first, for a backbone that gives features `[B, features]`.
    ///
    /// # Errors
    /// As [`AuxHead::new`].
    pub fn new(p: &Path, backbone: B, features: i64, classes: i64, config: AuxHeadConfig) -> Result<Self> {
        if features < 1 || classes < 1 {
            return Err(Error::value("features and classes", "positive numbers", format!("{features}, {classes}")));
        }
        let main = layers::linear(p / "main", features, classes, true);
        Ok(Self { backbone, main, auxiliary: AuxHead::new(p / "aux", features, classes, config)? })
    }

    /// Logits `[B, C]` of the main and of the auxiliary head, in training mode; one pass through the backbone.
    pub fn forward_train(&self, x: &Tensor) -> (Tensor, Tensor) {
        let features = self.backbone.forward_t(x, true);
        (self.main.forward(&features), self.auxiliary.forward_t(&features, true))
    }

    /// What is kept after training: the backbone and the main head.
    pub fn into_student(self) -> (B, Linear) {
        (self.backbone, self.main)
    }
}

impl<B: ModuleT> ModuleT for DualHead<B> {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.main.forward(&self.backbone.forward_t(x, train))
    }
}
