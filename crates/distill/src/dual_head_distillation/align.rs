//! Gradients of two losses: whether they contradict each other, and an update in which they do not.

use super::{dot, sum};
use autodidact_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Which parameters enter the inner product and the projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All, as published. The heads add nothing to the inner product, but the main head's gradient is part of what is subtracted, and so
    /// is scaled up on a conflict.
    #[default]
    AllParameters,
    /// Those of the backbone; heads get their own loss's gradient.
    BackboneOnly,
}

/// What becomes of gradients whose inner product is negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Projection {
    /// The second loses its part along the first, which stays: DHKD.
    #[default]
    Second,
    /// Each loses its part along the other: PCGrad (Yu, Kumar, Gupta, Levine, Hausman and Finn, 2020; arXiv 2001.06782).
    Both,
}

/// Joins the gradients of two losses (of a first that is to be kept, the cross entropy, and a second, the logit loss):
/// where `g1 . g2 < 0`, `g2` becomes `g2 - (g1 . g2 / ||g1||^2) g1`, and the update is their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GradientAligner {
    /// Which parameters.
    pub scope: Scope,
    /// Which gradients are changed.
    pub projection: Projection,
}

/// A joined gradient.
#[derive(Debug)]
pub struct Aligned {
    /// One per parameter: the backbone's, then the heads'.
    pub gradients: Vec<Tensor>,
    /// Cosine of the two gradients within the scope, a scalar; 0 if one of them is 0.
    pub cosine: Tensor,
    /// Whether it is negative, a boolean scalar.
    pub conflict: Tensor,
}

impl Aligned {
    /// A scalar of value `value` whose gradient with respect to `parameters` (in the order of [`Aligned::gradients`]) is the joined one, so
    /// that any training loop can take it as its loss.
    pub fn as_loss<'a>(&self, value: &Tensor, parameters: impl IntoIterator<Item = &'a Tensor>) -> Tensor {
        let mut total = value.detach();
        for (p, g) in parameters.into_iter().zip(&self.gradients) {
            // The difference has the value 0 and the gradient `g`.
            total += sum(&((p - p.detach()) * g));
        }
        total
    }
}

/// Gradients of a scalar with respect to `parameters`, zeros where it does not depend on one. The graph is kept.
fn gradients(loss: &Tensor, parameters: &[&Tensor]) -> Result<Vec<Tensor>> {
    if parameters.is_empty() {
        return Ok(vec![]);
    }
    let found = Tensor::f_run_backward(&[loss], parameters, true, false)?;
    let known = |(g, p): (Tensor, &&Tensor)| if g.defined() { g } else { p.zeros_like() };
    Ok(found.into_iter().zip(parameters).map(known).collect())
}

fn flat(gradients: &[Tensor]) -> Tensor {
    Tensor::cat(&gradients.iter().map(|g| g.reshape([-1])).collect::<Vec<_>>(), 0)
}

/// `a / b`, and 0 where `b` is 0.
fn ratio(a: &Tensor, b: &Tensor) -> Tensor {
    (a / b).where_self(&b.gt(0.0), &a.zeros_like())
}

fn cosine(g1: &Tensor, g2: &Tensor) -> Tensor {
    ratio(&dot(g1, g2), &(dot(g1, g1).sqrt() * dot(g2, g2).sqrt()))
}

impl GradientAligner {
    /// Joins the gradients of two scalars of one graph (which is kept) with respect to the parameters of the backbone and of the heads.
    /// Nothing is read back from the device.
    ///
    /// # Errors
    /// No parameters in the scope; losses that are not scalars, or parameters without gradients, as libtorch says.
    pub fn combine(&self, first: &Tensor, second: &Tensor, backbone: &[Tensor], heads: &[Tensor]) -> Result<Aligned> {
        let all: Vec<&Tensor> = backbone.iter().chain(heads).collect();
        let inside = match self.scope {
            Scope::AllParameters => all.len(),
            Scope::BackboneOnly => backbone.len(),
        };
        if inside == 0 {
            return Err(Error::value("parameters to align", "at least one", "none"));
        }
        let (g1, g2) = (gradients(first, &all)?, gradients(second, &all)?);
        let (f1, f2) = (flat(&g1[..inside]), flat(&g2[..inside]));
        let product = dot(&f1, &f2);
        let conflict = product.lt(0.0);
        let along = product.clamp_max(0.0);
        let part = |g: &Tensor| ratio(&along, &dot(g, g)).to_kind(f1.kind());
        let mut joined = &f1 + &f2 - part(&f1) * &f1;
        if self.projection == Projection::Both {
            joined -= part(&f2) * &f2;
        }
        let lengths: Vec<i64> = g1[..inside].iter().map(|g| g.numel() as i64).collect();
        let parts = joined.split_with_sizes(&lengths[..], 0).into_iter();
        let mut gradients: Vec<Tensor> = parts.zip(&g1).map(|(part, g)| part.view(&g.size()[..])).collect();
        gradients.extend(g1[inside..].iter().zip(&g2[inside..]).map(|(a, b)| a + b));
        Ok(Aligned { gradients, cosine: cosine(&f1, &f2), conflict })
    }
}

/// Cosines of the gradients of two scalars of one graph (which is kept), for each group of parameters: `[groups]`, f64; 0 where one of the
/// gradients is 0.
///
/// # Errors
/// An empty group; losses that are not scalars, or parameters without gradients, as libtorch says.
pub fn gradient_conflict(first: &Tensor, second: &Tensor, groups: &[Vec<Tensor>]) -> Result<Tensor> {
    if groups.is_empty() || groups.iter().any(Vec::is_empty) {
        return Err(Error::value("groups of parameters", "one or more, none of them empty", groups.len()));
    }
    let all: Vec<&Tensor> = groups.iter().flatten().collect();
    let (g1, g2) = (gradients(first, &all)?, gradients(second, &all)?);
    let mut start = 0;
    let cosines: Vec<Tensor> = groups
        .iter()
        .map(|group| {
            let range = start..start + group.len();
            start = range.end;
            cosine(&flat(&g1[range.clone()]), &flat(&g2[range])).to_kind(Kind::Double)
        })
        .collect();
    Ok(Tensor::stack(&cosines, 0))
}
