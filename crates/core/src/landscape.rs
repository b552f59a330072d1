//! Losses between networks: points on a line or in a plane through weights, and the barrier on the way.
//!
//! ```
//! use autodidact_core::landscape::{barrier, interpolate};
//! use tch::Tensor;
//! let [a, b] = [1f64, 3.0].map(|v| [("w".to_owned(), Tensor::from(v))].into());
//! assert_eq!(interpolate(&a, &b, 0.25)?["w"].double_value(&[]), 1.5);
//! // Errors from one end to the other: the highest is 5 above the mean of the ends.
//! assert_eq!(barrier(&[10.0, 16.0, 12.0])?, 5.0);
//! # Ok::<(), autodidact_core::Error>(())
//! ```

use crate::error::check_range;
use crate::optim::StateDict;
use crate::{Error, Result};
use tch::{Kind, Tensor, nn::VarStore};

/// The values of all variables of a store (parameters and buffers), copied.
pub fn state_dict(vs: &VarStore) -> StateDict {
    vs.variables().into_iter().map(|(name, t)| (name, t.detach().copy())).collect()
}

/// Gives the variables of a store the values of the same names, in place.
///
/// # Errors
/// A variable without a value of its shape.
pub fn load_state_dict(vs: &VarStore, values: &StateDict) -> Result<()> {
    for (name, variable) in vs.variables() {
        let value = value(values, &name, &variable)?;
        tch::no_grad(|| variable.shallow_clone().f_copy_(value).map(|_| ()))?;
    }
    Ok(())
}

fn value<'a>(values: &'a StateDict, name: &str, like: &Tensor) -> Result<&'a Tensor> {
    let value = values.get(name).filter(|v| v.size() == like.size());
    value.ok_or_else(|| Error::value("weights", format!("{name} of shape {:?}", like.size()), "none of it"))
}

/// `(1 - share) a + share b`, entry by entry; what is no floating-point number comes from `a`. `share` may lie outside `[0, 1]`.
///
/// # Errors
/// Entries that differ in names or shapes, a share that is not finite.
pub fn interpolate(a: &StateDict, b: &StateDict, share: f64) -> Result<StateDict> {
    check_range("share", share, ..)?;
    combine(&[(1.0 - share, a), (share, b)])
}

/// What `measure` gives at `points` (two or more) evenly spaced places on the line from `a` to `b`, ends included.
///
/// # Errors
/// Fewer than two points, entries that differ in names or shapes, those of `measure`.
pub fn along_line<E: From<Error>>(
    a: &StateDict,
    b: &StateDict,
    points: usize,
    mut measure: impl FnMut(&StateDict) -> Result<f64, E>,
) -> Result<Vec<f64>, E> {
    check_range("points of a line", points as f64, 2.0..)?;
    (0..points).map(|i| measure(&interpolate(a, b, i as f64 / (points - 1) as f64)?)).collect()
}

/// A sum of weights with factors.
fn combine(terms: &[(f64, &StateDict)]) -> Result<StateDict> {
    let Some((_, first)) = terms.first() else { return Ok(StateDict::new()) };
    let mut out = StateDict::new();
    for (name, like) in *first {
        if !like.is_floating_point() {
            out.insert(name.clone(), like.copy());
            continue;
        }
        let mut sum = like.zeros_like();
        for (factor, weights) in terms {
            sum += value(weights, name, like)? * *factor;
        }
        out.insert(name.clone(), sum);
    }
    Ok(out)
}

/// Momentum of [`nn`](crate::nn)'s batch norms.
const MOMENTUM: f64 = 0.1;

