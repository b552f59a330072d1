//! One-shot pruners: which weights of a trained network are kept.
//!
//! All take [`Masks`] over the weights that may be pruned (dense ones, or those of an earlier pruning, whose weights stay masked) and a
//! sparsity: the share of them that is masked afterwards. Counts are exact: of `n` weights `n - round(sparsity n)` are kept (rounded to
//! even at halves, as `torch.nn.utils.prune` does), and of equal magnitudes the first.

use autodidact_core::error::check_range;
use autodidact_core::masks::Masks;
use autodidact_core::optim::sorted_trainables;
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand::seq::index;
use tch::nn::VarStore;
use tch::{Kind, Tensor};

/// Dense masks over the weights of a store that are matrices or kernels (two or more dimensions) and whose name `among` accepts; biases
/// and the gains of norms are never pruned, nor what `among` leaves out: embeddings, say, and heads.
///
/// # Errors
/// Nothing is left.
pub fn matrices(vs: &VarStore, among: impl Fn(&str) -> bool) -> Result<Masks> {
    let chosen: Vec<_> = sorted_trainables(vs).into_iter().filter(|(name, p)| p.dim() > 1 && among(name)).collect();
    if chosen.is_empty() {
        return Err(Error::value("weights to prune", "a matrix or kernel at least", "none"));
    }
    Ok(Masks::of(chosen))
}

/// Weights that are kept of `n`.
fn kept(n: i64, sparsity: f64) -> Result<i64> {
    check_range("sparsity", sparsity, 0.0..=1.0)?;
    Ok(n - (sparsity * n as f64).round_ties_even() as i64)
}

/// The largest magnitudes over all parameters in one ranking.
///
/// # Errors
/// A sparsity outside `[0, 1]` or below that of `masks`, weights that are not finite.
pub fn global_magnitude(masks: &Masks, sparsity: f64) -> Result<Masks> {
    masks.keep_largest(kept(masks.len(), sparsity)?)
}

/// The largest magnitudes in each parameter.
///
/// # Errors
/// As [`global_magnitude`].
pub fn layerwise_magnitude(masks: &Masks, sparsity: f64) -> Result<Masks> {
    masks.in_each(|one| global_magnitude(one, sparsity))
}

/// Weights at random, all as likely.
///
/// # Errors
/// As [`global_magnitude`].
pub fn global_random(masks: &Masks, sparsity: f64, rng: &mut Rng) -> Result<Masks> {
    let flat = Tensor::cat(&masks.iter().map(|(_, m)| m.flatten(0, -1)).collect::<Vec<_>>(), 0);
    // Places that are kept now, as the masks may have zeros already.
    let places = Vec::<i64>::try_from(flat.gt(0.0).nonzero().squeeze_dim(1))?;
    let keep = kept(masks.len(), sparsity)? as usize;
    if keep > places.len() {
        return Err(Error::value("sparsity", format!("at least the present {}", 1.0 - masks.density()), sparsity));
    }
    let chosen: Vec<i64> = index::sample(rng, places.len(), keep).into_iter().map(|i| places[i]).collect();
    let chosen = Tensor::from_slice(&chosen).to_device(flat.device());
    let flat = flat.zeros_like().index_fill(0, &chosen, 1.0);
    let mut from = 0;
    let each = |(_, m): (&str, &Tensor)| {
        let n = m.numel() as i64;
        from += n;
        flat.narrow(0, from - n, n).view_as(m)
    };
    masks.with(masks.iter().map(each).collect())
}

/// Weights at random, with the layers' densities of the Erdos-Renyi kernel (Evci et al., 2020, arXiv 1911.11134): proportional to
/// `(in + out + kernel sides) / (in out kernel)`, so that small layers stay denser; what would exceed 1 is dense, and the rest shares the
/// remaining budget. Densities are [`erdos_renyi_densities`]; in each parameter the count is exact.
///
/// # Errors
/// As [`global_magnitude`]; parameters of fewer than two dimensions.
pub fn erdos_renyi_kernel(masks: &Masks, sparsity: f64, rng: &mut Rng) -> Result<Masks> {
    let shapes: Vec<Vec<i64>> = masks.iter().map(|(_, m)| m.size()).collect();
    let mut densities = erdos_renyi_densities(&shapes, sparsity)?.into_iter();
    masks.in_each(|one| global_random(one, 1.0 - densities.next().unwrap_or(1.0), rng))
}

