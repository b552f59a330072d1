//! Matching losses that need no expert: gradient matching and distribution matching.

use super::convnet::FlatConvNet;
use super::recipe::cross_entropy;
use super::{DiffAugment, FlatConvNetConfig};
use autodidact_core::error::check_class_indices;
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use tch::Tensor;

/// Added to a product of norms, as the published code does.
const EPS: f64 = 1e-6;

/// `sum (1 - cos)` over the units of all convolutions and the linear layer, between two gradients `[P]` of the network: the
/// distance of gradient matching (Zhao, Mopuri and Bilen, 2021, eq. 9). Biases and normalisation do not count.
///
/// # Errors
/// Vectors of another length.
pub fn gradient_distance(net: &FlatConvNet, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    for g in [a, b] {
        if g.size() != [net.parameters()] {
            return Err(Error::shape("gradient", format!("[{}]", net.parameters()), g));
        }
    }
    let sum = |x: Tensor| x.sum_dim_intlist([1i64].as_slice(), false, x.kind());
    let parts = net.layers().iter().filter(|l| l.shape.len() > 1).map(|layer| {
        let rows =
            |g: &Tensor| g.narrow(0, layer.range.start, layer.range.end - layer.range.start).view([layer.shape[0], -1]);
        let (a, b) = (rows(a), rows(b));
        let norms = sum(a.square()).sqrt() * sum(b.square()).sqrt();
        (-(sum(&a * &b) / (norms + EPS)) + 1.0).sum(a.kind())
    });
    Ok(parts.reduce(|a, b| a + b).expect("a network has layers"))
}

/// A class's images, real and synthetic, under one drawn augmentation.
fn classes_of(
    net: &FlatConvNet,
    real: (&Tensor, &Tensor),
    synthetic: (&Tensor, &Tensor),
    augment: Option<&DiffAugment>,
    rng: &mut Rng,
    mut each: impl FnMut(Tensor, Tensor, i64) -> Result<Tensor>,
) -> Result<Tensor> {
    let FlatConvNetConfig { classes, side, .. } = *net.config();
    for (what, (x, y)) in [("labels of real images", real), ("labels of synthetic images", synthetic)] {
        check_class_indices(what, y, x.size().first().copied().unwrap_or(0), classes)?;
    }
    let mut total: Option<Tensor> = None;
    for class in 0..classes {
        let of = |(x, y): (&Tensor, &Tensor)| x.index_select(0, &y.eq(class).nonzero().view(-1));
        let (mut r, mut s) = (of(real), of(synthetic));
        if r.size()[0] == 0 || s.size()[0] == 0 {
            return Err(Error::value(
                "matched images",
                "some of every class, real and synthetic",
                format!("none of {class}"),
            ));
        }
        if let Some(augment) = augment {
            let drawn = augment.draw(None, side, rng)?;
            (r, s) = (drawn.apply(&r)?, drawn.apply(&s)?);
        }
        let part = each(r, s, class)?;
        total = Some(match total {
            Some(total) => total + part,
            None => part,
        });
    }
    Ok(total.expect("a network has classes"))
}

/// Sum over classes of the [`gradient_distance`] between the gradients of the cross entropy on real and on synthetic images at
/// `theta [P]`, both sides of a class under the same augmentation (DC; with augmentation DSA). Images are `[N, C, S, S]`, labels
/// class indices; differentiable in the synthetic images.
///
/// # Errors
/// A class without images on either side, labels outside the classes, shapes that do not fit the network.
pub fn gradient_matching_loss(
    net: &FlatConvNet,
    theta: &Tensor,
    real: (&Tensor, &Tensor),
    synthetic: (&Tensor, &Tensor),
    augment: Option<&DiffAugment>,
    rng: &mut Rng,
) -> Result<Tensor> {
    let theta = theta.detach().set_requires_grad(true);
    let gradient = |x: &Tensor, class: i64, graph: bool| -> Result<Tensor> {
        let y = Tensor::full([x.size()[0]], class, (tch::Kind::Int64, x.device()));
        let loss = cross_entropy(&net.forward(&theta, x)?, &y);
        Ok(Tensor::f_run_backward(&[&loss], &[&theta], graph, graph)?.swap_remove(0))
    };
    classes_of(net, real, synthetic, augment, rng, |r, s, class| {
        gradient_distance(net, &gradient(&r, class, false)?.detach(), &gradient(&s, class, true)?)
    })
}

/// Sum over classes of the squared distance between the mean features of real and of synthetic images at `theta [P]`, a fresh
/// network, both sides of a class under the same augmentation (DM; Zhao and Bilen, 2023). Differentiable in the synthetic images.
///
/// # Errors
/// As [`gradient_matching_loss`].
pub fn distribution_matching_loss(
    net: &FlatConvNet,
    theta: &Tensor,
    real: (&Tensor, &Tensor),
    synthetic: (&Tensor, &Tensor),
    augment: Option<&DiffAugment>,
    rng: &mut Rng,
) -> Result<Tensor> {
    let mean = |x: &Tensor| -> Result<Tensor> {
        let f = net.features(&theta.detach(), x)?;
        Ok(f.mean_dim([0i64].as_slice(), false, f.kind()))
    };
    classes_of(net, real, synthetic, augment, rng, |r, s, _| {
        let real = tch::no_grad(|| mean(&r))?;
        Ok((real - mean(&s)?).square().sum(s.kind()))
    })
}
