//! Convolutional networks of which every convolution has a gate.

use super::head::{HeadInput, MaskHead, Pooling};
use super::{Criterion, peak};
use autodidact_core::error::check_range;
use autodidact_core::nn::layers;
use autodidact_core::optim::sorted_trainables;
use autodidact_core::{Error, Result};
use tch::nn::{BatchNorm, Conv2D, Linear, Module, ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

/// A step of a [`GatedNet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A 3x3 convolution with so many filters, batch norm and ReLU.
    Filters(i64),
    /// 2x2 max pooling.
    Pool,
}

/// Shape of a [`GatedNet`].
#[derive(Debug, Clone, PartialEq)]
pub struct GatedNetConfig {
    /// Input channels.
    pub channels: i64,
    /// Side of the square images.
    pub side: i64,
    /// Convolutions and pooling; the mean over positions and a linear classifier follow.
    pub stages: Vec<Stage>,
    /// Classes.
    pub classes: i64,
    /// How heads read their maps.
    pub pooling: Pooling,
    /// What happens to it before their linear layer.
    pub input: HeadInput,
}

impl GatedNetConfig {
    /// VGG-16 with batch norm for 32x32 images, 313,196,544 multiply-accumulates in its convolutions.
    pub fn vgg16(classes: i64) -> Self {
        use Stage::{Filters, Pool};
        let stages = [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0];
        let stages = stages.map(|f| if f == 0 { Pool } else { Filters(f) }).to_vec();
        Self { channels: 3, side: 32, stages, classes, pooling: Pooling::Max, input: HeadInput::Softmax }
    }
}

/// A convolution with its gate.
#[derive(Debug)]
pub struct Layer {
    pub(super) conv: Conv2D,
    pub(super) norm: BatchNorm,
    pub(super) head: MaskHead,
    /// Whether pooling follows.
    pub(super) pooled: bool,
    /// Channels, filters, positions of the output.
    pub(super) shape: [i64; 3],
}

/// Who decides what is computed.
#[derive(Debug, Clone, Copy)]
pub enum Gates<'a> {
    /// Nobody: everything is.
    Open,
    /// The heads.
    Heads,
    /// The heads, whose gradient passes through the mask as that of the sigmoid (for gates that a regulariser trains).
    StraightThrough,
    /// The target masks themselves: what perfect heads would do.
    Oracle(Criterion),
    /// The same filters for all images, masks `[C]` of each layer.
    Fixed(&'a [Tensor]),
}

/// What a pass gives.
#[derive(Debug)]
pub struct Outcome {
    /// `[B, classes]`.
    pub logits: Tensor,
    /// Of each layer the heads' logits and target masks `[B, C]`, where a criterion was given.
    pub targets: Vec<(Tensor, Tensor)>,
    /// Masks of each layer, `[B, C]`.
    pub masks: Vec<Tensor>,
}

/// Convolutions with batch norm, ReLU and gates; the mean over positions; a linear classifier. Names of the heads' variables start with
/// `heads.`.
#[derive(Debug)]
pub struct GatedNet {
    config: GatedNetConfig,
    pub(super) layers: Vec<Layer>,
    pub(super) classifier: Linear,
    vs: VarStore,
}

impl GatedNet {
    /// A network with fresh weights.
    ///
    /// # Errors
    /// Widths that are not positive, no convolution, more pooling than the side allows.
    pub fn new(config: &GatedNetConfig, device: Device) -> Result<Self> {
        check_range("channels", config.channels as f64, 1.0..)?;
        check_range("classes", config.classes as f64, 1.0..)?;
        let vs = VarStore::new(device);
        let root = vs.root();
        let (mut channels, mut side) = (config.channels, config.side);
        let mut made: Vec<Layer> = vec![];
        for stage in &config.stages {
            match *stage {
                Stage::Filters(filters) => {
                    check_range("filters", filters as f64, 1.0..)?;
                    let p = &root / "layers" / made.len();
                    let head = &root / "heads" / made.len();
                    made.push(Layer {
                        conv: layers::conv2d(&p / "conv", channels, filters, 3, 1, 1, false),
                        norm: layers::batch_norm2d(&p / "norm", filters),
                        head: MaskHead::new(&head, channels, filters, config.pooling, config.input)?,
                        pooled: false,
                        shape: [channels, filters, side * side],
                    });
                    channels = filters;
                }
                Stage::Pool => {
                    side /= 2;
                    let Some(last) = made.last_mut().filter(|l| !l.pooled) else {
                        return Err(Error::value("pooling", "one at most behind a convolution", "another"));
                    };
                    last.pooled = true;
                }
            }
            if side < 1 {
                return Err(Error::value("side of the images", "more than pooling uses up", config.side));
            }
        }
        if made.is_empty() {
            return Err(Error::value("stages", "a convolution at least", "none"));
        }
        let classifier = layers::linear(&root / "classifier", channels, config.classes, true);
        Ok(Self { config: config.clone(), layers: made, classifier, vs })
    }