/// Computes the running statistics of batch norm anew: the plain average of those of the given batches, instead of the moving average that
/// training has left. Weights between two networks have no statistics of their own; without this, every point of a line looks like a
/// barrier. `forward` runs the network in training mode.
///
/// The statistics are the buffers of the store whose names end in `running_mean` and `running_var`; the batch norms are those of
/// [`nn`](crate::nn), whose momentum is 0.1.
///
/// # Errors
/// No batches.
pub fn recalibrate_batch_norm(
    vs: &VarStore,
    batches: impl IntoIterator<Item = Tensor>,
    forward: impl Fn(&Tensor),
) -> Result<()> {
    let ends = |name: &str| name.ends_with("running_mean") || name.ends_with("running_var");
    let mut buffers: Vec<Tensor> = vs.variables().into_iter().filter(|(name, _)| ends(name)).map(|(_, t)| t).collect();
    let mut sums: Vec<Tensor> = buffers.iter().map(Tensor::zeros_like).collect();
    let mut count = 0;
    tch::no_grad(|| {
        for batch in batches {
            // From zero, what a batch leaves is its own statistics times the momentum.
            buffers.iter_mut().for_each(|b| _ = b.zero_());
            forward(&batch);
            sums.iter_mut().zip(&buffers).for_each(|(s, b)| *s += b);
            count += 1;
        }
    });
    check_range("batches of a recalibration", f64::from(count), 1.0..)?;
    tch::no_grad(|| {
        for (b, sum) in buffers.iter_mut().zip(&sums) {
            b.copy_(&(sum / (MOMENTUM * f64::from(count))));
        }
    });
    Ok(())
}

/// How much the highest error on a way exceeds the mean of those at its ends (Frankle et al., 2020; arXiv 1912.05671): errors from end
/// to end.
///
/// # Errors
/// Fewer than two errors, or one that is not finite.
pub fn barrier(errors: &[f64]) -> Result<f64> {
    let ([first, .., last], true) = (errors, errors.iter().all(|e| e.is_finite())) else {
        return Err(Error::value("errors on the way", "two or more finite numbers", format!("{errors:?}")));
    };
    let highest = errors.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Ok(highest - (first + last) / 2.0)
}

/// The plane through three points of weight space, with orthonormal coordinates: the first point is the origin, the second lies on the
/// first axis.
#[derive(Debug)]
pub struct Plane {
    origin: StateDict,
    /// Unit vectors.
    axes: [StateDict; 2],
}

impl Plane {
    /// Through three points.
    ///
    /// # Errors
    /// Entries that differ in names or shapes, points on one line.
    pub fn new(origin: &StateDict, second: &StateDict, third: &StateDict) -> Result<Self> {
        let away = |point: &StateDict| combine(&[(1.0, point), (-1.0, origin)]);
        let unit = |v: StateDict| {
            let length = dot(&v, &v)?.sqrt();
            check_range("distance of the points of a plane", length, f64::MIN_POSITIVE..)?;
            combine(&[(1.0 / length, &v)])
        };
        let x = unit(away(second)?)?;
        let v = away(third)?;
        let y = combine(&[(1.0, &v), (-dot(&v, &x)?, &x)])?;
        if dot(&y, &y)? <= 1e-10 * dot(&v, &v)? {
            return Err(Error::value("points of a plane", "three that lie on no line", "three on one"));
        }
        let origin = combine(&[(1.0, origin)])?;
        Ok(Self { origin, axes: [x, unit(y)?] })
    }

    /// Coordinates of the point of the plane that is nearest to `weights`.
    ///
    /// # Errors
    /// Entries that differ in names or shapes.
    pub fn project(&self, weights: &StateDict) -> Result<[f64; 2]> {
        let v = combine(&[(1.0, weights), (-1.0, &self.origin)])?;
        Ok([dot(&v, &self.axes[0])?, dot(&v, &self.axes[1])?])
    }

    /// The weights at a point.
    ///
    /// # Errors
    /// Coordinates that are not finite.
    pub fn at(&self, [x, y]: [f64; 2]) -> Result<StateDict> {
        check_range("coordinates", x + y, ..)?;
        combine(&[(1.0, &self.origin), (x, &self.axes[0]), (y, &self.axes[1])])
    }
}

/// Inner product over all floating-point entries.
fn dot(a: &StateDict, b: &StateDict) -> Result<f64> {
    let mut sum = 0.0;
    for (name, x) in a.iter().filter(|(_, x)| x.is_floating_point()) {
        let y = value(b, name, x)?;
        sum += (x.to_kind(Kind::Double) * y.to_kind(Kind::Double)).sum(Kind::Double).double_value(&[]);
    }
    Ok(sum)
}

