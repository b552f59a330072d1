//! Networks trained from different initialisations, all at once.

use super::HypothesisSampler;
use autodidact_core::error::check_range;
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::seed::{Rng, rng, seed_torch};
use autodidact_core::{Error, Result};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

/// A class of networks; all have ReLUs and PyTorch's default initialisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// A linear map of the flattened input.
    Linear,
    /// Fully connected hidden layers of these widths.
    Mlp(Vec<i64>),
    /// 3x3 convolutions with these numbers of channels, each followed by 2x2 max-pooling, and a linear map.
    ConvNet(Vec<i64>),
}

/// A class of hypotheses: networks trained on a training set by Adam on the mean squared error, each from its own initialisation and
/// in its own order of the data. `n` networks are trained side by side in the same tensors, by exactly the updates that each
/// would get alone.
#[derive(Debug)]
pub struct TrainedEnsemble {
    /// Architecture.
    pub architecture: Architecture,
    /// Training inputs `[n, d]`, or `[n, C, H, W]` for convolutions; and test inputs.
    pub inputs: (Tensor, Tensor),
    /// Training and test targets, `[n, k]`.
    pub targets: (Tensor, Tensor),
    /// Passes over the training set.
    pub epochs: usize,
    /// Samples per step; what is left of a pass is left out.
    pub batch: usize,
    /// Adam's learning rate.
    pub lr: f64,
}

/// Errors of trained networks.
#[derive(Debug, Clone, PartialEq)]
pub struct Ensemble {
    /// Mean squared error on the training set, of each network. Networks that are not near 0 do not fit it, and are no sample of the
    /// hypotheses that do.
    pub train: Vec<f64>,
    /// Mean squared error on the test set.
    pub test: Vec<f64>,
}

/// Weights of one layer of all networks.
struct Layer {
    /// `[E, in, out]`, or `[E * out, in, 3, 3]`.
    weight: Tensor,
    /// `[E, 1, out]`, or `[E * out]`.
    bias: Tensor,
    convolution: bool,
}

impl Layer {
    fn new(networks: i64, input: i64, output: i64, convolution: bool, device: tch::Device) -> Self {
        let fan_in = if convolution { 9 * input } else { input };
        let bound = (fan_in as f64).sqrt().recip();
        let draw = |shape: &[i64]| {
            (Tensor::rand(shape, (Kind::Float, device)) * (2.0 * bound) - bound).set_requires_grad(true)
        };
        let (weight, bias) = if convolution {
            (draw(&[networks * output, input, 3, 3]), draw(&[networks * output]))
        } else {
            (draw(&[networks, input, output]), draw(&[networks, 1, output]))
        };
        Self { weight, bias, convolution }
    }
}

/// Networks of one shape.
struct Stack {
    layers: Vec<Layer>,
    networks: i64,
}

impl Stack {
    fn new(
        architecture: &Architecture,
        networks: i64,
        input: &[i64],
        outputs: i64,
        device: tch::Device,
    ) -> Result<Self> {
        let (widths, convolution) = match architecture {
            Architecture::Linear => (&[][..], false),
            Architecture::Mlp(widths) => (&widths[..], false),
            Architecture::ConvNet(widths) => (&widths[..], true),
        };
        if let Some(bad) = widths.iter().find(|w| **w < 1) {
            return Err(Error::value("width of a layer", "at least 1", bad));
        }
        let mut features = if convolution { input[0] } else { input.iter().product() };
        let mut layers = vec![];
        for &width in widths {
            layers.push(Layer::new(networks, features, width, convolution, device));
            features = width;
        }
        if convolution {
            let shrunk = |side: i64| side >> widths.len();
            features *= shrunk(input[1]) * shrunk(input[2]);
        }
        layers.push(Layer::new(networks, features, outputs, false, device));
        Ok(Self { layers, networks })
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        let each = |(i, l): (usize, &Layer)| {
            [(format!("{i}.weight"), l.weight.shallow_clone()), (format!("{i}.bias"), l.bias.shallow_clone())]
        };
        self.layers.iter().enumerate().flat_map(each).collect()
    }

    /// Outputs `[E, B, k]` of inputs `[E, B, ..]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        let (e, b) = (self.networks, x.size()[1]);
        let mut x = x.shallow_clone();
        let convolutions = self.layers.iter().filter(|l| l.convolution).count();
        if convolutions > 0 {
            // All networks' channels side by side, in groups.
            let size = x.size();
            x = x.transpose(0, 1).reshape([b, e * size[2], size[3], size[4]]);
            for layer in &self.layers[..convolutions] {
                x = x.conv2d(&layer.weight, Some(&layer.bias), [1, 1], [1, 1], [1, 1], e);
                x = x.relu().max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false);
            }
            x = x.reshape([b, e, -1]).transpose(0, 1);
        } else {
            x = x.reshape([e, b, -1]);
        }
        for (i, layer) in self.layers[convolutions..].iter().enumerate() {
            if i > 0 {
                x = x.relu();
            }
            x = layer.bias.baddbmm(&x, &layer.weight, 1.0, 1.0);
        }
        x
    }

    /// Mean squared errors of every network on the same `x [n, ..]`, `y [n, k]`.
    fn errors(&self, x: &Tensor, y: &Tensor) -> Result<Vec<f64>> {
        let size = [&[self.networks], &x.size()[..]].concat();
        let out = tch::no_grad(|| self.forward(&x.unsqueeze(0).expand(&size, false)));
        let squares = (out.to_kind(Kind::Double) - y.unsqueeze(0)).square();
        Ok(Vec::try_from(squares.mean_dim([1i64, 2].as_slice(), false, Kind::Double))?)
    }
}