    /// All variables.
    pub fn store(&self) -> &VarStore {
        &self.vs
    }

    /// Trainable variables of the network, and of its heads.
    pub fn parts(&self) -> [Vec<(String, Tensor)>; 2] {
        let (heads, backbone) =
            sorted_trainables(&self.vs).into_iter().partition(|(name, _)| name.starts_with("heads."));
        [backbone, heads]
    }

    /// Sets all heads to say yes to every filter: the dense network, from which heads may start to learn.
    pub fn open_heads(&self) {
        self.layers.iter().for_each(|l| l.head.open());
    }

    /// Whether heads read a softmax over the channels.
    pub fn reads_softmax(&self) -> bool {
        self.config.input == HeadInput::Softmax
    }

    /// Filters of each layer.
    pub fn filters(&self) -> Vec<i64> {
        self.layers.iter().map(|l| l.shape[1]).collect()
    }

    /// A pass over images `[B, C, H, W]`. With `criterion` the target masks of each layer's activations (before its mask) are given too;
    /// with `detached` heads see their maps without gradient, so that what they learn does not move the network (decoupled training).
    ///
    /// # Errors
    /// Images of other shapes, masks of other shapes, a criterion out of range.
    pub fn forward(
        &self,
        x: &Tensor,
        gates: Gates<'_>,
        criterion: Option<Criterion>,
        detached: bool,
        train: bool,
    ) -> Result<Outcome> {
        self.pass(x, gates, criterion, detached, [train; 2])
    }

    /// A training pass in which heads may be frozen: their running statistics stay, and are what they are standardised by.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_frozen(
        &self,
        x: &Tensor,
        gates: Gates<'_>,
        criterion: Option<Criterion>,
        detached: bool,
        heads_learn: bool,
    ) -> Result<Outcome> {
        self.pass(x, gates, criterion, detached, [true, heads_learn])
    }

    fn pass(
        &self,
        x: &Tensor,
        gates: Gates<'_>,
        criterion: Option<Criterion>,
        detached: bool,
        [train, heads_train]: [bool; 2],
    ) -> Result<Outcome> {
        self.check(x)?;
        let mut x = x.shallow_clone();
        let (mut targets, mut masks) = (vec![], vec![]);
        for (i, layer) in self.layers.iter().enumerate() {
            let out = layer.norm.forward_t(&layer.conv.forward(&x), train).relu();
            let asks = criterion.is_some() || matches!(gates, Gates::Heads | Gates::StraightThrough);
            let logits = asks.then(|| {
                let map = if detached { x.detach() } else { x.shallow_clone() };
                layer.head.logits(&map, heads_train)
            });
            if let (Some(criterion), Some(logits)) = (criterion, &logits) {
                targets.push((logits.shallow_clone(), criterion.mask(&peak(&out)?)?));
            }
            let mask = match (gates, logits) {
                (Gates::Heads, Some(logits)) => MaskHead::mask(&logits),
                (Gates::StraightThrough, Some(logits)) => {
                    let soft = logits.sigmoid();
                    MaskHead::mask(&logits) + &soft - soft.detach()
                }
                (Gates::Oracle(criterion), _) => criterion.mask(&peak(&out)?)?,
                (Gates::Fixed(all), _) => {
                    let mask = all.get(i).filter(|m| m.size() == [layer.shape[1]]);
                    let mask = mask.ok_or_else(|| {
                        Error::value("fixed masks", format!("[{}] for layer {i}", layer.shape[1]), "another or none")
                    })?;
                    mask.to_kind(Kind::Float).unsqueeze(0).expand([out.size()[0], -1], false)
                }
                _ => Tensor::ones([out.size()[0], layer.shape[1]], (Kind::Float, out.device())),
            };
            x = match gates {
                Gates::Open => out,
                _ => out * mask.unsqueeze(-1).unsqueeze(-1),
            };
            if layer.pooled {
                x = x.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false);
            }
            masks.push(mask);
        }
        let logits = self.classifier.forward(&x.mean_dim([2i64, 3].as_slice(), false, Kind::Float));
        Ok(Outcome { logits, targets, masks })
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        let GatedNetConfig { channels, side, .. } = self.config;
        match x.size()[..] {
            [n, c, h, w] if n > 0 && c == channels && h == side && w == side => Ok(()),
            _ => Err(Error::shape("images", format!("[B, {channels}, {side}, {side}]"), x)),
        }
    }

    /// Multiply-accumulates of the convolutions of each image, `[B]` (f64), under masks of each layer: filters that are computed, times
    /// the channels that were, times nine, times positions. Heads and classifier are not counted, as in the paper.
    pub fn macs(&self, masks: &[Tensor]) -> Tensor {
        let each = self.macs_by_layer(masks);
        Tensor::stack(&each, 0).sum_dim_intlist([0i64].as_slice(), false, Kind::Double)
    }

    /// [`macs`](Self::macs) of each layer; differentiable where masks are.
    pub fn macs_by_layer(&self, masks: &[Tensor]) -> Vec<Tensor> {
        let mut inputs = None::<Tensor>;
        let mut all = vec![];
        for (layer, mask) in self.layers.iter().zip(masks) {
            let active = mask.sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
            let [channels, _, positions] = layer.shape;
            let of_one = 9.0 * positions as f64;
            all.push(match &inputs {
                Some(inputs) => &active * inputs * of_one,
                None => &active * (of_one * channels as f64),
            });
            inputs = Some(active);
        }
        all
    }

    /// Multiply-accumulates of an image when everything is computed.
    pub fn dense_macs(&self) -> f64 {
        self.layers.iter().map(|l| 9.0 * l.shape.iter().product::<i64>() as f64).sum()
    }

    /// Peaks of the dense network's activations on images.
    ///
    /// # Errors
    /// Images of other shapes.
    pub fn peaks(&self, images: &Tensor) -> Result<Peaks> {
        let mut parts: Vec<Vec<Tensor>> = self.layers.iter().map(|_| vec![]).collect();
        for x in images.split(500, 0) {
            self.check(&x)?;
            tch::no_grad(|| -> Result<()> {
                let mut x = x;
                for (layer, parts) in self.layers.iter().zip(&mut parts) {
                    x = layer.norm.forward_t(&layer.conv.forward(&x), false).relu();
                    parts.push(peak(&x)?);
                    if layer.pooled {
                        x = x.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false);
                    }
                }
                Ok(())
            })?;
        }
        Ok(Peaks(parts.iter().map(|p| Tensor::cat(p, 0)).collect()))
    }
}

