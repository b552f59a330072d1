//! Inference that skips what gates say is not needed.

use super::head::{EPSILON, HeadInput};
use super::network::GatedNet;
use autodidact_core::{Error, Result};
use tch::{Kind, Tensor};

/// A layer with its batch norm folded into the convolution, and its head's normalisation into the head.
#[derive(Debug)]
struct Folded {
    /// `[filters, channels, 3, 3]`.
    weight: Tensor,
    bias: Tensor,
    /// Of the head, `[filters, channels]`.
    head: Tensor,
    head_bias: Tensor,
    softmax: bool,
    pooled: bool,
}

/// A [`GatedNet`] for one image at a time: of each layer only the filters that its head asks for are computed, from the channels that the
/// layer before computed. The kernels that are needed are gathered for every image.
///
/// Filters are computed in multiples of a block, the surplus ones silenced, because convolution libraries are made for widths of whole
/// vectors. Layers with maps of fewer than 64 positions are computed whole and silenced: to gather a kernel costs about as much as to use it
/// at that many positions. Results depend on neither.
#[derive(Debug)]
pub struct CompactNet<'a> {
    net: &'a GatedNet,
    layers: Vec<Folded>,
    block: i64,
}

/// Fewest positions of a map at which gathering kernels pays.
const POSITIONS: i64 = 64;

impl Folded {
    /// All filters on a map of all channels, `[1, C, H, W]`. Of small maps the kernels outweigh the arithmetic: as a matrix product they are
    /// read once, where a convolution library would rearrange them first.
    fn whole(&self, x: &Tensor) -> Result<Tensor> {
        let [_, _, height, width] = x.size()[..] else { return Err(Error::shape("map", "[1, C, H, W]", x)) };
        if height * width >= POSITIONS {
            return Ok(x.f_conv2d(&self.weight, Some(&self.bias), [1, 1], [1, 1], [1, 1], 1)?.relu_());
        }
        let columns = x.f_im2col([3, 3], [1, 1], [1, 1], [1, 1])?.squeeze_dim(0);
        let out = self.bias.unsqueeze(1).f_addmm(&self.weight.flatten(1, -1), &columns)?;
        Ok(out.relu().view([1, -1, height, width]))
    }
}

impl<'a> CompactNet<'a> {
    /// Folds a network; `block` is 16 where there is no reason for another.
    ///
    /// # Errors
    /// A block below 1.
    pub fn new(net: &'a GatedNet, block: i64) -> Result<Self> {
        if block < 1 {
            return Err(Error::value("block of filters", "at least 1", block));
        }
        let fold = |layer: &super::Layer| {
            let norm = &layer.norm;
            let gain = (&norm.running_var + EPSILON).rsqrt();
            let gain = norm.ws.as_ref().map_or_else(|| gain.shallow_clone(), |w| w * &gain);
            let shift = -&norm.running_mean * &gain;
            let shift = norm.bs.as_ref().map_or_else(|| shift.shallow_clone(), |b| b + &shift);
            let head = &layer.head;
            let zero = || Tensor::zeros([layer.shape[1]], (Kind::Float, shift.device()));
            let own = head.linear.bs.as_ref().map_or_else(zero, Tensor::shallow_clone);
            let (weight, bias) = match head.input() {
                HeadInput::Standardised => {
                    let scaled = &head.linear.ws * (&head.variance + EPSILON).rsqrt();
                    let bias = own - scaled.mv(&head.mean);
                    (scaled, bias)
                }
                _ => (head.linear.ws.shallow_clone(), own),
            };
            Folded {
                weight: (&layer.conv.ws * gain.view([-1, 1, 1, 1])).contiguous(),
                bias: shift,
                head: weight,
                head_bias: bias,
                softmax: head.input() == HeadInput::Softmax,
                pooled: layer.pooled,
            }
        };
        Ok(Self { net, layers: tch::no_grad(|| net.layers.iter().map(fold).collect()), block })
    }

