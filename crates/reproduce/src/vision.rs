//! What the experiments on images share: small encoders, images as tensors, and the judges of a frozen representation.

use crate::experiment::Plan;
use anyhow::{Result, ensure};
use autodidact_core::metrics::{Knn, RidgeProbe, Vote, accuracy};
use autodidact_core::nn::{
    ConvNet, ConvNetConfig, ConvNetHead, Mlp, MlpConfig, ResNet, ResNetConfig, ResNetDepth, ResNetStem,
};
use autodidact_core::{Error, seed};
use autodidact_datasets::augment::{Pipeline, barlow_twins_small_color, barlow_twins_small_digits};
use autodidact_datasets::image::{ImageSet, shapes};
use autodidact_datasets::load_images;
use serde::{Deserialize, Serialize};
use tch::nn::{ModuleT, Path};
use tch::{Device, Kind, Tensor};

/// An encoder, from images to representations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoder {
    /// Four convolutions and the mean over positions: 256 features.
    Pooled,
    /// Three convolutions and a linear layer: 128 features.
    Flat,
    /// ResNet-18 with the CIFAR stem: 512 features.
    Resnet18,
}

impl Encoder {
    /// Width of the representation.
    pub fn features(self) -> i64 {
        match self {
            Encoder::Pooled => 256,
            Encoder::Flat => 128,
            Encoder::Resnet18 => 512,
        }
    }

    /// A network with fresh weights for images `[N, channels, side, side]`.
    ///
    /// # Errors
    /// A side that the network cannot take.
    pub fn build(self, p: Path, channels: i64, side: i64) -> Result<Box<dyn ModuleT>> {
        let net = |blocks: &[(i64, i64)], head| ConvNetConfig { channels, blocks: blocks.to_vec(), head };
        Ok(match self {
            Encoder::Pooled => {
                let config = net(&[(32, 1), (64, 2), (128, 2), (256, 2)], ConvNetHead::GlobalMean);
                Box::new(ConvNet::new(p, &config)?)
            }
            Encoder::Flat => {
                let config = net(&[(32, 1), (64, 2), (128, 2)], ConvNetHead::Flatten { side, width: self.features() });
                Box::new(ConvNet::new(p, &config)?)
            }
            Encoder::Resnet18 => Box::new(ResNet::new(
                p,
                &ResNetConfig { channels, ..ResNetConfig::new(ResNetDepth::D18, ResNetStem::Cifar) },
            )),
        })
    }
}

/// An encoder with a projector behind it, whose embeddings a loss sees.
#[derive(Debug)]
pub struct Embedder {
    /// The encoder.
    pub encoder: Box<dyn ModuleT>,
    projector: Box<dyn ModuleT>,
}

impl Embedder {
    /// From its parts.
    pub fn of(encoder: Box<dyn ModuleT>, projector: impl ModuleT + 'static) -> Self {
        Self { encoder, projector: Box::new(projector) }
    }

    /// Fresh weights under `encoder` and `projector`, for images `[N, channels, side, side]`; one hidden layer of width
    /// `hidden` (batch norm, ReLU) before the embedding.
    ///
    /// # Errors
    /// As [`Encoder::build`]; widths that are not positive.
    pub fn new(p: &Path, encoder: Encoder, channels: i64, side: i64, hidden: i64, embedding: i64) -> Result<Self> {
        let widths = [encoder.features(), hidden, embedding];
        let encoder = encoder.build(p / "encoder", channels, side)?;
        Ok(Self::of(encoder, Mlp::new(p / "projector", &MlpConfig::projector(&widths))?))
    }

    /// Embeddings `[N, embedding]` (or what the projector makes) of images in `[0, 1]`.
    pub fn embed(&self, x: &Tensor, train: bool) -> Tensor {
        self.projector.forward_t(&self.encoder.forward_t(&standardised(x), train), train)
    }

    /// Embeddings of representations, in evaluation mode.
    pub fn project(&self, representations: &Tensor) -> Tensor {
        tch::no_grad(|| self.projector.forward_t(representations, false))
    }
}

/// What makes two views of small images: geometry and noise for digits; crops, flips and colours for others.
pub fn augmentation(dataset: &str, side: i64) -> Pipeline {
    if dataset == "digits" { barlow_twins_small_digits() } else { barlow_twins_small_color(side as usize) }
}

/// Images average-pooled to `side` if they are larger, enlarged bilinearly if they are smaller.
pub fn resized(x: &Tensor, side: i64) -> Tensor {
    match x.size()[2] / side {
        0 => x.upsample_bilinear2d([side, side], false, None, None),
        1 => x.shallow_clone(),
        pool => x.avg_pool2d(pool, pool, 0, false, true, None),
    }
}

/// Images `[N, C, S, S]` in `[0, 1]` brought to another side and to `channels` channels: pooled or enlarged, colours averaged to
/// grey, grey repeated. For a task that a network made for other images is to judge.
pub fn brought_to(x: &Tensor, side: i64, channels: i64) -> Tensor {
    let x = resized(x, side);
    // A side that does not divide the image's leaves some pixels more than wanted.
    let x = if x.size()[2] == side { x } else { x.adaptive_avg_pool2d([side, side]) };
    match (x.size()[1], channels) {
        (3, 1) => x.mean_dim([1i64].as_slice(), true, x.kind()),
        (1, 3) => x.repeat([1, 3, 1, 1]),
        _ => x,
    }
}

