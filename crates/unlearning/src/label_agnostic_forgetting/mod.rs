//! Label-agnostic forgetting: unlearning of a classifier without labels (Shen, Zhang, Zhao, Bialkowski, Chen and Xu, 2024; arXiv
//! 2404.00506).
//!
//! Two variational autoencoders learn what embeddings look like under the original model: `h` those of all training data, `h_f` those of
//! the data to forget. The extractor is then moved by two losses in turn, each with an Adam of its own; the head stays as it is:
//!
//! - unlearning ([`unlearning_loss`]): `sum_r rho(e, h(e)) - sum_f rho(e, h_f(e))` with `rho(e, e_hat) = exp(s / (s + 1))`,
//!   `s = |e_hat - e|^2` ([`normalised_mse`]): remaining data stay where `h` knows them, data to forget leave what `h_f` knows;
//! - alignment ([`alignment_loss`]): `sum_r [d_r - ln sum_f exp(d_f / tau)]`, `d` being one minus the cosine between the embedding and that
//!   of the original model: remaining data stay where the head expects them, data to forget move away.
//!
//! With a few labels of remaining data, [`repair_head`](crate::classifier::repair_head) follows (LAF+R).
//!
//! ```
//! use autodidact_unlearning::label_agnostic_forgetting::{alignment_of_distances, normalised_mse};
//! use tch::Tensor;
//! // One embedding that is reconstructed one off in each of four dimensions: s = 4.
//! let e = Tensor::zeros([1, 4], tch::kind::DOUBLE_CPU);
//! assert!((normalised_mse(&e, &e.ones_like())?.double_value(&[]) - 2.225541).abs() < 1e-6);
//! let (remaining, forget) = (Tensor::from_slice(&[0.1, 0.2]), Tensor::from_slice(&[0.3, 0.5]));
//! assert!((alignment_of_distances(&remaining, &forget, 20.0)?.double_value(&[]) + 1.126319).abs() < 1e-6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod vae;

pub use vae::{DecoderOutput, EmbeddingVae, Reconstruction, VaeConfig, divergence_from_prior};

use crate::classifier::{Embedder, Training, derived};
use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::train::Order;
use autodidact_core::{Error, Result, seed};
use tch::{Kind, Reduction, Tensor};

/// `sum_i exp(s_i / (s_i + 1))` with `s_i = |e_hat_i - e_i|^2` (summed over the dimensions), for embeddings and their reconstructions
/// `[N, D]`. Each term lies between 1 and Euler's number.
///
/// # Errors
/// Other or different shapes.
pub fn normalised_mse(e: &Tensor, reconstruction: &Tensor) -> Result<Tensor> {
    same("reconstruction", e, reconstruction)?;
    let s = (reconstruction - e).square().sum_dim_intlist([1i64].as_slice(), false, e.kind());
    Ok((&s / (&s + 1.0)).exp().sum(e.kind()))
}

/// What the extractor's unlearning step minimises: [`normalised_mse`] of remaining data less that of data to forget, each given as
/// embeddings and reconstructions `[N, D]`.
///
/// # Errors
/// Other or different shapes.
pub fn unlearning_loss(remaining: (&Tensor, &Tensor), forget: (&Tensor, &Tensor)) -> Result<Tensor> {
    Ok(normalised_mse(remaining.0, remaining.1)? - normalised_mse(forget.0, forget.1)?)
}

/// One minus the cosine between corresponding rows of `[N, D]`, as `[N]`.
///
/// # Errors
/// Other or different shapes.
pub fn cosine_distance(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    same("second embeddings", a, b)?;
    let target = Tensor::ones([a.size()[0]], (a.kind(), a.device()));
    Ok(Tensor::f_cosine_embedding_loss(a, b, &target, 0.0, Reduction::None)?)
}

