//! GRU4Rec and NARM.

use super::recommender::{Recommender, RecommenderConfig};
use autodidact_core::Result;
use autodidact_core::nn::layers;
use tch::Tensor;
use tch::nn::{self, GRU, Init, Linear, Module, Path, RNN};

/// Additive attention of the last state over all earlier ones.
#[derive(Debug)]
struct Local {
    query: Linear,
    key: Linear,
    energy: Linear,
}

/// A gated recurrent unit of width `2 d` on embedded items; scores by the items' embeddings through a bilinear form. With attention it is
/// NARM: the state is joined with a sum of all states so far, weighted by `v . sigmoid(A h_t + B h_j)`.
#[derive(Debug)]
pub struct GruRecommender {
    config: RecommenderConfig,
    tokens: Tensor,
    gru: GRU,
    local: Option<Local>,
    decoder: Linear,
}

impl GruRecommender {
    /// Fresh weights under `p`; `attention` makes it NARM.
    ///
    /// # Errors
    /// As [`RecommenderConfig::check`].
    pub fn new(p: &Path, config: &RecommenderConfig, attention: bool) -> Result<Self> {
        config.check()?;
        let (d, hidden) = (config.width, 2 * config.width);
        let tokens = p.var("tokens", &[config.items + 1, d], Init::Randn { mean: 0.0, stdev: 0.02 });
        let bound = 1.0 / (hidden as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        let rnn = nn::RNNConfig {
            w_ih_init: init,
            w_hh_init: init,
            b_ih_init: Some(init),
            b_hh_init: Some(init),
            ..Default::default()
        };
        let gru = nn::gru(p / "gru", d, hidden, rnn);
        let local = attention.then(|| Local {
            query: layers::linear(p / "query", hidden, hidden, false),
            key: layers::linear(p / "key", hidden, hidden, false),
            energy: layers::linear(p / "energy", hidden, 1, false),
        });
        let joined = if attention { 2 * hidden } else { hidden };
        Ok(Self { config: *config, tokens, gru, local, decoder: layers::linear(p / "decoder", joined, d, false) })
    }
}

impl Recommender for GruRecommender {
    fn items(&self) -> i64 {
        self.config.items
    }

    fn context(&self) -> i64 {
        self.config.context
    }

    fn states(&self, sequences: &Tensor, train: bool) -> Tensor {
        let embedded = Tensor::embedding(&self.tokens, sequences, -1, false, false).dropout(self.config.dropout, train);
        let (h, _) = self.gru.seq(&embedded);
        let joined = match &self.local {
            None => h,
            Some(Local { query, key, energy }) => {
                // Of prefix t over states j <= t: [B, T, T].
                let sum = query.forward(&h).unsqueeze(2) + key.forward(&h).unsqueeze(1);
                let weights = energy.forward(&sum.sigmoid()).squeeze_dim(-1).tril(0);
                Tensor::cat(&[&weights.matmul(&h), &h], 2)
            }
        };
        self.decoder.forward(&joined.dropout(self.config.dropout, train))
    }

    fn project(&self, states: &Tensor) -> Tensor {
        states.matmul(&self.tokens.narrow(0, 1, self.config.items).tr())
    }
}