/// Densities of layers of the given shapes (`[out, in, ...]`) whose total is `1 - sparsity`.
///
/// ```
/// use autodidact_pruning::pruners::erdos_renyi_densities;
/// // (100 + 100) / (100 * 100) = 0.02 and (10 + 100) / (10 * 100) = 0.11: 5.5 times the density.
/// let d = erdos_renyi_densities(&[vec![100, 100], vec![10, 100]], 0.9)?;
/// assert!((d[1] / d[0] - 5.5).abs() < 1e-12);
/// assert!((d[0] * 10_000.0 + d[1] * 1000.0 - 1100.0).abs() < 1e-9);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
///
/// # Errors
/// A sparsity outside `[0, 1]`, shapes of fewer than two dimensions or without elements.
pub fn erdos_renyi_densities(shapes: &[Vec<i64>], sparsity: f64) -> Result<Vec<f64>> {
    check_range("sparsity", sparsity, 0.0..=1.0)?;
    if let Some(bad) = shapes.iter().find(|s| s.len() < 2 || s.iter().any(|n| *n < 1)) {
        return Err(Error::value("shapes", "of two or more dimensions, none of them 0", format!("{bad:?}")));
    }
    let sizes: Vec<f64> = shapes.iter().map(|s| s.iter().product::<i64>() as f64).collect();
    let raw: Vec<f64> = shapes.iter().zip(&sizes).map(|(s, n)| s.iter().sum::<i64>() as f64 / n).collect();
    let mut dense = vec![false; shapes.len()];
    let budget = (1.0 - sparsity) * sizes.iter().sum::<f64>();
    loop {
        let sum = |of: &dyn Fn(usize) -> f64| (0..sizes.len()).map(of).sum::<f64>();
        let spent = sum(&|i| if dense[i] { sizes[i] } else { 0.0 });
        let weight = sum(&|i| if dense[i] { 0.0 } else { raw[i] * sizes[i] });
        let scale = if weight > 0.0 { (budget - spent).max(0.0) / weight } else { 0.0 };
        let over: Vec<usize> = (0..sizes.len()).filter(|i| !dense[*i] && raw[*i] * scale > 1.0).collect();
        if over.is_empty() {
            return Ok((0..sizes.len()).map(|i| if dense[i] { 1.0 } else { raw[i] * scale }).collect());
        }
        over.into_iter().for_each(|i| dense[i] = true);
    }
}

/// N:M: of every `m` consecutive weights along the input dimension (the last; kernels are read flat, `[out, in kernel]`) the `n` largest.
/// `n` counts what is kept (some code counts what is removed); the sparsity is `1 - n / m`.
///
/// # Errors
/// `n` above `m`, an `m` that does not divide the inputs, masks that have zeros already, weights that are not finite.
pub fn n_of_m(masks: &Masks, n: i64, m: i64) -> Result<Masks> {
    check_range("n of n:m", n as f64, 0.0..=m as f64)?;
    check_range("m of n:m", m as f64, 1.0..)?;
    if masks.kept() < masks.len() {
        return Err(Error::value("masks of n:m", "dense ones", format!("a density of {}", masks.density())));
    }
    let each = |(name, p): (&str, &Tensor)| {
        let inputs = p.numel() as i64 / p.size().first().copied().unwrap_or(1).max(1);
        if inputs % m != 0 {
            return Err(Error::value(format!("inputs of {name}"), format!("a multiple of {m}"), inputs));
        }
        let groups = p.detach().abs().to_kind(Kind::Float).view([-1, m]);
        if groups.isfinite().all().int64_value(&[]) == 0 {
            return Err(Error::value(name, "finite weights", "others"));
        }
        // A stable sort: of equals the first.
        let order = groups.sort_stable(true, 1, true).1;
        let kept = order.narrow(1, 0, n);
        Ok(groups.zeros_like().scatter_value(1, &kept, 1.0).view_as(p))
    };
    masks.with(masks.parameters().map(each).collect::<Result<_>>()?)
}
