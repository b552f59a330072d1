//! Clusters of points.

use crate::error::check_matrix;
use crate::seed::Rng;
use crate::{Error, Result};
use rand::RngExt;
use tch::{Kind, Tensor};

/// Lloyd's iterations at most.
const ITERATIONS: usize = 100;

/// k-means (Lloyd, 1982) of the rows of `x [N, D]` from k-means++ seeds (Arthur and Vassilvitskii, 2007): centres `[k, D]`
/// and the cluster of every row `[N]`. A cluster that loses all its rows keeps its centre.
///
/// # Errors
/// Not a matrix, `k` outside `1..=N`.
pub fn kmeans(x: &Tensor, k: i64, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
    let (n, d) = check_matrix("x", x)?;
    if !(1..=n).contains(&k) {
        return Err(Error::value("number of clusters", format!("1 to {n}, the number of rows"), k));
    }
    tch::no_grad(|| {
        let mut chosen = vec![rng.random_range(0..n)];
        let mut distance = squared_distances(x, &x.narrow(0, chosen[0], 1)).squeeze_dim(1);
        while (chosen.len() as i64) < k {
            // The first row whose cumulative weight passes a uniform share of the whole; any row when all are centres.
            let cumulative = distance.cumsum(0, Kind::Double);
            let share = cumulative.get(n - 1) * rng.random::<f64>();
            let next = i64::try_from(cumulative.le_tensor(&share).sum(Kind::Int64))?.min(n - 1);
            chosen.push(next);
            distance = distance.minimum(&squared_distances(x, &x.narrow(0, next, 1)).squeeze_dim(1));
        }
        let mut centres = x.index_select(0, &Tensor::from_slice(&chosen).to_device(x.device()));
        let mut cluster = squared_distances(x, &centres).argmin(1, false);
        for _ in 0..ITERATIONS {
            let member = cluster.one_hot(k).to_kind(x.kind());
            let count = member.sum_dim_intlist([0i64].as_slice(), false, x.kind()).unsqueeze(1);
            let means = member.tr().matmul(x) / count.clamp_min(1.0);
            centres = means.where_self(&count.gt(0.0).expand([k, d], false), &centres);
            let next = squared_distances(x, &centres).argmin(1, false);
            if next.equal(&cluster) {
                break;
            }
            cluster = next;
        }
        Ok((centres, cluster))
    })
}

/// Squared distances `[N, K]` between the rows of `a [N, D]` and `b [K, D]`.
pub fn squared_distances(a: &Tensor, b: &Tensor) -> Tensor {
    // By differences: the expansion into products is not exact for rows that coincide.
    Tensor::cdist(a, b, 2.0, 2).square()
}
