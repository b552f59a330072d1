//! Variational autoencoders of embeddings.

use crate::classifier::{Training, derived};
use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::nn::{Mlp, MlpConfig};
use autodidact_core::optim::sorted_trainables;
use autodidact_core::{Result, seed};
use tch::nn::{ModuleT, VarStore};
use tch::{Kind, Tensor};

/// What the decoder ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecoderOutput {
    /// Nothing: embeddings have no bounds.
    Linear,
    /// A sigmoid, as in the official code: it cannot reach most embeddings, which keeps the distances large and their gradient small.
    Sigmoid,
}

/// Shape and training of an [`EmbeddingVae`].
#[derive(Debug, Clone, PartialEq)]
pub struct VaeConfig {
    /// Widths between embedding and latent code (the decoder has them in reverse).
    pub hidden: Vec<i64>,
    /// Width of the latent code.
    pub latent: i64,
    /// End of the decoder.
    pub output: DecoderOutput,
    /// Weight of the divergence from the prior.
    pub kl: f64,
    /// Training; the weight decay is that of Adam.
    pub training: Training,
}

impl Default for VaeConfig {
    /// The paper's for embeddings of 256.
    fn default() -> Self {
        let training = Training { epochs: 10, batch: 32, lr: 1e-3, weight_decay: 0.0, seed: 0 };
        Self { hidden: vec![128, 32], latent: 8, output: DecoderOutput::Linear, kl: 0.025, training }
    }
}

/// An autoencoder `e -> (mu, ln sigma^2) -> z = mu + sigma eps -> e_hat` with ReLU networks on both sides.
#[derive(Debug)]
pub struct EmbeddingVae {
    encoder: Mlp,
    decoder: Mlp,
    latent: i64,
    output: DecoderOutput,
    vs: VarStore,
}

/// What an [`EmbeddingVae`] makes of embeddings.
#[derive(Debug)]
pub struct Reconstruction {
    /// `[N, D]`.
    pub embedding: Tensor,
    /// Mean of the code, `[N, latent]`.
    pub mu: Tensor,
    /// Logarithm of its variance, `[N, latent]`.
    pub log_variance: Tensor,
}

/// `KL(N(mu, sigma^2) || N(0, 1)) = -1/2 (ln sigma^2 + 1 - mu^2 - sigma^2)`, summed over all elements.
pub fn divergence_from_prior(mu: &Tensor, log_variance: &Tensor) -> Tensor {
    (log_variance + 1.0 - mu.square() - log_variance.exp()).sum(mu.kind()) * -0.5
}

impl EmbeddingVae {
    /// Fits an autoencoder (in f32) to embeddings `[N, D]`: minimises `(|e_hat - e|^2 + kl * KL) / B`. Draws weights and noise from libtorch's
    /// generator, which it seeds from the training's seed.
    ///
    /// # Errors
    /// Embeddings that are no matrix, widths that are not positive, settings outside their ranges, a loss that is not finite.
    pub fn fit(embeddings: &Tensor, config: &VaeConfig) -> Result<Self> {
        let (n, d) = check_matrix("embeddings", embeddings)?;
        check_range("width of the latent code", config.latent as f64, 1.0..)?;
        check_range("weight of the divergence", config.kl, 0.0..)?;
        let e = embeddings.detach().to_kind(Kind::Float);
        seed::seed_torch(derived(config.training.seed, "autoencoder"), &[]);
        let vs = VarStore::new(e.device());
        let widths: Vec<i64> = [d].into_iter().chain(config.hidden.iter().copied()).collect();
        let down: Vec<i64> = widths.iter().copied().chain([2 * config.latent]).collect();
        let up: Vec<i64> = [config.latent].into_iter().chain(widths.into_iter().rev()).collect();
        let mut vae = Self {
            encoder: Mlp::new(vs.root() / "encoder", &MlpConfig::plain(&down))?,
            decoder: Mlp::new(vs.root() / "decoder", &MlpConfig::plain(&up))?,
            latent: config.latent,
            output: config.output,
            vs,
        };
        config.training.minimise(sorted_trainables(&vae.vs), n as usize, e.device(), |_, rows| {
            let batch = e.index_select(0, rows);
            let r = vae.reconstruct(&batch, &vae.noise(&batch))?;
            let error = (&r.embedding - &batch).square().sum(batch.kind());
            Ok((error + config.kl * divergence_from_prior(&r.mu, &r.log_variance)) / batch.size()[0] as f64)
        })?;
        // What it has learnt stays; gradients still pass through it.
        vae.vs.freeze();
        Ok(vae)
    }

    /// Noise of the code for embeddings `[N, D]`: `[N, latent]`, from libtorch's generator.
    pub fn noise(&self, e: &Tensor) -> Tensor {
        Tensor::randn([e.size()[0], self.latent], (e.kind(), e.device()))
    }

    /// Reconstructs embeddings `[N, D]` with given noise `[N, latent]` (zeros: from the mean of the code).
    ///
    /// # Errors
    /// Embeddings or noise of other shapes.
    pub fn reconstruct(&self, e: &Tensor, noise: &Tensor) -> Result<Reconstruction> {
        let code = self.encoder.forward_t(e, false).chunk(2, 1);
        let [mu, log_variance] = [&code[0], &code[1]].map(Tensor::shallow_clone);
        let z = &mu + (&log_variance * 0.5).exp().f_mul(noise)?;
        let out = self.decoder.forward_t(&z, false);
        let embedding = match self.output {
            DecoderOutput::Linear => out,
            DecoderOutput::Sigmoid => out.sigmoid(),
        };
        Ok(Reconstruction { embedding, mu, log_variance })
    }

    /// Its variables, frozen once fitted.
    pub fn store(&self) -> &VarStore {
        &self.vs
    }

    /// Mean of the distances `|e_hat - e|^2` of embeddings `[N, D]`, without noise.
    ///
    /// # Errors
    /// As [`reconstruct`](Self::reconstruct).
    pub fn mean_distance(&self, e: &Tensor) -> Result<f64> {
        let r =
            tch::no_grad(|| self.reconstruct(e, &Tensor::zeros([e.size()[0], self.latent], (e.kind(), e.device()))))?;
        Ok((r.embedding - e)
            .square()
            .sum_dim_intlist([1i64].as_slice(), false, e.kind())
            .mean(Kind::Double)
            .double_value(&[]))
    }
}
