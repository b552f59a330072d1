//! A vision transformer that adapters can stand beside.

use super::adapter::{AdapterConfig, AdapterSet, all_beside};
use autodidact_core::landscape::{load_state_dict, state_dict};
use autodidact_core::nn::{Vit, VitConfig};
use autodidact_core::optim::{StateDict, sorted_trainables};
use autodidact_core::{Error, Result};
use tch::nn::VarStore;
use tch::{Device, Tensor};

/// Images of a pass without gradients, all copies counted.
const ROWS: i64 = 1024;

/// A pre-trained vision transformer, frozen unless it is asked to be trained: `[N, C, side, side]` to features `[N, d]`, the class token
/// after the last norm.
#[derive(Debug)]
pub struct AdaptedVit {
    vs: VarStore,
    vit: Vit,
}

impl AdaptedVit {
    /// With weights as [`Vit`] names them.
    ///
    /// # Errors
    /// A shape that cannot be, weights that are missing or have another shape.
    pub fn new(config: &VitConfig, weights: &StateDict, device: Device) -> Result<Self> {
        let net = Self::fresh(config, device)?;
        load_state_dict(&net.vs, weights)?;
        Ok(net)
    }

    /// With weights that libtorch's generator draws.
    ///
    /// # Errors
    /// A shape that cannot be.
    pub fn fresh(config: &VitConfig, device: Device) -> Result<Self> {
        let mut vs = VarStore::new(device);
        let vit = Vit::new(vs.root(), config)?;
        vs.freeze();
        Ok(Self { vs, vit })
    }

    /// Another network of the same weights, frozen.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn copy(&self) -> Result<Self> {
        Self::new(self.vit.config(), &self.weights(), self.device())
    }

    /// The same with all weights to be trained.
    pub fn trainable(mut self) -> Self {
        self.vs.unfreeze();
        self
    }

    /// Copies of the weights.
    pub fn weights(&self) -> StateDict {
        state_dict(&self.vs)
    }

    /// Names and tensors of the weights that are trained.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        sorted_trainables(&self.vs)
    }

    /// Where it is.
    pub fn device(&self) -> Device {
        self.vs.device()
    }

    /// Width of the features.
    pub fn width(&self) -> i64 {
        self.vit.config().width
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.vit.config().depth
    }

    /// Fresh adapters for it, drawn by libtorch's generator.
    ///
    /// # Errors
    /// Settings outside their ranges.
    pub fn adapters(&self, config: AdapterConfig) -> Result<AdapterSet> {
        AdapterSet::fresh(self.depth() as i64, self.width(), config, self.device())
    }

    /// Features `[N, d]` with or without adapters; gradients are recorded for what is trained. `train` switches the adapters' dropout on.
    ///
    /// # Errors
    /// Images of another size, adapters for another network.
    pub fn features(&self, images: &Tensor, adapters: Option<&AdapterSet>, train: bool) -> Result<Tensor> {
        let patches = self.vit.embed(images)?;
        match adapters {
            None => self.vit.class_token_with(&patches, |_, _| None),
            Some(set) => {
                self.check(set)?;
                self.vit.class_token_with(&patches, set.beside(train))
            }
        }
    }

    /// The same of any number of images, in evaluation and without gradients.
    ///
    /// # Errors
    /// As [`features`](Self::features).
    pub fn frozen_features(&self, images: &Tensor, adapters: Option<&AdapterSet>) -> Result<Tensor> {
        self.in_parts(images, ROWS, |x| self.features(x, adapters, false))
    }

    /// Features of every image with every one of `sets`, `[N, sets, d]`, in evaluation and without gradients; one pass for all.
    ///
    /// # Errors
    /// As [`features`](Self::features); no adapters, or with different scales.
    pub fn features_of_all(&self, images: &Tensor, sets: &[AdapterSet]) -> Result<Tensor> {
        sets.iter().try_for_each(|s| self.check(s))?;
        let sets: Vec<&AdapterSet> = sets.iter().collect();
        let Some(first) = sets.first() else { return Err(Error::value("adapters", "a set or more", "none")) };
        if let Some(other) = sets.iter().find(|s| s.config().scale != first.config().scale) {
            let expected = format!("one scale, {}", first.config().scale);
            return Err(Error::value("adapters", expected, other.config().scale));
        }
        let count = sets.len() as i64;
        self.in_parts(images, (ROWS / count).max(1), |x| {
            let all = self.vit.class_token_with(&self.vit.embed(x)?, all_beside(&sets))?;
            Ok(all.view([count, -1, self.width()]).transpose(0, 1))
        })
    }

    fn in_parts(&self, images: &Tensor, size: i64, of: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        if images.size().first().is_none_or(|n| *n == 0) {
            return Err(Error::shape("images", "[N, C, side, side], one or more", images));
        }
        tch::no_grad(|| {
            let parts = images.split(size, 0).iter().map(of).collect::<Result<Vec<_>>>()?;
            Ok(Tensor::cat(&parts, 0))
        })
    }

    fn check(&self, set: &AdapterSet) -> Result<()> {
        let (depth, rank, width) = (self.depth() as i64, set.config().rank, self.width());
        if set.tensors()[0].size() != [depth, rank, width] {
            return Err(Error::shape("adapters", format!("[{depth}, {rank}, {width}]"), &set.tensors()[0]));
        }
        Ok(())
    }
}