/// The alignment loss from distances of remaining data `[R]` and of data to forget `[F]`.
///
/// # Errors
/// Other shapes, a temperature that is not positive.
pub fn alignment_of_distances(remaining: &Tensor, forget: &Tensor, tau: f64) -> Result<Tensor> {
    check_range("temperature", tau, f64::MIN_POSITIVE..)?;
    for (what, d) in [("distances of remaining data", remaining), ("distances of data to forget", forget)] {
        if d.dim() != 1 || d.numel() == 0 {
            return Err(Error::shape(what, "[N], not empty", d));
        }
    }
    let pushed = (forget / tau).logsumexp([0i64].as_slice(), false);
    Ok(remaining.sum(remaining.kind()) - pushed * remaining.size()[0] as f64)
}

/// What the alignment step minimises, for embeddings `[N, D]` of remaining data and of data to forget, each given as those of the current
/// extractor and of the original one.
///
/// # Errors
/// Other or different shapes, a temperature that is not positive.
pub fn alignment_loss(remaining: (&Tensor, &Tensor), forget: (&Tensor, &Tensor), tau: f64) -> Result<Tensor> {
    let distance = |(e, original): (&Tensor, &Tensor)| cosine_distance(e, original);
    alignment_of_distances(&distance(remaining)?, &distance(forget)?, tau)
}

fn same(what: &str, a: &Tensor, b: &Tensor) -> Result<()> {
    check_matrix("embeddings", a)?;
    if a.size() != b.size() {
        return Err(Error::shape(what, format!("that of the embeddings, {:?}", a.size()), b));
    }
    Ok(())
}

/// Which of the two losses move the extractor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steps {
    /// Both, in turn: the method.
    Both,
    /// Unlearning only, an ablation.
    Unlearning,
    /// Alignment only, an ablation.
    Alignment,
}

/// Settings of [`forget`].
#[derive(Debug, Clone, PartialEq)]
pub struct LafConfig {
    /// Passes over the data to forget.
    pub epochs: usize,
    /// Samples of each kind in a step.
    pub batch: usize,
    /// Learning rate of the unlearning steps.
    pub lr_unlearning: f64,
    /// Learning rate of the alignment steps.
    pub lr_alignment: f64,
    /// Temperature of the alignment loss.
    pub tau: f64,
    /// Which steps are taken.
    pub steps: Steps,
    /// The autoencoder of all data.
    pub all: VaeConfig,
    /// The autoencoder of the data to forget.
    pub forget: VaeConfig,
    /// Order of the data and noise.
    pub seed: u64,
}

impl Default for LafConfig {
    /// The paper's for removing data from MNIST.
    fn default() -> Self {
        Self {
            epochs: 20,
            batch: 32,
            lr_unlearning: 5e-5,
            lr_alignment: 1e-4,
            tau: 5.0,
            steps: Steps::Both,
            all: VaeConfig::default(),
            forget: VaeConfig::default(),
            seed: 0,
        }
    }
}

/// Mean losses of each epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Losses {
    /// [`unlearning_loss`]; empty if such steps were not taken.
    pub unlearning: Vec<f64>,
    /// [`alignment_loss`]; empty if such steps were not taken.
    pub alignment: Vec<f64>,
}

/// Makes a classifier forget, without a label: fits both autoencoders to its embeddings (of `all` training inputs, and of those to
/// `forget`), then moves its extractor. An epoch goes once through the data to forget, beside as many batches of `remaining` ones, and ends
/// earlier if these end. The head is not touched, and layers see evaluation mode throughout.
///
/// # Errors
/// No inputs, settings outside their ranges, a loss that is not finite.
pub fn forget<M: Embedder>(
    model: &M,
    all: &Tensor,
    remaining: &Tensor,
    forget: &Tensor,
    config: &LafConfig,
) -> Result<Losses> {
    for (what, x) in [("training inputs", all), ("remaining inputs", remaining), ("inputs to forget", forget)] {
        check_range(what, x.size().first().copied().unwrap_or(0) as f64, 1.0..)?;
    }
    check_range("batch", config.batch as f64, 1.0..)?;
    check_range("temperature", config.tau, f64::MIN_POSITIVE..)?;
    let fit = |x: &Tensor, vae: &VaeConfig, purpose: &str| {
        let training = Training { seed: derived(config.seed, purpose), ..vae.training.clone() };
        EmbeddingVae::fit(&model.embeddings(x), &VaeConfig { training, ..vae.clone() })
    };
    let (h, h_f) = (fit(all, &config.all, "all")?, fit(forget, &config.forget, "forget")?);
    unlearn(model, (&h, &h_f), remaining, forget, config)
}

