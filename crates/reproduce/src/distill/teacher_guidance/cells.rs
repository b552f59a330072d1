//! The toy and the kernel chains.

use super::TOY_ALPHAS;
use super::config::Config;
use crate::runner::Context;
use anyhow::{Result, ensure};
use autodidact_core::kernel::{Kernel, KernelRidge};
use autodidact_core::metrics::accuracy;
use autodidact_core::seed::{self, Rng};
use autodidact_datasets::image::digits;
use autodidact_distill::teacher_guidance::{
    AlphaSchedule, SelfDistilledKrr, TOY_TARGETS, shrinkage_closed_form, shrinkage_recursion,
};
use rand::RngExt;
use rand::seq::SliceRandom;
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn mse(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).square().mean(Kind::Double).double_value(&[])
}

/// The larger of two errors; NaN is worse than any number.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || a >= b { a } else { b }
}

fn largest(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, worse)
}

fn largest_entry(difference: &Tensor) -> f64 {
    difference.abs().max().double_value(&[])
}

/// The eigenvectors on which solved predictions are measured.
struct Modes {
    /// `[kept, n]`, smallest eigenvalue first.
    vectors: Tensor,
    /// Projections of the targets `[kept, C]`.
    targets: Tensor,
}

/// Amplitudes below this share of the targets' are too near to rounding to be compared.
const FAINT: f64 = 1e-6;

impl Modes {
    /// All but those on which the targets have (nearly) no part.
    fn new(vectors: &Tensor, y: &Tensor) -> Self {
        let vectors = vectors.tr();
        let targets = vectors.matmul(y);
        let power = targets.square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
        let kept = power.gt_tensor(&(power.mean(Kind::Double) * 1e-6)).nonzero().view(-1);
        Self { vectors: vectors.index_select(0, &kept), targets: targets.index_select(0, &kept) }
    }

    /// What is left of each mode of the targets in predictions `[n, C]`: a measured `B`. NaN where that is [`FAINT`].
    fn amplitudes(&self, predictions: &Tensor) -> Result<Vec<f64>> {
        let sum = |x: Tensor| x.sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
        let amplitudes = sum(self.vectors.matmul(predictions) * &self.targets) / sum(self.targets.square());
        let amplitudes: Vec<f64> = amplitudes.try_into()?;
        ensure!(amplitudes.iter().all(|b| b.is_finite()), "predictions that are not finite");
        Ok(amplitudes.into_iter().map(|b| if b > FAINT { b } else { f64::NAN }).collect())
    }
}

/// The largest `upper_j / lower_k - 1` over all pairs of a mode and a smaller one; modes that are NaN are left out.
fn excess(upper: &[f64], lower: &[f64]) -> f64 {
    let (mut smallest, mut largest) = (f64::INFINITY, f64::NEG_INFINITY);
    for (upper, lower) in upper.iter().zip(lower) {
        if smallest.is_finite() {
            largest = largest.max(upper / smallest - 1.0);
        }
        smallest = smallest.min(*lower);
    }
    largest
}

fn quotients(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a / b).collect()
}

/// How far the ratios of a mode's amplitude to a smaller one's in `a` are above those in `b`, at most, relatively.
fn above(a: &[f64], b: &[f64]) -> f64 {
    let q = quotients(a, b);
    excess(&q, &q)
}

