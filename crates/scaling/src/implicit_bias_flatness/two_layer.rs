//! A network of two layers with its gradient and its trace in closed form.

use super::BinaryLanguage;
use autodidact_core::device::on_host;
use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::{Error, Result, seed};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// What the sum over hidden units is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OutputScale {
    /// `sqrt m`: wide networks train lazily.
    #[default]
    Root,
    /// `m`: with learning rates times `m`, features move as much at every width.
    Mean,
}

impl OutputScale {
    /// The factor `1/sqrt m` or `1/m`.
    pub fn factor(self, width: i64) -> f64 {
        match self {
            Self::Root => 1.0 / (width as f64).sqrt(),
            Self::Mean => 1.0 / width as f64,
        }
    }

    /// By what learning rates are multiplied, so that functions move equally fast: 1 or `m`.
    pub fn rate(self, width: i64) -> f64 {
        match self {
            Self::Root => 1.0,
            Self::Mean => width as f64,
        }
    }
}

/// The start of a [`TwoLayer`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Init {
    /// `ws`: first-layer weights are normal with variance `ws^2 / d`.
    pub first: f64,
    /// `as`: second-layer weights are `+-as`.
    pub second: f64,
    /// Division of the output.
    pub scale: OutputScale,
}

impl Default for Init {
    fn default() -> Self {
        Self { first: 2.0, second: 2.0, scale: OutputScale::Root }
    }
}

/// `f(x) = c sum_j a_j relu(w_j . x)`, `c = 1/sqrt m` or `1/m`, the logit of label 1. f64.
#[derive(Debug)]
pub struct TwoLayer {
    /// First layer `[m, d]`.
    pub w: Tensor,
    /// Second layer `[m]`.
    pub a: Tensor,
    /// Division of the output.
    pub scale: OutputScale,
}

impl TwoLayer {
    /// A network of width `m` whose second half mirrors the first with opposite `a`: its output is zero.
    ///
    /// # Errors
    /// No inputs, an odd or no width, scales that are not above 0.
    pub fn new(d: i64, m: i64, init: &Init, seed: u64) -> Result<Self> {
        check_range("d", d as f64, 1.0..)?;
        check_range("first-layer scale", init.first, f64::MIN_POSITIVE..)?;
        check_range("second-layer scale", init.second, f64::MIN_POSITIVE..)?;
        if m < 2 || m % 2 != 0 {
            return Err(Error::value("width", "even, at least 2", m));
        }
        seed::seed_torch(seed, &["two-layer"]);
        let options = on_host(Kind::Double);
        let half = Tensor::randn([m / 2, d], options) * (init.first / (d as f64).sqrt());
        let signs = (Tensor::randint(2, [m / 2], options) * 2.0 - 1.0) * init.second;
        Self::from_parts(&Tensor::cat(&[&half, &half], 0), &Tensor::cat(&[&signs, &-&signs], 0), init.scale)
    }

    /// From weights `w [m, d]` and `a [m]`, which are copied to f64.
    ///
    /// # Errors
    /// Other shapes.
    pub fn from_parts(w: &Tensor, a: &Tensor, scale: OutputScale) -> Result<Self> {
        let (m, _) = check_matrix("w", w)?;
        if m == 0 || a.size() != [m] {
            return Err(Error::shape("a", format!("[{m}], one or more"), a));
        }
        let own = |t: &Tensor| t.detach().to_kind(Kind::Double).copy();
        Ok(Self { w: own(w), a: own(a), scale })
    }

    /// Width `m`.
    pub fn width(&self) -> i64 {
        self.a.size()[0]
    }

    /// A copy with its own weights.
    pub fn copy(&self) -> Self {
        Self { w: self.w.detach().copy(), a: self.a.detach().copy(), scale: self.scale }
    }

    /// The same on a device.
    pub fn to_device(&self, device: Device) -> Self {
        Self { w: self.w.to_device(device), a: self.a.to_device(device), scale: self.scale }
    }

    pub(super) fn factor(&self) -> f64 {
        self.scale.factor(self.width())
    }