/// Peaks of a dense network's layers on some images, `[N, C]` each: what a criterion would save is known from them.
#[derive(Debug)]
pub struct Peaks(Vec<Tensor>);

impl Peaks {
    /// Target masks of each layer, `[N, C]`.
    ///
    /// # Errors
    /// A criterion out of range.
    pub fn masks(&self, criterion: Criterion) -> Result<Vec<Tensor>> {
        self.0.iter().map(|p| criterion.mask(p)).collect()
    }

    /// Share of the multiply-accumulates that a criterion would save on these images: in all, and of each layer.
    ///
    /// # Errors
    /// A criterion out of range.
    pub fn reduction(&self, net: &GatedNet, criterion: Criterion) -> Result<(f64, Vec<f64>)> {
        let masks = self.masks(criterion)?;
        let mean = |t: &Tensor| t.mean(Kind::Double).double_value(&[]);
        let dense: Vec<f64> = net.layers.iter().map(|l| 9.0 * l.shape.iter().product::<i64>() as f64).collect();
        let each: Vec<f64> = net.macs_by_layer(&masks).iter().map(mean).collect();
        let by_layer = each.iter().zip(&dense).map(|(m, d)| 1.0 - m / d).collect();
        Ok((1.0 - each.iter().sum::<f64>() / net.dense_macs(), by_layer))
    }

    /// The parameter of a family of criteria that saves a share of the multiply-accumulates on these images, by bisection between 0 and
    /// 1: of [`Criterion::Mass`] the share kept, of [`Criterion::Uniform`] the share dropped. To 0.001 in the parameter.
    ///
    /// # Errors
    /// A share outside `(0, 1)`.
    pub fn choose(&self, net: &GatedNet, family: fn(f64) -> Criterion, saved: f64) -> Result<f64> {
        check_range("share of the computation to save", saved, f64::MIN_POSITIVE..1.0)?;
        let at = |parameter: f64| Ok::<f64, Error>(self.reduction(net, family(parameter))?.0);
        // Which way it grows.
        let growing = at(0.9)? >= at(0.1)?;
        let (mut low, mut high) = (0.0, 1.0);
        while high - low > 1e-3 {
            let middle = 0.5 * (low + high);
            if (at(middle)? < saved) == growing {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(0.5 * (low + high))
    }

    /// Fixed masks of the filters that are most often among the targets, so many of each layer: static pruning.
    ///
    /// # Errors
    /// A criterion out of range, counts for other layers.
    pub fn most_frequent(&self, criterion: Criterion, counts: &[i64]) -> Result<Vec<Tensor>> {
        let masks = self.masks(criterion)?;
        if counts.len() != masks.len() {
            return Err(Error::value("counts of filters", format!("{} layers", masks.len()), counts.len()));
        }
        let each = masks.iter().zip(counts).map(|(mask, &count)| {
            check_range("filters to keep", count as f64, 0.0..=mask.size()[1] as f64)?;
            let frequency = mask.mean_dim([0i64].as_slice(), false, Kind::Float);
            let order = frequency.argsort(0, true).narrow(0, 0, count);
            Ok(frequency.zeros_like().index_fill(0, &order, 1.0))
        });
        each.collect()
    }
}
