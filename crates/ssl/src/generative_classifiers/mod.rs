//! Linear evaluation by a generative classifier (Zheng, Wu, Bao, Cao, Li and Zhu, 2023; arXiv 2302.02334).
//!
//! Frozen features are usually judged by logistic regression. Gaussian naive Bayes with variances shared by the classes is
//! a linear classifier too, and reaches its own (perhaps worse) limit with `O(log n)` samples of `n` features, where
//! logistic regression takes `O(n)`.
//!
//! ```text
//! pi_k = m_k/m,  mu_k = mean of class k,  v = sum_k pi_k var_k + floor   (var_k divides by m_k)
//! naive Bayes:          argmax_k  log pi_k - 1/2 sum_j (x_j - mu_kj)^2 / v_j
//! logistic regression:  min_{W,b} 1/2 |W|^2 + C sum_i -log softmax(W x_i + b)_{y_i}
//! ```
//!
//! Here are the two classifiers behind one protocol ([`LinearEvaluation`]: scaling on the labelled subset, then a fit),
//! learning curves over subset sizes, the paper's [`mixture`] of Gaussians with its exact Bayes error, and its [`theory`].
//!
//! ```
//! use autodidact_ssl::generative_classifiers::{GaussianNaiveBayes, NaiveBayesConfig};
//! use tch::{Kind, Tensor};
//! // Class means -1 and 2 with variances 1 and 4, half of the samples each: the shared variance is 2.5, and x = 0.4 lies
//! // 1.4 from one mean and 1.6 from the other.
//! let x = Tensor::from_slice(&[-2.0, 0.0, 0.0, 4.0]).view([4, 1]);
//! let y = Tensor::from_slice(&[0i64, 0, 1, 1]);
//! let nb = GaussianNaiveBayes::fit(&x, &y, 2, &NaiveBayesConfig::default())?;
//! let at = Tensor::from_slice(&[0.4]).view([1, 1]);
//! let odds = nb.log_joint(&at)?.diff::<&Tensor>(1, 1, None, None).double_value(&[0, 0]);
//! assert!((odds - (1.4f64.powi(2) - 1.6f64.powi(2)) / (2.0 * 2.5)).abs() < 1e-7);
//! assert_eq!(nb.predict(&at)?.int64_value(&[0]), 0);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

mod evaluation;
pub mod mixture;
mod naive_bayes;
pub mod theory;

pub use evaluation::{
    Classifier, FittedEvaluation, Labelled, LinearEvaluation, Scaler, Scaling, learning_curve, random_subset,
    samples_to_converge,
};
pub use naive_bayes::{GaussianNaiveBayes, NaiveBayesConfig, VarianceMode};
