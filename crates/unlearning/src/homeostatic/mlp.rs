//! A perceptron on flat slices, with its gradient written out: at these sizes a call of libtorch costs more than the arithmetic.

use autodidact_core::error::check_range;
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand_distr::{Distribution, Normal};

/// Fully connected layers with ELU (`alpha = 1`) between them and a softmax behind the last; f32, on the CPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    sizes: Vec<usize>,
    /// Per layer the weights `[in, out]`, row by row, then the biases `[out]`.
    params: Vec<f32>,
}

/// Room for the activations of one sample and their gradients, so that no step allocates.
#[derive(Debug, Clone)]
pub struct Workspace {
    activations: Vec<Vec<f32>>,
    deltas: Vec<Vec<f32>>,
}

impl Mlp {
    /// Weights from `N(0, 2 / in)`, biases from `N(0, 1)` (as published).
    ///
    /// # Errors
    /// Fewer than two sizes, or a size of 0.
    pub fn new(sizes: &[usize], rng: &mut Rng) -> Result<Self> {
        if sizes.len() < 2 || sizes.contains(&0) {
            return Err(Error::value("sizes", "two or more positive sizes", format!("{sizes:?}")));
        }
        let mut params = vec![];
        for pair in sizes.windows(2) {
            let weight = Normal::new(0.0, (2.0 / pair[0] as f32).sqrt()).expect("a finite deviation");
            let bias = Normal::new(0.0, 1.0).expect("a finite deviation");
            params.extend((0..pair[0] * pair[1]).map(|_| weight.sample(rng)));
            params.extend((0..pair[1]).map(|_| bias.sample(rng)));
        }
        Ok(Self { sizes: sizes.to_vec(), params })
    }

    /// Sizes of input, hidden layers and output.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// All parameters: per layer the weights `[in, out]`, row by row, then the biases.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// Room for one sample of this network.
    pub fn workspace(&self) -> Workspace {
        let of = |sizes: &[usize]| sizes.iter().map(|n| vec![0.0; *n]).collect();
        Workspace { activations: of(&self.sizes[1..]), deltas: of(&self.sizes[1..]) }
    }

    /// Offset and sizes of every layer.
    fn layers(&self) -> impl DoubleEndedIterator<Item = (usize, usize, usize)> + ExactSizeIterator {
        let mut from = 0;
        let layers: Vec<_> = self
            .sizes
            .windows(2)
            .map(|s| {
                let at = from;
                from += (s[0] + 1) * s[1];
                (at, s[0], s[1])
            })
            .collect();
        layers.into_iter()
    }

    /// Fills the workspace with the activations of `x`, logits last, and gives the class of the largest logit (the first of equals).
    pub fn predict(&self, x: &[f32], space: &mut Workspace) -> usize {
        debug_assert_eq!(x.len(), self.sizes[0]);
        let last = self.sizes.len() - 2;
        for (l, (at, inputs, outputs)) in self.layers().enumerate() {
            let (before, rest) = space.activations.split_at_mut(l);
            let input = before.last().map_or(x, |a| &a[..]);
            let out = &mut rest[0][..];
            let (weights, bias) = self.params[at..at + (inputs + 1) * outputs].split_at(inputs * outputs);
            out.copy_from_slice(bias);
            for (row, x) in weights.chunks_exact(outputs).zip(input) {
                // Images are mostly background.
                if *x != 0.0 {
                    for (o, w) in out.iter_mut().zip(row) {
                        *o += x * w;
                    }
                }
            }
            if l < last {
                out.iter_mut().filter(|z| **z < 0.0).for_each(|z| *z = z.exp_m1());
            }
        }
        argmax(&space.activations[last])
    }

