//! A distilled set: images with targets.

use autodidact_core::train::Checkpoint;
use autodidact_core::{Error, Result};
use std::path::Path;
use tch::{Device, Tensor};

/// Synthetic images with what a network is to predict at them.
#[derive(Debug)]
pub struct DistilledSet {
    /// Images `[m, C, S, S]`, normalised as the real ones.
    pub x: Tensor,
    /// Targets `[m, d]`.
    pub y: Tensor,
}

impl DistilledSet {
    /// A set.
    ///
    /// # Errors
    /// No images, or targets that are not one row for each.
    pub fn new(x: Tensor, y: Tensor) -> Result<Self> {
        match x.size()[..] {
            [m, _, _, _] if m > 0 => {
                if y.dim() != 2 || y.size()[0] != m {
                    return Err(Error::shape("targets", format!("[{m}, d]"), &y));
                }
                Ok(Self { x, y })
            }
            _ => Err(Error::shape("images", "[m, C, S, S] with at least one image", &x)),
        }
    }

    /// Number of images `m`.
    pub fn len(&self) -> i64 {
        self.x.size()[0]
    }

    /// Never: a set has an image.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// A copy without gradients.
    pub fn copy(&self) -> Self {
        Self { x: self.x.detach().copy(), y: self.y.detach().copy() }
    }

    /// A copy whose images, and targets if so said, are to be learned.
    pub(super) fn trainable(&self, targets: bool) -> Self {
        let Self { x, y } = self.copy();
        Self { x: x.set_requires_grad(true), y: y.set_requires_grad(targets) }
    }

    /// Writes a safetensors file, atomically.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut file = Checkpoint::default();
        file.insert("set", [("x", &self.x), ("y", &self.y)].map(|(n, t)| (n.to_owned(), t.detach())));
        file.save(path)
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// A file that cannot be read or holds something else.
    pub fn load(path: &Path, device: Device) -> Result<Self> {
        let mut tensors = Checkpoint::load(path, device)?.section("set");
        match (tensors.remove("x"), tensors.remove("y")) {
            (Some(x), Some(y)) => Self::new(x, y),
            _ => Err(Error::format(path, "the images and targets of a distilled set", "other tensors")),
        }
    }
}
