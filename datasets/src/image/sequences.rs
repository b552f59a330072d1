//! Images as sequences of pixels, for autoregressive models.

use super::ImageSet;
use autodidact_core::error::check_range;
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand::RngExt;
use tch::{Device, Kind, Tensor};

/// Images as tokens in raster order, each with a token for its label before it.
///
/// Images are averaged to a square of `side` pixels and every byte becomes one of `levels` grey levels; the channels of a pixel follow each
/// other, so that a sequence has `side^2 * channels` tokens. Tokens `0..levels` are pixels, `levels..levels + classes` labels, and the last
/// one is the blank label, that of an image whose class is not told.
///
/// ```
/// use autodidact_datasets::image::{PixelSequences, digits};
/// let sequences = PixelSequences::new(&digits(), 8, 16, tch::Device::Cpu)?;
/// let (inputs, targets) = sequences.rows(&[0, 1], Some(0))?;
/// // Labels 0 and 1 are tokens 16 and 17; a pixel is the target of its place.
/// assert_eq!((inputs.size(), inputs.int64_value(&[1, 0])), (vec![2, 64], 17));
/// assert_eq!(inputs.narrow(1, 1, 63), targets.narrow(1, 0, 63));
/// assert_eq!(sequences.vocab(), 16 + 10 + 1);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug)]
pub struct PixelSequences {
    /// Tokens of the pixels, Int64 `[N, T]`.
    pub pixels: Tensor,
    /// Classes, Int64 `[N]`.
    pub labels: Tensor,
    levels: i64,
    classes: i64,
}

impl PixelSequences {
    /// The sequences of a set, on a device.
    ///
    /// # Errors
    /// A side of 0, levels outside 2 to 256.
    pub fn new(set: &ImageSet, side: i64, levels: i64, device: Device) -> Result<Self> {
        check_range("side", side as f64, 1.0..)?;
        check_range("levels", levels as f64, 2.0..=256.0)?;
        let [channels, height, width] = set.image_size();
        let images = set.images.to_kind(Kind::Float);
        let images = if (height, width) == (side, side) { images } else { images.adaptive_avg_pool2d([side, side]) };
        let tokens = (images * (levels as f64 / 256.0)).floor().to_kind(Kind::Int64);
        let tokens = tokens.permute([0, 2, 3, 1]).reshape([-1, side * side * channels]);
        Ok(Self {
            pixels: tokens.to_device(device),
            labels: set.labels.to_device(device),
            levels,
            classes: set.classes.len() as i64,
        })
    }

