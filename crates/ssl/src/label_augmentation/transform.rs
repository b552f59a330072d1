//! The transformations of images, in the order that joint labels count them.

use super::check_index;
use autodidact_core::{Error, Result};
use tch::Tensor;

/// A finite family of transformations of image batches `[B, C, H, W]`; number 0 is the identity.
pub trait InputTransform {
    /// `M`, the number of transformations.
    fn m(&self) -> i64;

    /// The batch through transformation `j` in `0..M`; the shape stays.
    ///
    /// # Errors
    /// An index outside the range, images that the transformation cannot take.
    fn apply(&self, x: &Tensor, j: i64) -> Result<Tensor>;

    /// All copies of every image, `[B, C, H, W] -> [B*M, C, H, W]`: row `b M + j` is image `b` through transformation `j`.
    ///
    /// # Errors
    /// Images that the transformations cannot take.
    fn apply_all(&self, x: &Tensor) -> Result<Tensor> {
        let copies = (0..self.m()).map(|j| self.apply(x, j)).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::stack(&copies, 1).flatten(0, 1))
    }
}

/// No transformation but the identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity;

/// Counter-clockwise quarter turns, `j` of them; square images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation4;

/// None or a half turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation2;

/// All orders of three channels: RGB, RBG, GRB, GBR, BRG, BGR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColorPerm6;

/// The cyclic orders of three channels: RGB, GBR, BRG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColorPerm3;

/// The first transformation, then the second; the first's index is the outer one: `j = j_first M_second + j_second`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compose<A, B>(pub A, pub B);

/// Height and width.
fn check_images(x: &Tensor) -> Result<(i64, i64)> {
    match x.size()[..] {
        [_, _, h, w] => Ok((h, w)),
        _ => Err(Error::shape("x", "[B, C, H, W]", x)),
    }
}

fn permuted(x: &Tensor, orders: &[[i64; 3]], j: i64) -> Result<Tensor> {
    check_index(orders.len() as i64, j)?;
    check_images(x)?;
    if x.size()[1] != 3 {
        return Err(Error::shape("x", "[B, 3, H, W]", x));
    }
    Ok(x.index_select(1, &Tensor::from_slice(&orders[j as usize]).to_device(x.device())))
}

impl InputTransform for Identity {
    fn m(&self) -> i64 {
        1
    }

    fn apply(&self, x: &Tensor, j: i64) -> Result<Tensor> {
        check_index(1, j)?;
        check_images(x)?;
        Ok(x.shallow_clone())
    }
}

impl InputTransform for Rotation4 {
    fn m(&self) -> i64 {
        4
    }

    fn apply(&self, x: &Tensor, j: i64) -> Result<Tensor> {
        check_index(4, j)?;
        match check_images(x)? {
            (h, w) if h == w => Ok(x.rot90(j, [2, 3])),
            _ => Err(Error::shape("x", "square images [B, C, H, H]", x)),
        }
    }
}

impl InputTransform for Rotation2 {
    fn m(&self) -> i64 {
        2
    }

    fn apply(&self, x: &Tensor, j: i64) -> Result<Tensor> {
        check_index(2, j)?;
        check_images(x)?;
        Ok(x.rot90(2 * j, [2, 3]))
    }
}

impl InputTransform for ColorPerm6 {
    fn m(&self) -> i64 {
        6
    }

    fn apply(&self, x: &Tensor, j: i64) -> Result<Tensor> {
        permuted(x, &[[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]], j)
    }
}

impl InputTransform for ColorPerm3 {
    fn m(&self) -> i64 {
        3
    }

    fn apply(&self, x: &Tensor, j: i64) -> Result<Tensor> {
        permuted(x, &[[0, 1, 2], [1, 2, 0], [2, 0, 1]], j)
    }
}

impl<A: InputTransform, B: InputTransform> InputTransform for Compose<A, B> {
    fn m(&self) -> i64 {
        self.0.m() * self.1.m()
    }

    fn apply(&self, x: &Tensor, j: i64) -> Result<Tensor> {
        check_index(self.m(), j)?;
        self.1.apply(&self.0.apply(x, j / self.1.m())?, j % self.1.m())
    }
}
