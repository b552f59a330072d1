//! Which real images stand for a class.

use autodidact_core::error::{check_class_indices, check_matrix};
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
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

/// `[N, K]` between the rows of `a [N, D]` and `b [K, D]`.
fn squared_distances(a: &Tensor, b: &Tensor) -> Tensor {
    // By differences: the expansion into products is not exact for rows that coincide.
    Tensor::cdist(a, b, 2.0, 2).square()
}

/// Indices of the `count` rows of `x [N, D]` nearest to a point `[D]`, nearest first.
///
/// # Errors
/// Not a matrix, a point of another width, a count outside `1..=N`.
pub fn nearest(x: &Tensor, point: &Tensor, count: i64) -> Result<Tensor> {
    let (n, d) = check_matrix("x", x)?;
    if point.size() != [d] {
        return Err(Error::shape("point", format!("[{d}]"), point));
    }
    if !(1..=n).contains(&count) {
        return Err(Error::value("count", format!("1 to {n}, the number of rows"), count));
    }
    let order = squared_distances(x, &point.unsqueeze(0)).squeeze_dim(1).argsort_stable(true, 0, false);
    Ok(order.narrow(0, 0, count))
}

/// The rows of each class.
fn by_class(labels: &Tensor, classes: i64, per_class: usize) -> Result<Vec<Vec<i64>>> {
    let n = labels.size().first().copied().unwrap_or(0);
    check_class_indices("labels", labels, n, classes)?;
    let mut rows = vec![vec![]; classes as usize];
    for (row, label) in (0..).zip(Vec::<i64>::try_from(labels)?) {
        rows[label as usize].push(row);
    }
    match rows.iter().position(|r| r.len() < per_class.max(1)) {
        Some(class) => {
            let got = rows[class].len();
            Err(Error::value(format!("images of class {class}"), format!("at least {}", per_class.max(1)), got))
        }
        None if per_class == 0 => Err(Error::value("images per class", "at least 1", 0)),
        None => Ok(rows),
    }
}

/// Indices of `per_class` random rows of every class, class by class.
///
/// # Errors
/// Labels outside the classes, a class with fewer images.
pub fn random_per_class(labels: &Tensor, classes: i64, per_class: usize, rng: &mut Rng) -> Result<Tensor> {
    let rows = by_class(labels, classes, per_class)?;
    let chosen: Vec<i64> =
        rows.iter().flat_map(|rows| rows.sample(rng, per_class).copied().collect::<Vec<_>>()).collect();
    Ok(Tensor::from_slice(&chosen).to_device(labels.device()))
}

/// Indices of `per_class` images of every class that represent it, class by class: the class's `features [N, D]` (logits of an
/// expert, or pixels) are clustered, and the images nearest to the centres are taken, no image twice. Fewer than ten are one for
/// each of as many clusters, more come from ten clusters in turn (Shen, Yang and Lam, 2023).
///
/// # Errors
/// Features and labels of different lengths, labels outside the classes, a class with fewer images.
pub fn representative(
    features: &Tensor,
    labels: &Tensor,
    classes: i64,
    per_class: usize,
    rng: &mut Rng,
) -> Result<Tensor> {
    let (n, _) = check_matrix("features", features)?;
    if labels.size() != [n] {
        return Err(Error::shape("labels", format!("[{n}]"), labels));
    }
    let mut chosen = vec![];
    for rows in by_class(labels, classes, per_class)? {
        let x = features.index_select(0, &Tensor::from_slice(&rows).to_device(features.device()));
        let (centres, _) = kmeans(&x, per_class.min(10) as i64, rng)?;
        let orders: Vec<Vec<i64>> = centres
            .unbind(0)
            .iter()
            .map(|c| Ok(nearest(&x, c, rows.len() as i64)?.try_into()?))
            .collect::<Result<_>>()?;
        let mut taken = vec![false; rows.len()];
        for i in 0..per_class {
            let order = &orders[i % orders.len()];
            let next = order.iter().find(|r| !taken[**r as usize]).expect("a class has enough images");
            taken[*next as usize] = true;
            chosen.push(rows[*next as usize]);
        }
    }
    Ok(Tensor::from_slice(&chosen).to_device(labels.device()))
}

/// Batches of a set in endless shuffled epochs, the last of an epoch smaller if need be.
#[derive(Debug)]
pub(crate) struct Shuffled {
    order: Vec<i64>,
    batch: usize,
    next: usize,
}

impl Shuffled {
    pub fn new(samples: i64, batch: usize) -> Self {
        let order: Vec<i64> = (0..samples).collect();
        Self { batch: batch.clamp(1, order.len().max(1)), next: order.len(), order }
    }

    /// Batches of an epoch.
    pub fn per_epoch(&self) -> usize {
        self.order.len().div_ceil(self.batch)
    }

    /// The next batch; `None` if it is the whole set, whose order does not matter.
    pub fn draw(&mut self, rng: &mut Rng) -> Option<Tensor> {
        if self.batch == self.order.len() {
            return None;
        }
        if self.next == self.order.len() {
            self.order.shuffle(rng);
            self.next = 0;
        }
        let end = (self.next + self.batch).min(self.order.len());
        let batch = &self.order[self.next..end];
        self.next = end;
        Some(Tensor::from_slice(batch))
    }
}
