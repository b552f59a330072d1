//! Pretext tasks: which rotation, or which order of tiles, was applied to an image.
//!
//! A task [poses](Pretext::pose) transformed copies of images with their labels; the encoder's representations of the copies go
//! to the task's head, whose cross entropy is the regulariser. As in the published code the copies are images of their own
//! beside the two views, which are never rotated; copies of the rotation task are augmented afterwards, tiles are not.
//!
//! ```
//! use autodidact_core::seed::rng;
//! use autodidact_ssl::scatsimclr::pretext::{Pretext, PretextSchedule};
//! use tch::{Device, Kind, Tensor, nn::VarStore};
//! # fn main() -> autodidact_core::Result<()> {
//! let vs = VarStore::new(Device::Cpu);
//! let task = Pretext::rotation(vs.root(), 2048)?;
//! let x = Tensor::rand([2, 3, 32, 32], (Kind::Float, Device::Cpu));
//! let (copies, labels) = task.pose(&x, &mut rng(0, &["pretext"]))?;
//! assert_eq!((copies.size(), Vec::<i64>::try_from(labels)?), (vec![8, 3, 32, 32], vec![0, 1, 2, 3, 0, 1, 2, 3]));
//! // 40 epochs without the task, then its weight is 0.3.
//! let schedule = PretextSchedule { warmup: 400, lambda: 0.3 };
//! assert_eq!((schedule.weight(399), schedule.weight(400)), (0.0, 0.3));
//! # Ok(())
//! # }
//! ```

use crate::label_augmentation::{InputTransform, Rotation4};
use autodidact_core::nn::{Mlp, MlpConfig, layers};
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand::RngExt;
use tch::nn::{Linear, Module, ModuleT, Path};
use tch::{Kind, Tensor};

/// Tiles of an image: 3x3.
const TILES: usize = 9;
/// Width of the first layer of both heads.
const HIDDEN: i64 = 512;
/// Of both heads.
const DROPOUT: f64 = 0.5;

/// When and how much a task counts.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PretextSchedule {
    /// Steps without the task. In the paper 40 epochs; its code has none.
    pub warmup: usize,
    /// Weight afterwards; 0.3 in the paper.
    pub lambda: f64,
}

impl PretextSchedule {
    /// The weight at a step, from 0.
    pub fn weight(&self, step: usize) -> f64 {
        if step < self.warmup { 0.0 } else { self.lambda }
    }
}

/// A task with its head.
#[derive(Debug)]
pub enum Pretext {
    /// Quarter turns.
    Rotation(RotationHead),
    /// Orders of tiles.
    Jigsaw(JigsawHead),
}

/// Predicts the number of quarter turns: linear layers of 512, 128 and 4 units, with ReLU and dropout 0.5 between them.
#[derive(Debug)]
pub struct RotationHead {
    layers: Mlp,
    features: i64,
}

/// Predicts the order of nine tiles: a linear layer of 512 units for each tile, then 4096 units for all nine, then a score for
/// each order, with ReLU and dropout 0.5 between them.
#[derive(Debug)]
pub struct JigsawHead {
    tile: Linear,
    all: Mlp,
    /// `Int64 [orders, 9]`: tile `orders[k][t]` comes to place `t`.
    orders: Tensor,
}

impl Pretext {
    /// Rotation by 0 to 3 quarter turns, counter-clockwise, of representations of width `features`.
    ///
    /// # Errors
    /// A width that is not positive.
    pub fn rotation(p: Path, features: i64) -> Result<Self> {
        let config = MlpConfig { dropout: DROPOUT, ..MlpConfig::plain(&[features, HIDDEN, 128, 4]) };
        Ok(Self::Rotation(RotationHead { layers: Mlp::new(p / "rotation", &config)?, features }))
    }

    /// The order of tiles, one of `orders` ([`max_hamming_permutations`]; 35 in the paper).
    ///
    /// # Errors
    /// Fewer than two orders, rows that are not permutations, a width that is not positive.
    pub fn jigsaw(p: Path, features: i64, orders: &[[u8; TILES]]) -> Result<Self> {
        let is_order = |order: &[u8; TILES]| (0..TILES as u8).all(|t| order.contains(&t));
        if orders.len() < 2 || !orders.iter().all(is_order) || features < 1 {
            return Err(Error::value(
                "jigsaw",
                "features, and two or more permutations of 0..9",
                format!("{features} features, {orders:?}"),
            ));
        }
        let p = p / "jigsaw";
        let widths = [TILES as i64 * HIDDEN, 4096, orders.len() as i64];
        let all = Mlp::new(&p / "all", &MlpConfig { dropout: DROPOUT, ..MlpConfig::plain(&widths) })?;
        let table: Vec<i64> = orders.iter().flatten().map(|t| i64::from(*t)).collect();
        let orders = Tensor::from_slice(&table).view([-1, TILES as i64]).to_device(p.device());
        Ok(Self::Jigsaw(JigsawHead { tile: layers::linear(&p / "tile", features, HIDDEN, true), all, orders }))
    }

