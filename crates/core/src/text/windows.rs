//! Windows of a long token sequence, for language-model training.

use crate::{Error, Result};
use rand::RngExt;
use tch::{Device, Kind, Tensor};

/// A token sequence from which windows of `context` inputs and their next tokens are cut.
#[derive(Debug)]
pub struct Windows {
    tokens: Tensor,
    context: i64,
}

impl Windows {
    /// Windows over `tokens`, kept on `device`.
    ///
    /// # Errors
    /// Fewer than `context + 1` tokens.
    pub fn new(tokens: &[i64], context: usize, device: Device) -> Result<Self> {
        if context == 0 || tokens.len() <= context {
            return Err(Error::value(
                "tokens",
                format!("more than the context of {context} (at least 1)"),
                tokens.len(),
            ));
        }
        Ok(Self { tokens: Tensor::from_slice(tokens).to_device(device), context: context as i64 })
    }

    fn starts(&self) -> i64 {
        self.tokens.size()[0] - self.context
    }

    fn at(&self, starts: &[i64]) -> (Tensor, Tensor) {
        let device = self.tokens.device();
        let offsets = Tensor::arange(self.context, (Kind::Int64, device));
        let index = Tensor::from_slice(starts).to_device(device).unsqueeze(1) + offsets;
        let take = |index: &Tensor| self.tokens.index_select(0, &index.view(-1)).view_as(index);
        (take(&index), take(&(&index + 1)))
    }

    /// `batch` windows at random places: inputs and next tokens, each `[batch, context]`.
    pub fn random(&self, batch: usize, rng: &mut impl rand::Rng) -> (Tensor, Tensor) {
        let starts: Vec<i64> = (0..batch).map(|_| rng.random_range(0..self.starts())).collect();
        self.at(&starts)
    }

    /// `count` windows evenly spread over the sequence, always the same: for validation.
    pub fn fixed(&self, count: usize) -> (Tensor, Tensor) {
        let starts: Vec<i64> = (0..count as i64).map(|i| i * self.starts() / count as i64).collect();
        self.at(&starts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_next_tokens() {
        let tokens: Vec<i64> = (0..50).collect();
        let w = Windows::new(&tokens, 4, Device::Cpu).unwrap();
        for (x, y) in [w.random(8, &mut crate::seed::rng(1, &["windows"])), w.fixed(5)] {
            assert_eq!(&x + 1, y);
            assert_eq!(x.narrow(1, 0, 3) + 1, x.narrow(1, 1, 3));
        }
        assert_eq!(w.fixed(46).0.select(1, 0), Tensor::arange(46, (Kind::Int64, Device::Cpu)));
        assert!(Windows::new(&tokens[..4], 4, Device::Cpu).is_err());
    }
}
