//! Which real images stand for a class.

use autodidact_core::cluster::{kmeans, squared_distances};
use autodidact_core::error::{check_class_indices, check_matrix};
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand::seq::{IndexedRandom, SliceRandom};
use tch::Tensor;

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