    /// Copies of images `[N, C, H, W]` whose transformation is to be predicted, and the labels. Rotation: `[4N, C, H, W]`, all
    /// four of each image in turn, labels `[4N]`. Jigsaw: the nine tiles of each image in an order drawn from the table, each
    /// resized to the image's size, `[9N, C, H, W]`, labels `[N]`.
    ///
    /// # Errors
    /// Images that are not square (rotation) or smaller than 5x5 (jigsaw).
    pub fn pose(&self, x: &Tensor, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        match self {
            Self::Rotation(_) => {
                let copies = Rotation4.apply_all(x)?;
                let labels = Tensor::arange(4, (Kind::Int64, x.device())).repeat([x.size()[0]]);
                Ok((copies, labels))
            }
            Self::Jigsaw(head) => {
                let tiles = tiles(x)?;
                let (n, count) = (x.size()[0], head.orders.size()[0]);
                let labels: Vec<i64> = (0..n).map(|_| rng.random_range(0..count)).collect();
                let labels = Tensor::from_slice(&labels).to_device(x.device());
                let first = Tensor::arange(n, (Kind::Int64, x.device())).unsqueeze(1) * TILES as i64;
                let chosen = head.orders.index_select(0, &labels) + first;
                Ok((tiles.flatten(0, 1).index_select(0, &chosen.view(-1)), labels))
            }
        }
    }

    /// Scores of the labels, from the representations `[copies, features]` of the posed copies in their order.
    ///
    /// # Errors
    /// A number of copies that is not a multiple of nine (jigsaw); another width.
    pub fn logits(&self, h: &Tensor, train: bool) -> Result<Tensor> {
        match self {
            Self::Rotation(head) => match h.size()[..] {
                [_, width] if width == head.features => Ok(head.layers.forward_t(h, train)),
                _ => Err(Error::shape("h", format!("[4 N, {}]", head.features), h)),
            },
            Self::Jigsaw(head) => match h.size()[..] {
                [copies, width] if copies > 0 && copies % TILES as i64 == 0 && width == head.tile.ws.size()[1] => {
                    let each = head.tile.forward(h).relu().dropout(DROPOUT, train);
                    Ok(head.all.forward_t(&each.view([copies / TILES as i64, -1]), train))
                }
                _ => Err(Error::shape("h", format!("[9 N, {}]", head.tile.ws.size()[1]), h)),
            },
        }
    }
}

/// The 3x3 tiles of images `[N, C, H, W]`, row by row, each resized bilinearly to the image's size: `[N, 9, C, H, W]`. Where three
/// does not divide a side, the tiles leave the pixels at their borders out, as the published code does.
///
/// # Errors
/// Images of which a tile would be empty: sides below 3, or of 4.
pub fn tiles(x: &Tensor) -> Result<Tensor> {
    let [h, w] = match x.size()[..] {
        [_, _, h, w] if [h, w].iter().all(|side| *side >= 3 && *side != 4) => [h, w],
        _ => return Err(Error::shape("x", "[N, C, H, W] with sides of 3, or of 5 and more", x)),
    };
    let span = |i: i64, side: i64| ((i * side + 2) / 3, (i + 1) * side / 3);
    let all: Vec<Tensor> = (0..TILES as i64)
        .map(|t| {
            let ((top, bottom), (left, right)) = (span(t / 3, h), span(t % 3, w));
            let tile = x.narrow(2, top, bottom - top).narrow(3, left, right - left);
            tile.upsample_bilinear2d([h, w], false, None, None)
        })
        .collect();
    Ok(Tensor::stack(&all, 1))
}

/// `count` permutations of nine tiles that are far from each other: the identity, then always the permutation whose least Hamming
/// distance to those before is largest (of equals, the one whose distances sum to most; of those, the first in lexicographic
/// order).
///
/// # Errors
/// None, or more than 1000.
pub fn max_hamming_permutations(count: usize) -> Result<Vec<[u8; TILES]>> {
    if !(1..=1000).contains(&count) {
        return Err(Error::value("permutations", "1 to 1000", count));
    }
    let all = permutations();
    let mut chosen = vec![all[0]];
    let mut distances = vec![(u8::MAX, 0u32); all.len()];
    while chosen.len() < count {
        let last = chosen[chosen.len() - 1];
        for (order, (least, sum)) in all.iter().zip(&mut distances) {
            let d = order.iter().zip(&last).filter(|(a, b)| a != b).count() as u8;
            (*least, *sum) = ((*least).min(d), *sum + u32::from(d));
        }
        let best = (0..all.len()).rev().max_by_key(|&i| distances[i]).unwrap_or(0);
        chosen.push(all[best]);
    }
    Ok(chosen)
}

/// All orders of nine, lexicographically.
fn permutations() -> Vec<[u8; TILES]> {
    let mut order: [u8; TILES] = std::array::from_fn(|i| i as u8);
    let mut all = vec![order];
    // The next one: raise the last element that has a larger one behind it by the least, and sort what follows.
    while let Some(i) = (0..TILES - 1).rfind(|&i| order[i] < order[i + 1]) {
        let j = (i + 1..TILES).rfind(|&j| order[j] > order[i]).unwrap_or(i + 1);
        order.swap(i, j);
        order[i + 1..].reverse();
        all.push(order);
    }
    all
}
