//! Images made of two: masks, and what they mix.

use super::pixels::check_classes;
use autodidact_core::error::check_range;
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand::RngExt;
use tch::{Device, Kind, Tensor};

/// ClassMix (Olsson et al., 2021; arXiv 2007.07936) as DACS and its successors draw it: for each label map of `labels [B, H, W]`
/// (`Int64`, 255 where there is none), the pixels of half (rounded up) of the classes that are present in the batch. `Bool [B, H, W]`.
///
/// # Errors
/// Labels that are no `Int64 [B, H, W]`, fewer than one class.
pub fn class_masks(labels: &Tensor, classes: i64, rng: &mut Rng) -> Result<Tensor> {
    let (b, ..) = check_classes("labels", labels)?;
    if classes < 1 {
        return Err(Error::value("classes", "at least 1", classes));
    }
    let device = labels.device();
    // Labels outside the classes (255) go to a column of their own, which is never drawn.
    let column = labels.clamp(0, classes).where_self(&labels.ge(0), &Tensor::from(classes).to_device(device));
    let ones = Tensor::ones([labels.numel() as i64], (Kind::Float, device));
    let counts = Tensor::zeros([classes + 1], (Kind::Float, device)).index_add(0, &column.flatten(0, -1), &ones);
    let present = counts.narrow(0, 0, classes).gt(0.0);
    let half = ((present.sum(Kind::Float) + 1.0) / 2.0).floor();
    let scores: Vec<f32> = (0..b * classes).map(|_| rng.random_range(0.0..1.0)).collect();
    let scores = Tensor::from_slice(&scores).view([b, classes]).to_device(device);
    // Absent classes come last.
    let scores = scores + present.logical_not().to_kind(Kind::Float) * 2.0;
    let rank = scores.argsort(1, false).argsort(1, false).to_kind(Kind::Float);
    let chosen = rank.lt_tensor(&half).logical_and(&present);
    let chosen = Tensor::cat(&[chosen, Tensor::zeros([b, 1], (Kind::Bool, device))], 1);
    Ok(chosen.gather(1, &column.flatten(1, -1), false).view_as(labels))
}

/// CutMix (Yun et al., 2019; arXiv 1905.04899) as semi-supervised segmentation draws it: a rectangle of a share `area` of the image,
/// of random shape and place, for each of `b` images. `Bool [B, H, W]`, true inside.
///
/// # Errors
/// `area` outside `(0, 1)`, sizes that are not positive.
pub fn cut_masks(b: i64, [h, w]: [i64; 2], area: f64, device: Device, rng: &mut Rng) -> Result<Tensor> {
    check_range("area", area, f64::MIN_POSITIVE..1.0)?;
    if b < 1 || h < 1 || w < 1 {
        return Err(Error::value("sizes of masks", "positive numbers", format!("{b}, {h} and {w}")));
    }
    let mut edges: Vec<[i64; 4]> = vec![];
    for _ in 0..b {
        let narrowest = ((area * w as f64).ceil() as i64).clamp(1, w);
        let width = rng.random_range(narrowest..=w);
        let height = ((area * (h * w) as f64 / width as f64).round() as i64).clamp(1, h);
        let (left, top) = (rng.random_range(0..=w - width), rng.random_range(0..=h - height));
        edges.push([top, top + height, left, left + width]);
    }
    let edges = Tensor::from_slice(&edges.concat()).view([b, 4]).to_device(device);
    let inside = |n: i64, first: i64, shape: [i64; 3]| {
        let at = Tensor::arange(n, (Kind::Int64, device)).unsqueeze(0);
        let (low, high) = (edges.narrow(1, first, 1), edges.narrow(1, first + 1, 1));
        at.ge_tensor(&low).logical_and(&at.lt_tensor(&high)).view(shape)
    };
    Ok(inside(h, 0, [b, h, 1]).logical_and(&inside(w, 2, [b, 1, w])))
}

/// `a` where `mask [B, H, W]` is true, else `b`: of images `[B, C, H, W]` or of maps `[B, H, W]`.
///
/// # Errors
/// Shapes that do not belong together, a mask that is not `Bool`.
pub fn mix(mask: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if mask.kind() != Kind::Bool || mask.dim() != 3 {
        return Err(Error::shape("mask", "Bool [B, H, W]", mask));
    }
    if a.size() != b.size() {
        return Err(Error::shape("what is mixed", format!("{:?} twice", a.size()), b));
    }
    let m = mask.size();
    match a.size()[..] {
        [b_, h, w] if m == [b_, h, w] => Ok(a.where_self(mask, b)),
        [b_, _, h, w] if m == [b_, h, w] => Ok(a.where_self(&mask.unsqueeze(1), b)),
        _ => Err(Error::shape("what is mixed", format!("[{}, (C,) {}, {}]", m[0], m[1], m[2]), a)),
    }
}