    /// Logits `[1, classes]` of one image `[1, C, H, W]`, and how many filters of each layer its heads asked for. `open`: all filters,
    /// with the heads not asked: the dense network.
    ///
    /// # Errors
    /// Another shape.
    pub fn forward(&self, image: &Tensor, open: bool) -> Result<(Tensor, Vec<i64>)> {
        if image.dim() != 4 || image.size()[0] != 1 {
            return Err(Error::shape("image", "[1, C, H, W]", image));
        }
        tch::no_grad(|| {
            let mut x = image.shallow_clone();
            // Channels that `x` holds; all where none.
            let mut held = None::<Tensor>;
            let mut counts = vec![];
            for (i, layer) in self.layers.iter().enumerate() {
                if open {
                    x = layer.whole(&x)?;
                    counts.push(layer.weight.size()[0]);
                } else {
                    let (out, computed, count) = self.layer(i, &x, held.as_ref())?;
                    x = out;
                    held = computed;
                    counts.push(count);
                }
                if layer.pooled {
                    x = x.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false);
                }
            }
            let mean = x.mean_dim([2i64, 3].as_slice(), false, Kind::Float);
            let classifier = &self.net.classifier;
            let weight = match &held {
                Some(held) => classifier.ws.index_select(1, held),
                None => classifier.ws.shallow_clone(),
            };
            Ok((mean.f_linear(&weight, classifier.bs.as_ref())?, counts))
        })
    }

    /// A layer's output for the filters that are computed, which these are, and how many of them the head asked for.
    fn layer(&self, i: usize, x: &Tensor, held: Option<&Tensor>) -> Result<(Tensor, Option<Tensor>, i64)> {
        let layer = &self.layers[i];
        let filters = layer.weight.size()[0];
        let pooled = self.net.layers[i].head.pool(x);
        let e = match held {
            // What was not computed is 0.
            Some(held) if layer.softmax => {
                let channels = layer.weight.size()[1];
                pooled.new_zeros([1, channels], (Kind::Float, pooled.device())).index_copy(1, held, &pooled)
            }
            _ => pooled,
        };
        let logits = if layer.softmax {
            e.softmax(1, Kind::Float).f_linear(&layer.head, Some(&layer.head_bias))?
        } else {
            let weight = held.map_or_else(|| layer.head.shallow_clone(), |h| layer.head.index_select(1, h));
            e.f_linear(&weight, Some(&layer.head_bias))?
        };
        let logits = logits.view([-1]);
        let count = logits.gt(0.0).sum(Kind::Int64).int64_value(&[]);
        let kept = ((count + self.block - 1) / self.block * self.block).min(filters);
        let [channels, _, positions] = self.net.layers[i].shape;
        let whole = positions < POSITIONS;
        if whole || (kept == filters && held.is_none()) {
            let size = x.size();
            let x = match held {
                Some(held) => {
                    x.new_zeros([1, channels, size[2], size[3]], (Kind::Float, x.device())).index_copy(1, held, x)
                }
                None => x.shallow_clone(),
            };
            return Ok((silenced(layer.whole(&x)?, &logits, count), None, count));
        }
        let (values, index) = logits.topk(kept.max(1), 0, true, true);
        let weight = layer.weight.index_select(0, &index);
        let weight = held.map_or_else(|| weight.shallow_clone(), |h| weight.index_select(1, h));
        let bias = layer.bias.index_select(0, &index);
        let out = x.f_conv2d(&weight, Some(&bias), [1, 1], [1, 1], [1, 1], 1)?.relu_();
        Ok((silenced(out, &values, count), Some(index), count))
    }
}

/// A map whose channels are 0 where the logits `[C]` do not ask for them; `count` of them do.
fn silenced(map: Tensor, logits: &Tensor, count: i64) -> Tensor {
    if count == logits.size()[0] { map } else { map * logits.gt(0.0).to_kind(Kind::Float).view([1, -1, 1, 1]) }
}