impl TrainedEnsemble {
    fn check(&self) -> Result<usize> {
        let (n, k) = autodidact_core::error::check_matrix("targets", &self.targets.0)?;
        let size = self.inputs.0.size();
        let images = matches!(self.architecture, Architecture::ConvNet(_));
        if size.first() != Some(&n) || (images && size.len() != 4) || size.len() < 2 {
            let expected = if images { format!("[{n}, C, H, W]") } else { format!("[{n}, ..], a row per target") };
            return Err(Error::shape("training inputs", expected, &self.inputs.0));
        }
        if let Architecture::ConvNet(widths) = &self.architecture
            && (size[2] >> widths.len() == 0 || size[3] >> widths.len() == 0)
        {
            let expected = format!("images that {} poolings leave something of", widths.len());
            return Err(Error::shape("training inputs", expected, &self.inputs.0));
        }
        let test = self.inputs.1.size();
        if test.len() != size.len() || test[1..] != size[1..] {
            return Err(Error::shape("test inputs", format!("[n_t, ..] with {:?}", &size[1..]), &self.inputs.1));
        }
        if self.targets.1.size() != [test[0], k] {
            return Err(Error::shape("test targets", format!("[{}, {k}]", test[0]), &self.targets.1));
        }
        check_range("batch of an ensemble", self.batch as f64, 1.0..=n as f64)?;
        check_range("epochs of an ensemble", self.epochs as f64, 1.0..)?;
        Ok(n as usize)
    }

    /// Trains `networks` networks.
    ///
    /// # Errors
    /// Inputs and targets that do not fit each other or the architecture; no networks; a rate that is negative.
    pub fn train(&self, networks: usize, seed: u64) -> Result<Ensemble> {
        let n = self.check()?;
        check_range("number of networks", networks as f64, 1.0..)?;
        let (x, y) = (&self.inputs.0, &self.targets.0);
        seed_torch(seed, &["inductive-bias", "networks"]);
        let stack = Stack::new(&self.architecture, networks as i64, &x.size()[1..], y.size()[1], x.device())?;
        let mut optimizer = Optimizer::new(Rule::Adam(Adam::default()), vec![Group::of(stack.parameters(), 0.0)])?;
        let mut orders: Vec<Rng> =
            (0..networks).map(|i| rng(seed, &["inductive-bias", "order", &i.to_string()])).collect();
        for _ in 0..self.epochs {
            let mut order = Vec::with_capacity(networks * n);
            for rng in &mut orders {
                let from = order.len();
                order.extend(0..n as i64);
                order[from..].shuffle(rng);
            }
            let order = Tensor::from_slice(&order).view([networks as i64, n as i64]).to_device(x.device());
            for step in 0..n / self.batch {
                let picked = order.narrow(1, (step * self.batch) as i64, self.batch as i64).reshape([-1]);
                let of = |t: &Tensor| {
                    let size = [&[networks as i64, self.batch as i64], &t.size()[1..]].concat();
                    t.index_select(0, &picked).view(&size[..])
                };
                // The mean over all would divide every network's gradient by their number, which Adam undoes but for its epsilon.
                let loss = stack.forward(&of(x)).mse_loss(&of(y), Reduction::Mean) * networks as f64;
                optimizer.zero_grad();
                loss.backward();
                optimizer.step(self.lr)?;
            }
        }
        Ok(Ensemble { train: stack.errors(x, y)?, test: stack.errors(&self.inputs.1, &self.targets.1)? })
    }
}

impl HypothesisSampler for TrainedEnsemble {
    fn sample_errors(&self, n: usize, seed: u64) -> Result<Vec<f64>> {
        Ok(self.train(n, seed)?.test)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn networks_of_a_stack_do_not_see_each_other() {
        for architecture in [Architecture::Linear, Architecture::Mlp(vec![5, 4]), Architecture::ConvNet(vec![3, 4])] {
            tch::manual_seed(1);
            let stack = Stack::new(&architecture, 3, &[2, 8, 8], 2, Device::Cpu).unwrap();
            let x = Tensor::randn([3, 6, 2, 8, 8], (Kind::Float, Device::Cpu));
            let before = stack.forward(&x);
            // Weights and inputs of the middle one change, and a loss of the first alone has a gradient for it alone.
            let loss = before.get(0).square().sum(Kind::Float);
            loss.backward();
            tch::no_grad(|| {
                for (_, p) in stack.parameters() {
                    let of = |t: &Tensor, i: i64| t.view([3, -1]).get(i);
                    assert!(of(&p.grad(), 0).abs().sum(Kind::Float).double_value(&[]) > 0.0, "{architecture:?}");
                    assert_eq!(of(&p.grad(), 1).abs().sum(Kind::Float).double_value(&[]), 0.0, "{architecture:?}");
                    let _ = of(&p, 1).fill_(0.3);
                }
            });
            let moved = x.copy();
            let _ = moved.get(1).fill_(0.7);
            let after = stack.forward(&moved);
            for i in 0..3 {
                let difference = (after.get(i) - before.get(i)).abs().max().double_value(&[]);
                assert_eq!(difference > 1e-5, i == 1, "{architecture:?}: network {i} by {difference}");
            }
        }
    }
}