/// [`forget`] with autoencoders that are there.
///
/// # Errors
/// As [`forget`].
pub fn unlearn<M: Embedder>(
    model: &M,
    (h, h_f): (&EmbeddingVae, &EmbeddingVae),
    remaining: &Tensor,
    forget: &Tensor,
    config: &LafConfig,
) -> Result<Losses> {
    let device = remaining.device();
    // The original's embeddings never change.
    let (original_r, original_f) = (model.embeddings(remaining), model.embeddings(forget));
    let optimizer = || {
        let [extractor, _] = model.parts();
        Optimizer::new(Rule::Adam(Adam::default()), vec![Group::of(extractor, 0.0)])
    };
    // Moments of one loss say nothing of the other.
    let (mut first, mut second) = (optimizer()?, optimizer()?);
    let order = |x: &Tensor, purpose: &str| {
        let n = x.size()[0] as usize;
        Order::new(n, config.batch.min(n), derived(config.seed, purpose))
    };
    let (order_r, order_f) = (order(remaining, "order of remaining")?, order(forget, "order of forget")?);
    seed::seed_torch(derived(config.seed, "noise"), &[]);
    let mut losses = Losses::default();
    for epoch in 0..config.epochs {
        let (rows_r, rows_f) = (order_r.epoch(epoch), order_f.epoch(epoch));
        let mut sums = Tensor::zeros([2], (Kind::Double, device));
        let mut steps = 0;
        for (r, f) in rows_r.chunks(config.batch).zip(rows_f.chunks(config.batch)) {
            let [r, f] = [r, f].map(|rows| Tensor::from_slice(rows).to_device(device));
            let (x_r, x_f) = (remaining.index_select(0, &r), forget.index_select(0, &f));
            let both = Tensor::cat(&[&x_r, &x_f], 0);
            let sizes = [x_r.size()[0], x_f.size()[0]];
            let embed = || {
                let parts = model.embed(&both, false).split_with_sizes(sizes, 0);
                (parts[0].shallow_clone(), parts[1].shallow_clone())
            };
            let mut values = [Tensor::from(0.0), Tensor::from(0.0)].map(|v| v.to_kind(Kind::Double).to_device(device));
            if config.steps != Steps::Alignment {
                let (e_r, e_f) = embed();
                let (known, forgotten) =
                    (h.reconstruct(&e_r, &h.noise(&e_r))?, h_f.reconstruct(&e_f, &h_f.noise(&e_f))?);
                let loss = unlearning_loss((&e_r, &known.embedding), (&e_f, &forgotten.embedding))?;
                values[0] = step(&mut first, &loss, config.lr_unlearning)?;
            }
            if config.steps != Steps::Unlearning {
                let (e_r, e_f) = embed();
                let (t_r, t_f) = (original_r.index_select(0, &r), original_f.index_select(0, &f));
                let loss = alignment_loss((&e_r, &t_r), (&e_f, &t_f), config.tau)?;
                values[1] = step(&mut second, &loss, config.lr_alignment)?;
            }
            sums += Tensor::stack(&values, 0);
            steps += 1;
        }
        let means = Vec::<f64>::try_from(&(sums / f64::from(steps)))?;
        if let Some(loss) = means.iter().find(|m| !m.is_finite()) {
            return Err(Error::Diverged { loss: *loss, step: epoch, total: config.epochs });
        }
        if config.steps != Steps::Alignment {
            losses.unlearning.push(means[0]);
        }
        if config.steps != Steps::Unlearning {
            losses.alignment.push(means[1]);
        }
    }
    Ok(losses)
}

/// One step; the loss without its graph.
fn step(optimizer: &mut Optimizer, loss: &Tensor, lr: f64) -> Result<Tensor> {
    optimizer.zero_grad();
    loss.f_backward()?;
    optimizer.step(lr)?;
    Ok(loss.detach().to_kind(Kind::Double))
}