/// [`load_images`], but of generated shapes no more than so many for training and test: each cell generates them anew.
///
/// # Errors
/// Data that are missing or damaged.
pub fn load_some(plan: &Plan, name: &str, train: usize, test: usize) -> Result<(ImageSet, ImageSet)> {
    if name == "shapes" {
        return Ok((shapes(0, 0..train as u64), shapes(seed::derive(0, &["test"]), 0..test as u64)));
    }
    Ok(load_images(name, plan.data_dir.as_deref(), plan.download)?)
}

/// Labelled images: `x` floats in `[0, 1]`, `[N, C, side, side]`; `y` class indices, `[N]`.
#[derive(Debug)]
pub struct Part {
    /// Images.
    pub x: Tensor,
    /// Labels.
    pub y: Tensor,
}

impl Part {
    /// A set on a device, average-pooled to `side` if its images are larger, enlarged bilinearly if they are smaller.
    pub fn new(set: &ImageSet, side: i64, device: Device) -> Self {
        let x = resized(&set.to_float(), side);
        Self { x: x.to_device(device), y: set.labels.to_device(device) }
    }

    /// The same as networks see it.
    pub fn standardised(self) -> Self {
        Self { x: standardised(&self.x), y: self.y }
    }

    /// Number of images.
    pub fn len(&self) -> i64 {
        self.x.size()[0]
    }

    /// Indices of the first `count` images of each class.
    ///
    /// # Errors
    /// A class with fewer images.
    pub fn of_each_class(&self, classes: i64, count: usize) -> Result<Tensor> {
        let labels: Vec<i64> = Vec::try_from(self.y.to_device(Device::Cpu))?;
        let of = |class: i64| (0..).zip(&labels).filter(move |(_, l)| **l == class).map(|(i, _)| i).take(count);
        let chosen: Vec<i64> = (0..classes).flat_map(of).collect();
        ensure!(chosen.len() == count * classes as usize, "fewer than {count} images of some class");
        Ok(Tensor::from_slice(&chosen).to_device(self.y.device()))
    }

    /// The `len` images from `from` on; the tensors are shared.
    pub fn slice(&self, from: i64, len: i64) -> Self {
        Self { x: self.x.narrow(0, from, len), y: self.y.narrow(0, from, len) }
    }
}

/// A data set on the plan's device, the same selection for every seed and arm.
#[derive(Debug)]
pub struct Images {
    /// Training images.
    pub train: Part,
    /// Test images.
    pub test: Part,
    /// Number of classes.
    pub classes: i64,
    /// Channels of an image.
    pub channels: i64,
}

impl Images {
    /// At most `train` and `test` images of a data set, average-pooled to `side` if they are larger. `slug` decides which.
    ///
    /// # Errors
    /// Data that are missing or damaged.
    pub fn load(plan: &Plan, dataset: &str, slug: &str, train: usize, test: usize, side: i64) -> Result<Self> {
        let (all, held) = load_images(dataset, plan.data_dir.as_deref(), plan.download)?;
        let split = seed::derive(0, &[slug, "split"]);
        let part = |set: &ImageSet, most: usize| -> Result<Part> {
            Ok(Part::new(&set.subset(most.min(set.len()), split)?, side, plan.device))
        };
        Ok(Self {
            train: part(&all, train)?,
            test: part(&held, test)?,
            classes: all.classes.len() as i64,
            channels: all.image_size()[0],
        })
    }
}

/// Checks the side to which images of side `image` are average-pooled.
///
/// # Errors
/// A side that does not divide it, or is below 4.
pub fn check_side(key: &str, side: i64, image: i64) -> Result<()> {
    if (4..=image).contains(&side) && image % side == 0 {
        return Ok(());
    }
    Err(Error::value(key, format!("a divisor of {image}, at least 4"), side).into())
}

/// What encoders see of images in `[0, 1]`.
pub fn standardised(x: &Tensor) -> Tensor {
    (x - 0.5) / 0.25
}

/// What a network makes of images, so many at a time, without recording gradients.
pub fn in_parts(x: &Tensor, size: i64, of: impl Fn(&Tensor) -> Tensor) -> Tensor {
    tch::no_grad(|| Tensor::cat(&x.split(size, 0).iter().map(of).collect::<Vec<_>>(), 0))
}

/// Frozen representations `[N, features]` of images in `[0, 1]`.
pub fn features(encoder: &dyn ModuleT, x: &Tensor) -> Tensor {
    in_parts(x, 512, |x| encoder.forward_t(&standardised(x), false))
}

/// Percent of `queries` that weighted k-NN (temperature 0.5) on the representations of `bank` classifies rightly.
///
/// # Errors
/// Representations of other widths, labels outside the classes.
pub fn knn(bank: (&Tensor, &Tensor), queries: (&Tensor, &Tensor), classes: i64, k: i64) -> Result<f64> {
    let knn = Knn::new(bank.0, bank.1, classes)?;
    Ok(100.0 * knn.accuracy(queries.0, queries.1, k, Vote::Temperature(0.5))?)
}

/// Percent of `queries` that a ridge probe fitted on the representations of `bank` classifies rightly.
///
/// # Errors
/// As [`knn`].
pub fn ridge(bank: (&Tensor, &Tensor), queries: (&Tensor, &Tensor), classes: i64) -> Result<f64> {
    let scores = RidgeProbe::default().scores(bank.0, bank.1, classes, queries.0)?;
    Ok(100.0 * accuracy(&scores, queries.1)?)
}

/// The first 32 rows and columns of a matrix, row by row, for plots.
///
/// # Errors
/// What libtorch says.
pub fn corner(c: &Tensor) -> Result<Vec<f64>> {
    let side = c.size()[0].min(32);
    Ok(c.narrow(0, 0, side).narrow(1, 0, side).to_kind(Kind::Double).contiguous().view(-1).try_into()?)
}