    /// Images.
    pub fn len(&self) -> usize {
        self.pixels.size()[0] as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of an image.
    pub fn tokens(&self) -> i64 {
        self.pixels.size()[1]
    }

    /// Grey levels, labels and the blank label.
    pub fn vocab(&self) -> i64 {
        self.levels + self.classes + 1
    }

    /// The token of an image whose class is not told.
    pub fn blank(&self) -> i64 {
        self.levels + self.classes
    }

    /// Inputs and targets, each Int64 `[B, T]`, of the images at `indices`; `shift` is added to the labels (modulo the classes, so that 1
    /// tells wrong ones), without it the labels are blank.
    ///
    /// # Errors
    /// An index outside `0..len`.
    pub fn rows(&self, indices: &[i64], shift: Option<i64>) -> Result<(Tensor, Tensor)> {
        let index = self.index(indices)?;
        let labels = match shift {
            Some(shift) => (self.labels.index_select(0, &index) + shift).remainder(self.classes) + self.levels,
            None => index.full_like(self.blank()),
        };
        Ok(self.after(&labels, &index))
    }

    /// `batch` random images whose labels are blank with probability `blank`.
    ///
    /// # Errors
    /// A probability outside 0 to 1, no images.
    pub fn random(&self, batch: usize, blank: f64, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        check_range("probability of a blank label", blank, 0.0..=1.0)?;
        if self.is_empty() {
            return Err(Error::value("images of a batch", "at least one", 0));
        }
        let indices: Vec<i64> = (0..batch).map(|_| rng.random_range(0..self.len() as i64)).collect();
        let hidden: Vec<bool> = (0..batch).map(|_| rng.random::<f64>() < blank).collect();
        let index = self.index(&indices)?;
        let labels = self.labels.index_select(0, &index) + self.levels;
        let hidden = Tensor::from_slice(&hidden).to_device(labels.device());
        Ok(self.after(&labels.masked_fill(&hidden, self.blank()), &index))
    }

    fn index(&self, indices: &[i64]) -> Result<Tensor> {
        let n = self.len() as i64;
        match indices.iter().find(|i| !(0..n).contains(*i)) {
            Some(bad) => Err(Error::value("indices", format!("indices below {n}"), bad)),
            None => Ok(Tensor::from_slice(indices).to_device(self.pixels.device())),
        }
    }

    fn after(&self, labels: &Tensor, index: &Tensor) -> (Tensor, Tensor) {
        let targets = self.pixels.index_select(0, index);
        let inputs = Tensor::cat(&[&labels.unsqueeze(1), &targets.narrow(1, 0, self.tokens() - 1)], 1);
        (inputs, targets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use autodidact_core::seed::rng;

    fn sequences(levels: i64) -> PixelSequences {
        // Two images of 2x2 pixels in two channels.
        let bytes: Vec<u8> = vec![0, 16, 32, 255, 64, 80, 96, 112, 1, 1, 1, 1, 2, 2, 2, 2];
        let images = Tensor::from_slice(&bytes).view([2, 2, 2, 2]);
        let set = ImageSet::new(images, Tensor::from_slice(&[0i64, 2]), vec!["a".into(), "b".into(), "c".into()]);
        PixelSequences::new(&set.unwrap(), 2, levels, Device::Cpu).unwrap()
    }

    #[test]
    fn pixels_come_in_raster_order_with_their_channels() {
        let s = sequences(16);
        assert_eq!(s.pixels.get(0), Tensor::from_slice(&[0i64, 4, 1, 5, 2, 6, 15, 7]));
        let (x, y) = s.rows(&[0, 1], Some(0)).unwrap();
        assert_eq!(x.get(0), Tensor::from_slice(&[16i64, 0, 4, 1, 5, 2, 6, 15]));
        assert_eq!((y.get(0), x.int64_value(&[1, 0])), (s.pixels.get(0), 18));
        assert_eq!(s.rows(&[1], Some(1)).unwrap().0.int64_value(&[0, 0]), 16);
        assert_eq!(s.rows(&[1], None).unwrap().0.int64_value(&[0, 0]), s.blank());
        assert!(s.rows(&[2], None).unwrap_err().to_string().contains("below 2"));
        assert_eq!(sequences(256).pixels.int64_value(&[0, 6]), 255);
        // Averages over larger squares.
        let digits = super::super::digits();
        let small = PixelSequences::new(&digits, 4, 256, Device::Cpu).unwrap();
        let corner = digits.images.get(0).get(0).narrow(0, 2, 2).narrow(1, 2, 2).mean(Kind::Float).double_value(&[]);
        assert_eq!(small.pixels.int64_value(&[0, 5]), corner.floor() as i64);
    }

    #[test]
    fn labels_are_blank_as_often_as_asked() {
        let s = PixelSequences::new(&super::super::digits(), 8, 16, Device::Cpu).unwrap();
        let (x, _) = s.random(4000, 0.25, &mut rng(1, &["test"])).unwrap();
        let share = x.select(1, 0).eq(s.blank()).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        assert!((share - 0.25).abs() < 0.03, "{share}");
        assert!(s.random(4, 1.5, &mut rng(1, &["test"])).is_err());
        assert!(PixelSequences::new(&super::super::digits(), 8, 1, Device::Cpu).is_err());
    }
}
