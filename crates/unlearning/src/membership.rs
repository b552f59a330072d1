//! Was a sample in the training data? Attacks on class probabilities, and how soon a network learns again what it forgot.

use crate::classifier::{Embedder, Labelled, Training};
use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::metrics::{LogisticRegression, LogisticRegressionConfig, accuracy};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::train::Order;
use autodidact_core::{Error, Result};
use tch::{Kind, Tensor};

/// Boosting of decision stumps for two classes, with the logistic loss and Newton steps, as `XGBoost` makes it at `max_depth=1`,
/// `tree_method="exact"`, `base_score=0.5` (Chen and Guestrin, 2016; arXiv 1603.02754).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoostedStumpsConfig {
    /// Stumps.
    pub rounds: usize,
    /// Shrinkage.
    pub eta: f64,
    /// L2 penalty of a leaf's value.
    pub lambda: f64,
    /// Least sum of second derivatives in a leaf.
    pub min_child_weight: f64,
}

impl Default for BoostedStumpsConfig {
    /// `XGBoost`'s.
    fn default() -> Self {
        Self { rounds: 100, eta: 0.3, lambda: 1.0, min_child_weight: 1.0 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Stump {
    feature: usize,
    /// Below it is left.
    threshold: f64,
    left: f64,
    right: f64,
}

/// Fitted stumps.
#[derive(Debug, Clone)]
pub struct BoostedStumps(Vec<Stump>);

impl BoostedStumps {
    /// Fits `features [N, D]` to `positive [N]`.
    ///
    /// # Errors
    /// Other shapes, settings outside their ranges, features that are not finite.
    pub fn fit(features: &Tensor, positive: &[bool], config: &BoostedStumpsConfig) -> Result<Self> {
        let columns = columns(features)?;
        let n = positive.len();
        if columns.iter().any(|c| c.len() != n) || n == 0 {
            return Err(Error::shape("features", format!("[{n}, D], as the labels, not empty"), features));
        }
        check_range("eta", config.eta, f64::MIN_POSITIVE..=1.0)?;
        check_range("lambda", config.lambda, 0.0..)?;
        check_range("min_child_weight", config.min_child_weight, 0.0..)?;
        if columns.iter().flatten().any(|v| !v.is_finite()) {
            return Err(Error::value("features", "finite numbers", "NaN or infinity"));
        }
        let sorted: Vec<Vec<usize>> = columns
            .iter()
            .map(|c| {
                let mut order: Vec<usize> = (0..n).collect();
                order.sort_by(|&a, &b| c[a].total_cmp(&c[b]));
                order
            })
            .collect();
        let mut margins = vec![0.0; n];
        let mut stumps = vec![];
        for _ in 0..config.rounds {
            let p: Vec<f64> = margins.iter().map(|m: &f64| 1.0 / (1.0 + (-m).exp())).collect();
            let each: Vec<(f64, f64)> =
                p.iter().zip(positive).map(|(p, y)| (p - f64::from(u8::from(*y)), p * (1.0 - p))).collect();
            let Some(stump) = best_stump(&columns, &sorted, &each, config) else { break };
            for (i, margin) in margins.iter_mut().enumerate() {
                *margin += stump.value(columns[stump.feature][i]);
            }
            stumps.push(stump);
        }
        Ok(Self(stumps))
    }

    /// Log-odds of being positive, for `features [N, D]`.
    ///
    /// # Errors
    /// Fewer features than fitted.
    pub fn log_odds(&self, features: &Tensor) -> Result<Vec<f64>> {
        let columns = columns(features)?;
        if let Some(s) = self.0.iter().find(|s| s.feature >= columns.len()) {
            return Err(Error::shape("features", format!("[N, {} or more]", s.feature + 1), features));
        }
        let n = features.size()[0] as usize;
        Ok((0..n).map(|i| self.0.iter().map(|s| s.value(columns[s.feature][i])).sum()).collect())
    }
}

impl Stump {
    fn value(&self, x: f64) -> f64 {
        if x < self.threshold { self.left } else { self.right }
    }
}

fn columns(features: &Tensor) -> Result<Vec<Vec<f64>>> {
    let (_, d) = check_matrix("features", features)?;
    (0..d).map(|i| Ok(Vec::try_from(features.select(1, i).to_kind(Kind::Double).contiguous())?)).collect()
}

/// The split of highest gain; none if no split gains anything.
fn best_stump(
    columns: &[Vec<f64>],
    sorted: &[Vec<usize>],
    each: &[(f64, f64)],
    config: &BoostedStumpsConfig,
) -> Option<Stump> {
    let (g, h) = each.iter().fold((0.0, 0.0), |s, e| (s.0 + e.0, s.1 + e.1));
    let score = |g: f64, h: f64| g * g / (h + config.lambda);
    let leaf = |g: f64, h: f64| -config.eta * g / (h + config.lambda);
    let mut best: Option<(f64, Stump)> = None;
    for (feature, (column, order)) in columns.iter().zip(sorted).enumerate() {
        let (mut left_g, mut left_h) = (0.0, 0.0);
        for pair in order.windows(2) {
            left_g += each[pair[0]].0;
            left_h += each[pair[0]].1;
            let (low, high) = (column[pair[0]], column[pair[1]]);
            let (right_g, right_h) = (g - left_g, h - left_h);
            if low == high || left_h < config.min_child_weight || right_h < config.min_child_weight {
                continue;
            }
            let gain = score(left_g, left_h) + score(right_g, right_h) - score(g, h);
            if gain > best.map_or(1e-6, |b| b.0) {
                let (left, right) = (leaf(left_g, left_h), leaf(right_g, right_h));
                best = Some((gain, Stump { feature, threshold: 0.5 * (low + high), left, right }));
            }
        }
    }
    best.map(|b| b.1)
}

/// Who decides whether a sample was a member.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Attacker {
    /// Logistic regression, as scikit-learn's `C = 1`.
    Logistic,
    /// Boosted stumps.
    Stumps(BoostedStumpsConfig),
}

enum Fitted {
    Logistic(LogisticRegression),
    Stumps(BoostedStumps),
}

/// An attack that reads class probabilities in descending order (so that it does not depend on classes) and says member or not.
pub struct MembershipAttack(Fitted);

impl MembershipAttack {
    /// Fits the attacker to the class probabilities `[N, C]` of known members and of samples known to be none.
    ///
    /// # Errors
    /// Other or different shapes, no samples, probabilities that are not finite.
    pub fn fit(members: &Tensor, others: &Tensor, attacker: Attacker) -> Result<Self> {
        let x = sorted_rows(&[members, others])?;
        let positive: Vec<bool> = (0..x.size()[0]).map(|i| i < members.size()[0]).collect();
        Ok(Self(match attacker {
            Attacker::Stumps(config) => Fitted::Stumps(BoostedStumps::fit(&x, &positive, &config)?),
            Attacker::Logistic => {
                let labels: Vec<i64> = positive.iter().map(|p| i64::from(*p)).collect();
                let config = LogisticRegressionConfig::scikit_learn(1.0, x.size()[0], 2)?;
                Fitted::Logistic(LogisticRegression::fit(&x, &Tensor::from_slice(&labels), 2, &config)?)
            }
        }))
    }

    /// Share that it takes for members, of class probabilities `[N, C]`.
    ///
    /// # Errors
    /// Other shapes, no samples.
    pub fn share_of_members(&self, probabilities: &Tensor) -> Result<f64> {
        let x = sorted_rows(&[probabilities])?;
        let n = x.size()[0];
        let says: Vec<bool> = match &self.0 {
            Fitted::Stumps(stumps) => stumps.log_odds(&x)?.into_iter().map(|m| m > 0.0).collect(),
            Fitted::Logistic(l) => {
                Vec::<i64>::try_from(l.logits(&x)?.argmax(1, false))?.into_iter().map(|c| c == 1).collect()
            }
        };
        Ok(says.iter().filter(|s| **s).count() as f64 / n as f64)
    }

    /// Accuracy on as many members as others, in `[0, 1]`: one half is what guessing gives. A network that forgot `forgotten` makes them
    /// look as samples that it never saw.
    ///
    /// # Errors
    /// As [`share_of_members`](Self::share_of_members).
    pub fn balanced_accuracy(&self, forgotten: &Tensor, others: &Tensor) -> Result<f64> {
        Ok(0.5 * (self.share_of_members(forgotten)? + 1.0 - self.share_of_members(others)?))
    }
}

/// Rows of `[N, C]`, one set below the other, each row in descending order, as f64 on the processor.
fn sorted_rows(sets: &[&Tensor]) -> Result<Tensor> {
    let (_, classes) = check_matrix("probabilities", sets[0])?;
    for set in sets {
        if set.dim() != 2 || set.size()[1] != classes || set.size()[0] == 0 {
            return Err(Error::shape("probabilities", format!("[N, {classes}], not empty"), set));
        }
    }
    let all: Vec<Tensor> = sets.iter().map(|s| s.to_kind(Kind::Double).to_device(tch::Device::Cpu)).collect();
    Ok(Tensor::cat(&all, 0).sort(1, true).0)
}

/// Steps of training on forgotten data until a network's accuracy on them is at least `target` again; `None` if `max_steps` are not enough.
/// The network is trained on: give a copy. The more is left of what it knew, the sooner it knows it again.
///
/// # Errors
/// A target outside `[0, 1]`; settings outside their ranges, a loss that is not finite.
pub fn relearn_steps(
    model: &impl Embedder,
    forgotten: &Labelled,
    target: f64,
    max_steps: usize,
    training: &Training,
) -> Result<Option<usize>> {
    check_range("target accuracy", target, 0.0..=1.0)?;
    training.check()?;
    let mut optimizer =
        Optimizer::new(Rule::Adam(Adam::default()), vec![Group::all(model.store(), training.weight_decay)])?;
    let n = forgotten.len();
    let order = Order::new(n, training.batch.min(n), training.seed)?;
    for step in 0..=max_steps {
        if accuracy(&model.probabilities(&forgotten.x), &forgotten.y)? >= target {
            return Ok(Some(step));
        }
        let batch = forgotten.rows(&Tensor::from_slice(&order.batch(step)).to_device(forgotten.x.device()));
        let loss = model.logits(&batch.x, true).cross_entropy_for_logits(&batch.y);
        optimizer.zero_grad();
        loss.f_backward()?;
        optimizer.step(training.lr)?;
    }
    Ok(None)
}
