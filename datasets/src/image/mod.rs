//! Labelled images in memory, and their loaders.

mod cifar;
mod digits;
mod folder;
mod idx;
mod scenes;
mod sequences;
mod shapes;

pub use cifar::{Cifar, cifar10, cifar100};
pub use digits::digits;
pub use folder::image_folder;
pub use idx::{Idx, mnist, read_idx};
pub use scenes::{SCENE_CLASSES, SceneStyle, Scenes, scenes};
pub use sequences::PixelSequences;
pub use shapes::{SHAPE_CLASSES, shapes};

use autodidact_core::error::check_labels;
use autodidact_core::seed::rng;
use autodidact_core::{Error, Result};
use rand::seq::SliceRandom;
use tch::{Kind, Tensor};

/// Labelled images of one size, as bytes.
#[derive(Debug)]
pub struct ImageSet {
    /// Pixels, `Uint8 [N, C, H, W]`, 0 (black) to 255.
    pub images: Tensor,
    /// Class indices, `Int64 [N]`.
    pub labels: Tensor,
    /// Names of the classes; label `k` belongs to `classes[k]`.
    pub classes: Vec<String>,
}

impl ImageSet {
    /// A set from its parts, checked: `images` `Uint8 [N, C, H, W]`, `labels` `Int64 [N]` below `classes.len()`.
    pub fn new(images: Tensor, labels: Tensor, classes: Vec<String>) -> Result<Self> {
        if images.dim() != 4 {
            return Err(Error::shape("images", "[N, C, H, W]", &images));
        }
        if images.kind() != Kind::Uint8 {
            return Err(Error::value("images", "Uint8 pixels", format!("{:?}", images.kind())));
        }
        check_labels("labels", &labels, images.size()[0])?;
        if labels.numel() > 0 {
            let (low, high) = (labels.min().int64_value(&[]), labels.max().int64_value(&[]));
            if low < 0 || high >= classes.len() as i64 {
                let expected = format!("class indices below {}", classes.len());
                return Err(Error::value("labels", expected, format!("values from {low} to {high}")));
            }
        }
        Ok(Self { images, labels, classes })
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.images.size()[0] as usize
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `[C, H, W]`.
    pub fn image_size(&self) -> [i64; 3] {
        let size = self.images.size();
        [size[1], size[2], size[3]]
    }

    /// Another handle on the same data.
    pub fn shallow_clone(&self) -> Self {
        Self { images: self.images.shallow_clone(), labels: self.labels.shallow_clone(), classes: self.classes.clone() }
    }

    /// The images at `indices`, in that order. An index outside `0..len` is an error.
    pub fn select(&self, indices: &[i64]) -> Result<Self> {
        let n = self.len() as i64;
        if let Some(bad) = indices.iter().find(|i| !(0..n).contains(*i)) {
            return Err(Error::value("indices", format!("indices below {n}"), bad));
        }
        let index = Tensor::from_slice(indices).to_device(self.images.device());
        Ok(Self {
            images: self.images.f_index_select(0, &index)?,
            labels: self.labels.f_index_select(0, &index)?,
            classes: self.classes.clone(),
        })
    }

    /// A random order of all images in which every prefix is as class-balanced as the set allows: a round takes one
    /// image of each class, in random order, until the classes run out.
    pub fn balanced_order(&self, seed: u64) -> Result<Vec<i64>> {
        let mut rng = rng(seed, &["balanced-order"]);
        let mut by_class = vec![Vec::new(); self.classes.len()];
        for (i, label) in Vec::<i64>::try_from(&self.labels)?.into_iter().enumerate() {
            by_class[label as usize].push(i as i64);
        }
        by_class.iter_mut().for_each(|members| members.shuffle(&mut rng));
        let rounds = by_class.iter().map(Vec::len).max().unwrap_or(0);
        let mut order = Vec::with_capacity(self.len());
        for round in 0..rounds {
            let start = order.len();
            order.extend(by_class.iter().filter_map(|members| members.get(round)));
            order[start..].shuffle(&mut rng);
        }
        Ok(order)
    }

    /// A class-balanced random subset of `n` images. For one seed, a smaller subset is a prefix of a larger one.
    pub fn subset(&self, n: usize, seed: u64) -> Result<Self> {
        Ok(self.split(n, seed)?.0)
    }

    /// Two disjoint parts in random order: a class-balanced one of `n` images, and the rest.
    pub fn split(&self, n: usize, seed: u64) -> Result<(Self, Self)> {
        if n > self.len() {
            return Err(Error::value("size of the subset", format!("at most {}", self.len()), n));
        }
        let order = self.balanced_order(seed)?;
        Ok((self.select(&order[..n])?, self.select(&order[n..])?))
    }

    /// A random subset with `counts[c]` images of each class `c`, and the rest; a long-tailed set, say.
    ///
    /// # Errors
    /// Another number of counts than classes, or a count above what a class has.
    pub fn with_class_counts(&self, counts: &[usize], seed: u64) -> Result<(Self, Self)> {
        if counts.len() != self.classes.len() {
            return Err(Error::value("class counts", format!("{} of them", self.classes.len()), counts.len()));
        }
        let order = self.balanced_order(seed)?;
        let labels: Vec<i64> = Vec::try_from(&self.labels)?;
        let mut left = counts.to_vec();
        let (chosen, rest): (Vec<i64>, Vec<i64>) = order.into_iter().partition(|&i| {
            let left = &mut left[labels[i as usize] as usize];
            let take = *left > 0;
            *left -= usize::from(take);
            take
        });
        match left.iter().position(|l| *l > 0) {
            None => Ok((self.select(&chosen)?, self.select(&rest)?)),
            Some(c) => {
                let most = counts[c] - left[c];
                Err(Error::value(format!("images of class {c}"), format!("at most {most}"), counts[c]))
            }
        }
    }

    /// Pixels as `Float [N, C, H, W]` in `[0, 1]`.
    pub fn to_float(&self) -> Tensor {
        self.images.to_kind(Kind::Float) / 255.0
    }

    /// Mean and (population) standard deviation of each channel, in units of [`Self::to_float`].
    pub fn channel_stats(&self) -> (Vec<f64>, Vec<f64>) {
        let size = self.image_size();
        // Exact from byte counts, and without a float copy of the whole set.
        (0..size[0])
            .map(|c| {
                let counts = self.images.select(1, c).reshape([-1]).to_kind(Kind::Int64).bincount::<&Tensor>(None, 256);
                let counts = counts.to_kind(Kind::Double);
                let value = Tensor::arange(256, (Kind::Double, counts.device())) / 255.0;
                let n = counts.sum(Kind::Double);
                let mean = (&counts * &value).sum(Kind::Double) / &n;
                let variance = (&counts * (value - &mean).square()).sum(Kind::Double) / n;
                (mean.double_value(&[]), variance.sqrt().double_value(&[]))
            })
            .unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toy() -> ImageSet {
        // 3 classes with 6, 3 and 1 members; the value of every pixel is the image's number.
        let images =
            Tensor::arange(10, (Kind::Uint8, tch::Device::Cpu)).view([10, 1, 1, 1]).expand([10, 2, 3, 3], false);
        let labels = Tensor::from_slice(&[0i64, 0, 0, 0, 0, 0, 1, 1, 1, 2]);
        ImageSet::new(images.contiguous(), labels, vec!["a".into(), "b".into(), "c".into()]).unwrap()
    }

    #[test]
    fn prefixes_of_the_balanced_order_are_balanced() {
        let set = toy();
        let six = set.subset(6, 7).unwrap();
        let mut counts = [0; 3];
        Vec::<i64>::try_from(&six.labels).unwrap().iter().for_each(|&l| counts[l as usize] += 1);
        assert_eq!(counts[2], 1);
        assert!(counts[0] >= 2 && counts[1] >= 2, "{counts:?}");
        let three = set.subset(3, 7).unwrap();
        assert_eq!(three.images, six.images.narrow(0, 0, 3));
        assert_ne!(set.balanced_order(7).unwrap(), set.balanced_order(8).unwrap());
    }

    #[test]
    fn class_counts_are_met_and_the_rest_is_the_rest() {
        let (some, rest) = toy().with_class_counts(&[4, 1, 0], 3).unwrap();
        let counts = |set: &ImageSet| Vec::<i64>::try_from(set.labels.bincount::<&Tensor>(None, 3)).unwrap();
        assert_eq!((counts(&some), counts(&rest)), (vec![4, 1, 0], vec![2, 2, 1]));
        let e = toy().with_class_counts(&[4, 5, 0], 3).unwrap_err().to_string();
        assert_eq!(e, "images of class 1: expected at most 3, got 5");
        assert!(toy().with_class_counts(&[1, 1], 3).is_err());
    }

    #[test]
    fn a_split_is_a_partition() {
        let (a, b) = toy().split(4, 1).unwrap();
        let mut all: Vec<u8> = [&a, &b]
            .iter()
            .flat_map(|s| Vec::<u8>::try_from(s.images.select(1, 0).select(1, 0).select(1, 0).contiguous()).unwrap())
            .collect();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<u8>>());
        assert_eq!((a.len(), b.len()), (4, 6));
    }

    #[test]
    fn channel_statistics_are_those_of_the_float_pixels() {
        let set = toy();
        let (mean, std) = set.channel_stats();
        let x = set.images.to_kind(Kind::Double) / 255.0;
        assert!((mean[1] - 4.5 / 255.0).abs() < 1e-12);
        assert!((std[0] - x.select(1, 0).std(false).double_value(&[])).abs() < 1e-12);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let images = Tensor::zeros([2, 1, 4, 4], (Kind::Uint8, tch::Device::Cpu));
        let e = ImageSet::new(images.copy(), Tensor::from_slice(&[0i64, 3]), vec!["a".into(), "b".into()]).unwrap_err();
        assert_eq!(e.to_string(), "labels: expected class indices below 2, got values from 0 to 3");
        let e =
            ImageSet::new(images.to_kind(Kind::Float), Tensor::from_slice(&[0i64, 0]), vec!["a".into()]).unwrap_err();
        assert_eq!(e.to_string(), "images: expected Uint8 pixels, got Float");
        assert!(toy().select(&[10]).unwrap_err().to_string().contains("below 10, got 10"));
        assert!(toy().subset(11, 0).unwrap_err().to_string().contains("at most 10, got 11"));
    }
}