    /// Checks that a language has this network's inputs.
    pub(super) fn check(&self, language: &BinaryLanguage) -> Result<()> {
        let (d, x) = (self.w.size()[1], &language.inputs);
        if x.size()[1] != d || x.device() != self.w.device() {
            return Err(Error::shape("inputs", format!("[N, {d}] on {:?}", self.w.device()), x));
        }
        Ok(())
    }

    /// Hidden features `relu(W x)`, `[N, m]`, of inputs `[N, d]` (f64).
    ///
    /// # Errors
    /// Inputs of another width or type.
    pub fn features(&self, inputs: &Tensor) -> Result<Tensor> {
        Ok(inputs.f_matmul(&self.w.tr())?.relu())
    }

    /// Logits `[N]` of inputs `[N, d]` (f64).
    ///
    /// # Errors
    /// As [`features`](Self::features).
    pub fn logits(&self, inputs: &Tensor) -> Result<Tensor> {
        Ok(self.features(inputs)?.mv(&self.a) * self.factor())
    }

    /// Population loss in nats, a scalar with its graph if the weights have one.
    ///
    /// # Errors
    /// A language with other inputs.
    pub fn loss(&self, language: &BinaryLanguage) -> Result<Tensor> {
        self.check(language)?;
        language.loss(&self.logits(&language.inputs)?)
    }

    /// Excess of the population loss over the language's entropy, in nats, without loss of digits near 0: the mean divergence of the
    /// predicted from the true probabilities.
    ///
    /// # Errors
    /// A language with other inputs.
    pub fn excess(&self, language: &BinaryLanguage) -> Result<f64> {
        Ok(tch::no_grad(|| self.loss(language))?.double_value(&[]) - language.entropy())
    }

    /// Trace of the population loss' Hessian in closed form, `E_x q(1-q) |grad f|^2` with the model's probabilities `q`:
    ///
    /// `c^2 sum_j E[q(1-q) relu(h_j)^2] + a_j^2 E[q(1-q) 1(h_j > 0) |x|^2]`, `h_j = w_j . x`.
    ///
    /// Second derivatives of the outputs have no entries on the diagonal here, so that this is exact at every weight.
    ///
    /// # Errors
    /// A language with other inputs.
    pub fn trace(&self, language: &BinaryLanguage) -> Result<f64> {
        Ok(self.unit_traces(language)?.sum(Kind::Double).double_value(&[]))
    }

    /// The units' parts of [`trace`](Self::trace), `[m]`.
    ///
    /// # Errors
    /// A language with other inputs.
    pub fn unit_traces(&self, language: &BinaryLanguage) -> Result<Tensor> {
        self.check(language)?;
        tch::no_grad(|| {
            let r = self.features(&language.inputs)?;
            let q = (r.mv(&self.a) * self.factor()).sigmoid();
            let spread = &q * (1.0 - &q) / language.len() as f64;
            let lengths = language.inputs.square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
            let second = r.square().tr().mv(&spread);
            let first = r.sign().tr().mv(&(spread * lengths)) * self.a.square();
            Ok((first + second) * self.factor().powi(2))
        })
    }

    /// Gradient descent on a batch, in place: inputs `[B, d]`, targets `[B]` (labels or their probabilities), mean loss.
    pub(super) fn step(&mut self, inputs: &Tensor, targets: &Tensor, lr: f64, output_only: bool) {
        let rate = lr * self.factor() / inputs.size()[0] as f64;
        let mut r = inputs.matmul(&self.w.tr()).relu_();
        // Minus the rate times the derivative of each sample's loss by c f.
        let mut residual = r.mv(&self.a);
        let _ = residual.g_mul_scalar_(self.factor());
        let _ = residual.sigmoid_().g_sub_(targets).g_mul_scalar_(-rate);
        let second = r.tr().mv(&residual);
        if !output_only {
            let slopes = r.sign_().g_mul_(&self.a);
            let _ = self.w.addmm_(&slopes.tr(), &(inputs * residual.unsqueeze(1)));
        }
        let _ = self.a.g_add_(&second);
    }
}