/// Errors of the theory's identities on one chain per weight: recursion against closed form (20 steps), solves against the
/// spectral form, step 200 against the limit; and what happens to the ratios of the amplitudes measured in the solved
/// predictions.
fn identities(krr: KernelRidge, x: &Tensor, y: &Tensor, alphas: &[f64], context: &mut Context<'_>) -> Result<()> {
    let y = &y.to_kind(Kind::Double);
    let chain = |alpha: f64, steps: usize| -> Result<SelfDistilledKrr> {
        let mut chain = SelfDistilledKrr::new(krr, x, y, AlphaSchedule::Constant(alpha))?;
        chain.run(steps)?;
        Ok(chain)
    };
    let first = chain(0.0, 21)?;
    let (vectors, values) = first.spectrum()?;
    let coordinates = vectors.tr().matmul(y);
    let modes = Modes::new(vectors, y);
    let measured = |chain: &SelfDistilledKrr, steps: usize| -> Result<Vec<Vec<f64>>> {
        (1..=steps).map(|t| modes.amplitudes(&chain.train_predictions(t)?)).collect()
    };
    let without = measured(&first, 21)?;
    let fall = without.windows(2).map(|w| above(&w[0], &w[1])).fold(f64::NEG_INFINITY, worse);
    let compared = without[20].iter().filter(|b| !b.is_nan()).count();

    let (mut closed_error, mut limit_error) = (0.0, 0.0);
    let (mut bound, mut unsettled, mut overshoot) = (f64::NEG_INFINITY, f64::NEG_INFINITY, 0.0);
    for &alpha in alphas {
        let chain = chain(alpha, 200)?;
        for t in 1..=20usize {
            let closed = shrinkage_closed_form(values, krr.lambda, alpha, t as u32)?;
            let recursion = shrinkage_recursion(values, krr.lambda, &vec![alpha; t])?;
            closed_error = worse(closed_error, largest(&closed, &recursion));
            let spectral = vectors.matmul(&(Tensor::from_slice(&closed).unsqueeze(1) * &coordinates));
            closed_error = worse(closed_error, largest_entry(&(spectral - chain.train_predictions(t)?)));
        }
        if alpha < 0.1 {
            continue;
        }
        let limit = chain.limit(alpha)?.predict(x)?;
        let last = chain.train_predictions(200)?;
        limit_error = worse(limit_error, largest_entry(&(&last - &limit)));
        let (limit, last) = (modes.amplitudes(&limit)?, modes.amplitudes(&last)?);
        let with = measured(&chain, 20)?;
        for (now, without) in with.iter().zip(&without) {
            bound = worse(bound, above(now, without));
            bound = worse(bound, excess(&quotients(now, &with[0]), &quotients(now, &limit)));
            overshoot = worse(overshoot, above(now, &limit));
        }
        unsettled = worse(unsettled, worse(above(&last, &limit), above(&limit, &last)));
    }
    context.metric(0, "error of closed form", closed_error);
    context.metric(0, "error of limit", limit_error);
    context.metric(0, "modes compared", compared as f64);
    context.metric(0, "fall of ratios at alpha 0", fall);
    context.metric(0, "ratios above their bounds", bound);
    context.metric(0, "ratios off the limit's at step 200", unsettled);
    context.metric(0, "overshoot of ratios", overshoot);
    Ok(())
}

pub(super) fn toy(context: &mut Context<'_>) -> Result<()> {
    let x = Tensor::linspace(0.0, 1.0, 11, F64).view([11, 1]);
    let y = Tensor::from_slice(&TOY_TARGETS).view([11, 1]);
    let at = Tensor::linspace(0.0, 1.0, 101, F64).view([101, 1]);
    let truth = (&at * (2.0 * std::f64::consts::PI)).sin();
    let krr = KernelRidge { kernel: Kernel::Rbf { gamma: 80.0 }, lambda: 0.2 };
    for alpha in TOY_ALPHAS {
        let mut chain = SelfDistilledKrr::new(krr, &x, &y, AlphaSchedule::Constant(alpha))?;
        chain.run(6)?;
        for t in 1..=6 {
            let f = chain.model(t)?.predict(&at)?;
            context.metric(t, &format!("error alpha={alpha}"), mse(&f, &truth));
            context.array(&format!("fit alpha={alpha} t={t}"), f.view(-1).try_into()?);
            context.array(&format!("B alpha={alpha} t={t}"), chain.shrinkage(t)?);
        }
        let limit = chain.limit(alpha)?.predict(&at)?;
        context.metric(7, &format!("error alpha={alpha}"), mse(&limit, &truth));
        context.array(&format!("fit alpha={alpha} limit"), limit.view(-1).try_into()?);
    }
    identities(krr, &x, &y, &[0.0, 0.1, 0.25, 0.35, 0.5, 1.0], context)
}

/// A seed's split of the digits: `(x, onehot)` of training (with replaced labels), validation and test.
pub(super) struct Split {
    pub train: (Tensor, Tensor),
    pub validation: (Tensor, Tensor),
    pub test: (Tensor, Tensor),
}

/// `labels` with exactly the share `noise` of them, the first, replaced by one drawn uniformly from the other classes.
pub(super) fn replace_labels(labels: &Tensor, classes: i64, noise: f64, rng: &mut Rng) -> Result<Tensor> {
    let mut labels: Vec<i64> = labels.try_into()?;
    let replaced = (labels.len() as f64 * noise).round() as usize;
    for label in &mut labels[..replaced] {
        *label = (*label + rng.random_range(1..classes)) % classes;
    }
    Ok(Tensor::from_slice(&labels))
}

pub(super) fn split(train: usize, validation: usize, noise: f64, seed: u64) -> Result<Split> {
    let set = digits();
    let mut rng = seed::rng(seed, &["digits split"]);
    let mut order: Vec<i64> = (0..set.len() as i64).collect();
    order.shuffle(&mut rng);
    let set = set.select(&order)?;
    let x = set.to_float().flatten(1, -1).to_kind(Kind::Double);
    let (n, total) = (train as i64, set.len() as i64);
    let noisy = replace_labels(&set.labels.narrow(0, 0, n), 10, noise, &mut rng)?;
    let labels = Tensor::cat(&[noisy, set.labels.narrow(0, n, total - n)], 0);
    let y = labels.one_hot(10).to_kind(Kind::Double);
    let part = |from: usize, to: usize| {
        let len = (to - from) as i64;
        (x.narrow(0, from as i64, len), y.narrow(0, from as i64, len))
    };
    let held = train + validation;
    Ok(Split { train: part(0, train), validation: part(train, held), test: part(held, set.len()) })
}

