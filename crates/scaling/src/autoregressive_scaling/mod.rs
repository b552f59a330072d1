//! Scaling laws for autoregressive generative modeling (Henighan et al., 2020; arXiv 2010.14701).
//!
//! Decoders with cross-entropy loss improve alike on text, images, video and mathematics: `L(x) = L_inf + (x_0/x)^alpha` for `x` the model
//! size, the compute or the data. The constant is read as the entropy of the data, the power law as the divergence of the model from
//! them; the best size of a compute is a pure power law. Here are the networks ([`ScalingTransformer`]), the unit of compute
//! ([`PfDays`]), the published constants ([`PUBLISHED`]), information between captions and images ([`mutual_information`],
//! [`infogain_model`]), trends of single samples ([`percentile_trends`]) and the fine-tuned classifier ([`finetune_classifier`]).
//! The laws and their fits are in [`fit`](crate::fit): `PowerLawPlusConst`, `PowerLaw`, `NOpt`, `pareto_envelope`, `lower_hull_log`.
//!
//! ```
//! use autodidact_scaling::autoregressive_scaling::{PUBLISHED, PfDays, ScalingTransformer};
//! let images = PUBLISHED.iter().find(|p| p.domain == "image 8x8").unwrap();
//! // The smallest model of the paper, 12,288 weights: 3.419 nats a token, of which 3.12 are entropy.
//! let model = ScalingTransformer::image(256, 192, 32, 4);
//! assert_eq!(model.parameters(), 12_288.0);
//! assert!((images.by_size.loss(model.parameters()) - 3.4187).abs() < 1e-4);
//! // One PF-day is best spent on 314 million weights, which then see 46 billion tokens.
//! let n = images.best_size.unwrap().n(1.0);
//! assert!((n / 3.137e8 - 1.0).abs() < 1e-3);
//! assert!((PfDays(1.0).tokens(n) / 4.591e10 - 1.0).abs() < 1e-3);
//! ```

mod finetune;
mod information;
mod network;
mod published;
mod trends;

pub use finetune::{Classifier, FinetuneConfig, finetune_classifier, new_classifier};
pub use information::{
    Information, LogNLaw, harmonic, infogain, infogain_model, log_n_fit, mutual_information, token_loss,
};
pub use network::{Attending, ScalingTransformer, multimodal_loss, token_losses};
pub use published::{IMAGE_SIZES, MULTIMODAL_SIZES, PUBLISHED, PfDays, Published};
pub use trends::{Trend, percentile_trends, reducible_r2};
