//! Sequences to put to the victim. The sampler and the signal are reconstructions of the paper's from their descriptions.

use super::black_box::{BlackBox, Labelled};
use super::recommender::{Fitting, Recommender, RecommenderConfig, check_sequences, fit};
use super::transformer::SasRec;
use autodidact_core::error::check_range;
use autodidact_core::nn::layers;
use autodidact_core::seed::{derive, seed_torch};
use autodidact_core::{Error, Result};
use tch::nn::{Linear, Module, VarStore};
use tch::{Kind, Reduction, Tensor};

/// The probabilistic interaction sampler: a SASRec that has learned from the few known histories how users go on.
#[derive(Debug)]
pub struct InteractionSampler {
    model: SasRec,
    temperature: f64,
    _weights: VarStore,
}

impl InteractionSampler {
    /// Learns from the known histories `[F, T]`; every tenth (at least one) decides when to stop.
    ///
    /// # Errors
    /// Fewer than two histories, or those that the model cannot read; settings out of range.
    pub fn fit(histories: &Tensor, config: &RecommenderConfig, fitting: &Fitting, seed: u64) -> Result<Self> {
        let (f, _) = check_sequences(histories, config.items, config.context)?;
        check_range("known histories", f as f64, 2.0..)?;
        let vs = VarStore::new(histories.device());
        seed_torch(seed, &["sampler", "init"]);
        let model = SasRec::new(&vs.root(), config)?;
        let held = (f / 10).max(1);
        let (learned, held_out) = (histories.narrow(0, held, f - held), histories.narrow(0, 0, held));
        fit(&vs, &model, &learned, Some(&held_out), fitting, derive(seed, &["sampler"]))?;
        Ok(Self { model, temperature: 1.0, _weights: vs })
    }

    /// States `[B, T, D]` after each prefix.
    fn states(&self, sequences: &Tensor) -> Tensor {
        self.model.states(sequences, false)
    }

    /// Probabilities `[B, items]` of what follows whole sequences `[B, T]` without padding.
    pub fn probabilities(&self, sequences: &Tensor) -> Tensor {
        let last = self.states(sequences).select(1, sequences.size()[1] - 1);
        (self.model.project(&last) / self.temperature).softmax(-1, Kind::Float)
    }
}

/// The synthesis determinant signal: from the sampler's state, the probability that a user's next item is in the victim's list.
#[derive(Debug)]
pub struct SynthesisSignal {
    layer: Linear,
    _weights: VarStore,
}

impl SynthesisSignal {
    /// A logistic regression on the states after the known histories' prefixes. The target of a prefix is whether the true next item is in the
    /// list; the sampler gets no gradient.
    ///
    /// # Errors
    /// Histories of one item, settings out of range.
    pub fn fit(sampler: &InteractionSampler, known: &Labelled, fitting: &Fitting, seed: u64) -> Result<Self> {
        let t = known.sequences.size()[1];
        if t < 2 {
            return Err(Error::shape("known histories", "two or more items", &known.sequences));
        }
        let states = tch::no_grad(|| sampler.states(&known.sequences.narrow(1, 0, t - 1)));
        let next = known.sequences.narrow(1, 1, t - 1);
        let inside = known.lists.narrow(1, 0, t - 1).eq_tensor(&next.unsqueeze(2)).any_dim(2, false);
        let there = next.gt(0).view([-1]).nonzero().view([-1]);
        let x = states.view([-1, states.size()[2]]).index_select(0, &there);
        let y = inside.to_kind(Kind::Float).view([-1]).index_select(0, &there);
        let vs = VarStore::new(known.sequences.device());
        seed_torch(seed, &["signal", "init"]);
        let layer = layers::linear(vs.root() / "signal", x.size()[1], 1, true);
        let loss = |rows: &Tensor| {
            let z = layer.forward(&x.index_select(0, rows)).squeeze_dim(1);
            Ok(z.binary_cross_entropy_with_logits::<Tensor>(&y.index_select(0, rows), None, None, Reduction::Mean))
        };
        fitting.run(&vs, x.size()[0], derive(seed, &["signal"]), loss, |_| Ok(()))?;
        Ok(Self { layer, _weights: vs })
    }

    /// `z [B]` after whole sequences `[B, T]` without padding.
    pub fn probability(&self, sampler: &InteractionSampler, sequences: &Tensor) -> Tensor {
        let last = sampler.states(sequences).select(1, sequences.size()[1] - 1);
        self.layer.forward(&last).squeeze_dim(1).sigmoid()
    }
}

/// When the next item comes from the victim's list.
#[derive(Debug, Clone, Copy)]
pub enum Follow<'a> {
    /// Always (`z = 1`).
    Always,
    /// Never (`z = 0`): from all items.
    Never,
    /// With the signal's probability.
    Signal(&'a SynthesisSignal, &'a InteractionSampler),
}

/// Grows sequences item by item, asking the victim for a list after each. Uniform draws that never follow are random sequences; that
/// always follow, autoregressive data-free extraction.
#[derive(Debug, Clone, Copy)]
pub struct Generator<'a> {
    /// What items are drawn by; uniformly without one.
    pub sampler: Option<&'a InteractionSampler>,
    /// Whether they come from the list.
    pub follow: Follow<'a>,
}

impl Generator<'_> {
    /// Sequences `[Q, length]` that begin with `starts [Q]`, with the lists of all prefixes: `Q * length` queries.
    ///
    /// # Errors
    /// Starts of another shape or unknown items, no length; what the victim refuses.
    pub fn generate(&self, victim: &BlackBox<'_>, starts: &Tensor, length: i64, seed: u64) -> Result<Labelled> {
        check_range("length", length as f64, 1.0..)?;
        if starts.dim() != 1 {
            return Err(Error::shape("starts", "[Q]", starts));
        }
        let _guard = tch::no_grad_guard();
        seed_torch(seed, &["generate"]);
        let (q, device) = (starts.size()[0], starts.device());
        let (mut sequences, mut lists) = (starts.unsqueeze(1), vec![]);
        loop {
            let t = sequences.size()[1];
            let list = victim.top_k(&sequences, &Tensor::full([q], t, (Kind::Int64, device)))?;
            lists.push(list.unsqueeze(1));
            if t == length {
                return Ok(Labelled { sequences, lists: Tensor::cat(&lists, 1) });
            }
            let p = match self.sampler {
                Some(sampler) => sampler.probabilities(&sequences),
                None => Tensor::ones([q, victim.items()], (Kind::Float, device)),
            };
            let z = match self.follow {
                Follow::Always => Tensor::ones([q], (Kind::Float, device)),
                Follow::Never => Tensor::zeros([q], (Kind::Float, device)),
                Follow::Signal(signal, sampler) => signal.probability(sampler, &sequences),
            };
            let inside = p.zeros_like().scatter_value(1, &(&list - 1), 1.0);
            let follows = Tensor::rand([q], (Kind::Float, device)).lt_tensor(&z).unsqueeze(1);
            // Restricted probabilities may all be tiny; a floor keeps every listed item possible.
            let restricted = (&p + 1e-12) * inside;
            let next = restricted.where_self(&follows, &p).multinomial(1, false) + 1;
            sequences = Tensor::cat(&[sequences, next], 1);
        }
    }
}