    /// Adds the gradient of the cross-entropy of one sample to `gradient` (as [`Mlp::params`]); gives the prediction.
    pub fn accumulate(&self, x: &[f32], label: usize, space: &mut Workspace, gradient: &mut [f32]) -> usize {
        let guess = self.predict(x, space);
        let Workspace { activations, deltas } = space;
        let last = activations.len() - 1;
        let (logits, error) = (&activations[last], &mut deltas[last]);
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        error.iter_mut().zip(logits).for_each(|(e, z)| *e = (z - max).exp());
        let sum: f32 = error.iter().sum();
        error.iter_mut().for_each(|e| *e /= sum);
        error[label] -= 1.0;
        for (l, (at, inputs, outputs)) in self.layers().enumerate().rev() {
            let (before, rest) = deltas.split_at_mut(l);
            let delta = &rest[0][..];
            let input = if l == 0 { x } else { &activations[l - 1][..] };
            let (weights, bias) = gradient[at..at + (inputs + 1) * outputs].split_at_mut(inputs * outputs);
            for (row, x) in weights.chunks_exact_mut(outputs).zip(input) {
                if *x != 0.0 {
                    for (g, d) in row.iter_mut().zip(delta) {
                        *g += x * d;
                    }
                }
            }
            bias.iter_mut().zip(delta).for_each(|(g, d)| *g += d);
            if let Some(out) = before.last_mut() {
                let rows = self.params[at..at + inputs * outputs].chunks_exact(outputs);
                for ((o, row), a) in out.iter_mut().zip(rows).zip(input) {
                    // ELU's derivative by its value: 1 above 0, value + 1 below.
                    *o = dot(row, delta) * if *a < 0.0 { a + 1.0 } else { 1.0 };
                }
            }
        }
        guess
    }

    /// `theta - lr * gradient`, in place.
    pub fn sgd_step(&mut self, lr: f32, gradient: &[f32]) {
        self.params.iter_mut().zip(gradient).for_each(|(p, g)| *p -= lr * g);
    }

    /// Becomes `from` after one step: what a simulation looks at while the real weights stay.
    pub fn set_to_step_of(&mut self, from: &Mlp, lr: f32, gradient: &[f32]) {
        for ((p, f), g) in self.params.iter_mut().zip(&from.params).zip(gradient) {
            *p = f - lr * g;
        }
    }
}

/// The first of the largest.
fn argmax(values: &[f32]) -> usize {
    values.iter().enumerate().fold(0, |best, (i, v)| if *v > values[best] { i } else { best })
}

/// Eight sums side by side: a single one could not use vector instructions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for i in 0..8 {
            sums[i] += x[i] * y[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// What turns a minibatch's mean gradient into a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Update {
    /// `theta - eta g`.
    Sgd,
    /// `v = mu v + g`, `theta - eta v`.
    Momentum(f32),
    /// Adam with `beta = (0.9, 0.999)` and `eps = 1e-8`.
    Adam,
}

/// An [`Update`] with its state.
#[derive(Debug, Clone)]
pub struct Updater {
    update: Update,
    first: Vec<f32>,
    second: Vec<f32>,
    steps: i32,
}

impl Updater {
    /// For `n` parameters.
    ///
    /// # Errors
    /// A momentum outside `[0, 1)`.
    pub fn new(update: Update, n: usize) -> Result<Self> {
        let of = |on: bool| if on { vec![0.0; n] } else { vec![] };
        if let Update::Momentum(mu) = update {
            check_range("momentum", f64::from(mu), 0.0..1.0)?;
        }
        Ok(Self { update, first: of(update != Update::Sgd), second: of(update == Update::Adam), steps: 0 })
    }

    /// One step of `net`, from the mean gradient, at rate `eta`.
    pub fn step(&mut self, net: &mut Mlp, eta: f32, gradient: &[f32]) {
        self.steps += 1;
        match self.update {
            Update::Sgd => net.sgd_step(eta, gradient),
            Update::Momentum(mu) => {
                self.first.iter_mut().zip(gradient).for_each(|(v, g)| *v = mu * *v + g);
                net.sgd_step(eta, &self.first);
            }
            Update::Adam => {
                let (one, two) = (1.0 - 0.9f32.powi(self.steps), 1.0 - 0.999f32.powi(self.steps));
                let moments = self.first.iter_mut().zip(&mut self.second);
                for ((p, g), (m, v)) in net.params.iter_mut().zip(gradient).zip(moments) {
                    *m += 0.1 * (g - *m);
                    *v += 0.001 * (g * g - *v);
                    *p -= eta * (*m / one) / ((*v / two).sqrt() + 1e-8);
                }
            }
        }
    }
}