pub(super) fn kernel_chains(lambda: f64, c: &Config, context: &mut Context<'_>) -> Result<()> {
    let data = split(c.krr_train, c.validation, c.noise, context.seed("split"))?;
    // The kernel's values are computed once and serve all chains.
    let kernel = |x: &Tensor| Kernel::Rbf { gamma: c.gamma }.matrix(x, &data.train.0);
    let [x, vx, test] = [kernel(&data.train.0)?, kernel(&data.validation.0)?, kernel(&data.test.0)?];
    let (x, vx, y, vy) = (&x, &vx, &data.train.1, &data.validation.1);
    let krr = KernelRidge { kernel: Kernel::Precomputed, lambda };
    let labels = data.test.1.argmax(1, false);
    let mut log = |chain: &SelfDistilledKrr, t: usize, name: &str| -> Result<()> {
        let f = chain.model(t)?.predict(&test)?;
        context.metric(t, &format!("test MSE alpha={name}"), mse(&f, &data.test.1));
        context.metric(t, &format!("test accuracy alpha={name}"), 100.0 * accuracy(&f, &labels)?);
        Ok(())
    };
    for alpha in &c.alphas {
        let mut chain = SelfDistilledKrr::new(krr, x, y, AlphaSchedule::Constant(*alpha))?;
        chain.run(c.steps)?;
        (1..=c.steps).try_for_each(|t| log(&chain, t, &alpha.to_string()))?;
    }
    let optimal = AlphaSchedule::Optimal { x: vx.shallow_clone(), y: vy.shallow_clone(), clip: false };
    let mut chain = SelfDistilledKrr::new(krr, x, y, optimal)?;
    chain.run(c.steps)?;
    (1..=c.steps).try_for_each(|t| log(&chain, t, "optimal"))?;
    // At each step, for the same teacher: the optimal weight against every weight of the grid.
    let mut excess = f64::NEG_INFINITY;
    for t in 2..=c.steps {
        let (f, g) = chain.components(t, vx)?;
        let error = |a: f64| mse(&(&f * a + &g * (1.0 - a)), vy);
        let best = c.alphas.iter().map(|a| error(*a)).fold(f64::INFINITY, f64::min);
        excess = worse(excess, error(chain.alphas()[t - 1]) - best);
        context.metric(t, "optimal alpha", chain.alphas()[t - 1]);
    }
    context.metric(c.steps, "validation MSE of optimal minus best of grid", excess);
    for alpha in c.alphas.iter().filter(|a| **a > 0.0) {
        if let Some(steps) = chain.steps_to_tolerance(*alpha, 1e-6, 100_000)? {
            context.metric(c.steps, &format!("steps to 1e-6 of the limit alpha={alpha}"), steps as f64);
        }
    }
    identities(krr, x, y, &c.alphas, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amplitudes_are_measured_in_predictions() {
        // Modes e1, e2, e3; the targets have no part in the second.
        let y = Tensor::from_slice2(&[[2.0, 0.0], [0.0, 0.0], [1.0, 4.0]]);
        let modes = Modes::new(&Tensor::eye(3, F64), &y);
        let factors = Tensor::from_slice(&[0.25, 0.5, 0.75]).unsqueeze(1);
        assert_eq!(modes.amplitudes(&(&y * &factors)).unwrap(), [0.25, 0.75]);
        let faint = modes.amplitudes(&(&y * Tensor::from_slice(&[1e-7, 1.0, 1.0]).unsqueeze(1))).unwrap();
        assert!(faint[0].is_nan() && faint[1] == 1.0);
        assert!(modes.amplitudes(&(&y / 0.0)).is_err());
    }

    #[test]
    fn ratios_are_compared_over_all_pairs_of_modes() {
        // The ratios are 2, 6, 3 against 2, 4, 2.
        assert!((above(&[0.1, 0.2, 0.6], &[0.1, 0.2, 0.4]) - 0.5).abs() < 1e-15);
        assert!((above(&[0.1, 0.2, 0.4], &[0.1, 0.2, 0.6])).abs() < 1e-15);
        // Not neighbours: the mode between them has faded.
        assert!((above(&[0.1, f64::NAN, 0.6], &[0.1, 0.2, 0.4]) - 0.5).abs() < 1e-15);
        assert_eq!(above(&[0.1, f64::NAN], &[0.1, 0.2]), f64::NEG_INFINITY);
        assert!(worse(1.0, f64::NAN).is_nan() && worse(f64::NAN, 1.0).is_nan());
    }
}
