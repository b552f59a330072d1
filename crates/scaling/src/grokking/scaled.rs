//! The knob between lazy and rich training, for any network.

use autodidact_core::Result;
use autodidact_core::error::check_range;
use tch::Tensor;

/// `alpha (f(x) - f_0(x))`, or `alpha f(x)`: a network whose output is scaled, less its initial output where it is centred.
///
/// With the learning rate over `alpha^2` ([`rate`](Self::rate)) the tangent kernel's part of gradient descent is the same for every
/// `alpha`; the larger `alpha`, the less the features move meanwhile (Chizat et al., 2019; arXiv 1812.07956).
///
/// ```
/// use autodidact_scaling::grokking::OutputScaled;
/// use tch::Tensor;
/// let square = |x: &Tensor| Ok(x.square());
/// let scaled = OutputScaled::new(square, 10.0)?;
/// assert_eq!(scaled.forward(&Tensor::from(3f64))?.double_value(&[]), 90.0);
/// assert_eq!(scaled.rate(1.0), 0.01);
/// let centred = OutputScaled::centred(square, |x: &Tensor| Ok(x * 2.0), 10.0)?;
/// assert_eq!(centred.forward(&Tensor::from(3f64))?.double_value(&[]), 30.0);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug)]
pub struct OutputScaled<M, O = fn(&Tensor) -> Result<Tensor>> {
    model: M,
    origin: Option<O>,
    alpha: f64,
}

impl<M: Fn(&Tensor) -> Result<Tensor>> OutputScaled<M> {
    /// Scales the outputs of `model`.
    ///
    /// # Errors
    /// `alpha` not above 0.
    pub fn new(model: M, alpha: f64) -> Result<Self> {
        check_range("alpha", alpha, f64::MIN_POSITIVE..)?;
        Ok(Self { model, origin: None, alpha })
    }
}

impl<M: Fn(&Tensor) -> Result<Tensor>, O: Fn(&Tensor) -> Result<Tensor>> OutputScaled<M, O> {
    /// The same less `origin`: the network with its initial weights, through which no gradient goes.
    ///
    /// # Errors
    /// `alpha` not above 0.
    pub fn centred(model: M, origin: O, alpha: f64) -> Result<Self> {
        check_range("alpha", alpha, f64::MIN_POSITIVE..)?;
        Ok(Self { model, origin: Some(origin), alpha })
    }

    /// Scaled outputs.
    ///
    /// # Errors
    /// Those of the network.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let out = (self.model)(x)?;
        Ok(match &self.origin {
            Some(origin) => (out - tch::no_grad(|| origin(x))?) * self.alpha,
            None => out * self.alpha,
        })
    }

    /// The learning rate `base / alpha^2`.
    pub fn rate(&self, base: f64) -> f64 {
        base / (self.alpha * self.alpha)
    }
}