/// Euclidean distance between weights, over all floating-point entries.
///
/// # Errors
/// Entries that differ in names or shapes.
pub fn distance(a: &StateDict, b: &StateDict) -> Result<f64> {
    let d = combine(&[(1.0, a), (-1.0, b)])?;
    Ok(dot(&d, &d)?.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(w: &[f64], b: f64) -> StateDict {
        let count = Tensor::from(7i64);
        [("w".to_owned(), Tensor::from_slice(w)), ("b".into(), Tensor::from(b)), ("n".into(), count)].into()
    }

    #[test]
    fn planes_pass_through_their_points_and_keep_distances() {
        let points = [of(&[0.0, 1.0], 2.0), of(&[3.0, 1.0], -2.0), of(&[1.0, 5.0], 0.5)];
        let plane = Plane::new(&points[0], &points[1], &points[2]).unwrap();
        let places = points.each_ref().map(|p| plane.project(p).unwrap());
        assert!(places[0].iter().all(|v| v.abs() < 1e-12) && (places[1][0] - 5.0).abs() < 1e-12);
        assert!(places[1][1].abs() < 1e-12);
        for (point, place) in points.iter().zip(places) {
            assert!(distance(&plane.at(place).unwrap(), point).unwrap() < 1e-12);
        }
        let apart = (places[1][0] - places[2][0]).hypot(places[1][1] - places[2][1]);
        assert!((apart - distance(&points[1], &points[2]).unwrap()).abs() < 1e-12);
        let middle = interpolate(&points[0], &points[1], 0.5).unwrap();
        assert!(middle["n"] == Tensor::from(7i64) && middle["b"].double_value(&[]) == 0.0);
        let e = Plane::new(&points[0], &points[1], &middle).unwrap_err().to_string();
        assert!(e.contains("on no line"), "{e}");
    }

    #[test]
    fn barriers_are_heights_above_the_ends() {
        assert_eq!(barrier(&[1.0, 1.0]).unwrap(), 0.0);
        assert_eq!(barrier(&[3.0, 1.0, 0.0, 1.0]).unwrap(), 1.0);
        assert!(barrier(&[1.0]).is_err() && barrier(&[1.0, f64::NAN, 1.0]).is_err());
        assert!(interpolate(&of(&[1.0], 0.0), &of(&[1.0, 2.0], 0.0), 0.5).unwrap_err().to_string().contains("[1]"));
    }

    #[test]
    fn statistics_are_the_average_of_the_batches() {
        use crate::nn::layers::batch_norm1d;
        use tch::nn::ModuleT;
        tch::manual_seed(0);
        let vs = VarStore::new(tch::Device::Cpu);
        let norm = batch_norm1d(vs.root() / "norm", 3);
        let batches: Vec<Tensor> =
            (0..4).map(|i| Tensor::randn([10, 3], (Kind::Float, tch::Device::Cpu)) * f64::from(i + 1) + 2.0).collect();
        let copies = batches.iter().map(Tensor::copy);
        recalibrate_batch_norm(&vs, copies, |x| drop(norm.forward_t(x, true))).unwrap();
        let average = |of: &dyn Fn(&Tensor) -> Tensor| Tensor::stack(&batches.iter().map(of).collect::<Vec<_>>(), 0);
        let dims = [0i64];
        let mean =
            average(&|b| b.mean_dim(dims.as_slice(), false, Kind::Float)).mean_dim(dims.as_slice(), false, Kind::Float);
        let var = average(&|b| b.var_dim(dims.as_slice(), true, false)).mean_dim(dims.as_slice(), false, Kind::Float);
        let v = vs.variables();
        crate::testing::assert_close("mean", &v["norm.running_mean"], &mean, 1e-5);
        crate::testing::assert_close("variance", &v["norm.running_var"], &var, 1e-5);
        assert!(recalibrate_batch_norm(&vs, [], |_| ()).is_err());
    }
}
