//! Few-shot Model Extraction Attacks against Sequential Recommender Systems (Zhang and Liu, 2024; arXiv 2411.11677): how much a recommender
//! gives away through its ranked lists to someone who knows a few of its users' histories.
//!
//! The known histories teach a sampler how users go on and a signal when they take what the victim recommends; both grow synthetic
//! sequences, which with the victim's lists `l` train a surrogate `S` by
//!
//! `L = mean_{i<k} max(0, m1 - (S_{l_i} - S_{l_{i+1}})) + mean_i max(0, m2 - (S_{l_i} - S_{n_i})) + lambda L_repair`,
//!
//! where negatives `n` are drawn from outside of the lists. The paper's formulas of sampler, signal and repair loss are not public: the three
//! here ([`InteractionSampler`], [`SynthesisSignal`], [`bidirectional_repair_loss`]) are reconstructions from its description. The ranking
//! loss and the recommenders are those of the attack that it builds on (Yue, He, Zeng and McAuley, 2021; arXiv 2109.01165).
//!
//! ```
//! use autodidact_distill::model_extraction::{agreement_at, bidirectional_repair_loss, list_ranking_loss};
//! use tch::Tensor;
//! let scores = Tensor::from_slice2(&[[1f64, 1., 2., 0.]]);
//! let (list, negatives) = (Tensor::from_slice2(&[[1i64, 2]]), Tensor::from_slice2(&[[3i64, 4]]));
//! // Items 1 and 2 are not in order by 0.5; 1 is below 3 by 1, 2 above 4 by more than 0.5: 0.5 + (1.5 + 0)/2.
//! assert_eq!(list_ranking_loss(&scores, &list, &negatives, 0.5, 0.5).unwrap().double_value(&[]), 1.25);
//! // The surrogate's best two are 1 and 3: 2 is missed, 3 intrudes, by 1.
//! let scores = Tensor::from_slice2(&[[3f64, 1., 2., 0.]]);
//! assert_eq!(bidirectional_repair_loss(&scores, &list, 2, 0.5).unwrap().loss.double_value(&[]), 1.5);
//! let other = Tensor::from_slice2(&[[1i64, 3]]);
//! assert_eq!(agreement_at(&list, &other, 2).unwrap(), 0.5);
//! ```

mod black_box;
mod gru;
mod losses;
mod metrics;
mod recommender;
mod sampler;
mod transformer;

pub use black_box::{BlackBox, Labelled};
pub use gru::GruRecommender;
pub use losses::{Repair, bidirectional_repair_loss, list_ranking_loss, sample_negatives};
pub use metrics::{SequenceStatistics, agreement_at, exact_match_at, recall_ndcg, sequence_statistics};
pub use recommender::{Architecture, Fitting, Recommender, RecommenderConfig, fit};
pub use sampler::{Follow, Generator, InteractionSampler, SynthesisSignal};
pub use transformer::{Bert4Rec, SasRec};

use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use tch::nn::VarStore;
use tch::{Kind, Tensor};

/// The surrogate's loss and training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Extraction {
    /// How it is trained.
    pub fitting: Fitting,
    /// `m1`, margin between neighbours of a list.
    pub order_margin: f64,
    /// `m2`, margin above items outside of the list; also of the repair loss.
    pub negative_margin: f64,
    /// `c`, items of a list that the repair loss looks at.
    pub top: i64,
    /// `lambda`, weight of the repair loss; 0 leaves it out.
    pub repair: f64,
}

impl Default for Extraction {
    /// Margins of the published code of the base attack; the paper's `lambda` is not known.
    fn default() -> Self {
        Self { fitting: Fitting::default(), order_margin: 0.5, negative_margin: 0.5, top: 10, repair: 1.0 }
    }
}

/// Trains a surrogate on sequences with the victim's lists, all prefixes alike. Returns, for every step, the mean number of the victim's
/// first `c` items that the surrogate's had missed (nothing without the repair loss).
///
/// # Errors
/// Sequences that the surrogate cannot read, lists of other shapes; settings out of range; diverged training.
pub fn extract(
    vs: &VarStore,
    surrogate: &dyn Recommender,
    data: &Labelled,
    config: &Extraction,
    seed: u64,
) -> Result<Vec<f64>> {
    let items = surrogate.items();
    let (n, t) = recommender::check_sequences(&data.sequences, items, surrogate.context())?;
    check_range("lambda", config.repair, 0.0..)?;
    let k = match data.lists.size()[..] {
        [a, b, k] if (a, b) == (n, t) && k >= config.top => k,
        _ => {
            let expected = format!("[{n}, {t}, k] with k at least {}", config.top);
            return Err(Error::shape("lists", expected, &data.lists));
        }
    };
    let missed = RefCell::new(vec![]);
    config.fitting.run(
        vs,
        n,
        seed,
        |rows| {
            let sequences = data.sequences.index_select(0, rows);
            let there = sequences.gt(0).view([-1]).nonzero().view([-1]);
            let lists = data.lists.index_select(0, rows).view([-1, k]).index_select(0, &there);
            let scores = surrogate.prefix_scores(&sequences, true)?.view([-1, items]).index_select(0, &there);
            let negatives = sample_negatives(&lists, items, k)?;
            let loss = list_ranking_loss(&scores, &lists, &negatives, config.order_margin, config.negative_margin)?;
            if config.repair == 0.0 {
                return Ok(loss);
            }
            let repair = bidirectional_repair_loss(&scores, &lists, config.top, config.negative_margin)?;
            missed.borrow_mut().push(repair.missed.to_kind(Kind::Float).mean(Kind::Float) * config.top as f64);
            Ok(loss + repair.loss * config.repair)
        },
        |_| Ok(()),
    )?;
    let missed = missed.into_inner();
    if missed.is_empty() {
        return Ok(vec![]);
    }
    Ok(Tensor::stack(&missed, 0).to_kind(Kind::Double).try_into()?)
}

/// A surrogate's lists `[B, k]` for the first `lengths [B]` items of sequences `[B, T]`, to compare with the victim's.
///
/// # Errors
/// What it cannot read; `k` outside `1..=items`.
pub fn lists(model: &dyn Recommender, sequences: &Tensor, lengths: &Tensor, k: i64) -> Result<Tensor> {
    BlackBox::new(model, k)?.top_k(sequences, lengths)
}
