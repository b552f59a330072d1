//! The paper's two tasks, for any segmentation network.

use super::Task;
use super::mixing::{class_masks, cut_masks, mix};
use super::pixels::{IGNORE, PixelLabels, check_maps, confidence_weight, entropy_drop_mask, weighted_pixel_ce};
use autodidact_core::device::in_full_precision;
use autodidact_core::error::check_range;
use autodidact_core::seed::Rng;
use autodidact_core::{Error, Result};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tch::nn::ModuleT;
use tch::{Kind, Reduction, Tensor};

/// Mean cross entropy over the labelled pixels.
fn pixel_ce(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    check_maps(logits, Some(labels))?;
    in_full_precision([logits], |[logits]| {
        Ok(logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::Mean, IGNORE, 0.0))
    })
}

/// A batch of a labelled source and an unlabelled target domain, of the same size.
#[derive(Debug)]
pub struct Domains {
    /// Images of the source, `[B, C, H, W]`.
    pub source: Tensor,
    /// Their classes, `Int64 [B, H, W]`, 255 where there is none.
    pub labels: Tensor,
    /// Images of the target, `[B, C, H, W]`.
    pub target: Tensor,
}

/// Constants of [`DomainMix`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DomainMixConfig {
    /// Number of classes.
    pub classes: i64,
    /// Probability from which on a pixel counts as confident.
    pub threshold: f64,
    /// `lambda`, weight of the loss on mixed images.
    pub weight: f64,
    /// Rows at the top and the bottom of the target whose labels have weight 0 (sky and bonnet of Cityscapes).
    pub ignored_rows: (i64, i64),
}

impl DomainMixConfig {
    /// The paper's values for Cityscapes, but for the ignored rows: none.
    pub fn new(classes: i64) -> Self {
        Self { classes, threshold: 0.968, weight: 1.0, ignored_rows: (0, 0) }
    }

    /// The paper's values for Cityscapes: 19 classes, 15 rows at the top and 120 at the bottom ignored.
    pub fn cityscapes() -> Self {
        Self { ignored_rows: (15, 120), ..Self::new(19) }
    }
}

/// Domain adaptation as DACS (Tranheden et al., 2021; arXiv 2007.08702) and DAFormer train it, without their colour jitter and blur:
/// cross entropy on the source, plus `lambda` times [`weighted_pixel_ce`] on target images into which [`class_masks`] paste source
/// pixels. Pasted pixels have weight 1, the others the batch's [`confidence_weight`].
pub struct DomainMix<'a> {
    student: &'a dyn ModuleT,
    teacher: &'a dyn ModuleT,
    config: DomainMixConfig,
    /// Draws the classes that are pasted.
    pub rng: Rng,
}

impl<'a> DomainMix<'a> {
    /// For networks from images `[B, C, H, W]` to logits `[B, classes, H, W]`.
    ///
    /// # Errors
    /// Constants outside their ranges.
    pub fn new(student: &'a dyn ModuleT, teacher: &'a dyn ModuleT, config: DomainMixConfig, rng: Rng) -> Result<Self> {
        check_range("classes", config.classes as f64, 2.0..=IGNORE as f64)?;
        check_range("threshold", config.threshold, 0.0..=1.0)?;
        check_range("weight", config.weight, 0.0..)?;
        let (top, bottom) = config.ignored_rows;
        if top < 0 || bottom < 0 {
            return Err(Error::value("ignored rows", "none or more", format!("{top} and {bottom}")));
        }
        Ok(Self { student, teacher, config, rng })
    }
}

impl Task for DomainMix<'_> {
    type Batch = Domains;
    type Labels = PixelLabels;

    fn label(&mut self, batch: &Domains) -> Result<PixelLabels> {
        let logits = self.teacher.forward_t(&batch.target, false);
        let share = confidence_weight(&logits, self.config.threshold)?;
        let labels = logits.argmax(1, false);
        let weight = Tensor::ones(labels.size(), (Kind::Float, labels.device())) * share.to_kind(Kind::Float);
        let (h, (top, bottom)) = (labels.size()[1], self.config.ignored_rows);
        for (first, rows) in [(0, top.min(h)), (h - bottom.min(h), bottom.min(h))] {
            let _ = weight.narrow(1, first, rows).zero_();
        }
        Ok(PixelLabels { labels, weight })
    }

    fn loss(&mut self, batch: &Domains, teacher: &PixelLabels) -> Result<Tensor> {
        let Domains { source, labels, target } = batch;
        let supervised = pixel_ce(&self.student.forward_t(source, true), labels)?;
        if self.config.weight == 0.0 {
            return Ok(supervised);
        }
        let mask = class_masks(labels, self.config.classes, &mut self.rng)?;
        let mixed = mix(&mask, labels, &teacher.labels)?;
        let weight = mix(&mask, &teacher.weight.ones_like(), &teacher.weight)?;
        let logits = self.student.forward_t(&mix(&mask, source, target)?, true);
        Ok(supervised + weighted_pixel_ce(&logits, &mixed, &weight)? * self.config.weight)
    }
}

/// A batch of labelled and unlabelled images of one domain.
#[derive(Debug)]
pub struct PartlyLabelled {
    /// Labelled images, `[B, C, H, W]`.
    pub images: Tensor,
    /// Their classes, `Int64 [B, H, W]`, 255 where there is none.
    pub labels: Tensor,
    /// Unlabelled images, `[B', C, H, W]`.
    pub unlabelled: Tensor,
}

/// Constants of [`SemiSupervised`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SemiSupervisedConfig {
    /// Percentile of the teacher's entropy from which on pixels are dropped.
    pub keep_percent: f64,
    /// Weight of the loss on unlabelled images.
    pub weight: f64,
    /// Probability with which the unlabelled images of a batch are mixed by [`cut_masks`], each with the next.
    pub mix: f64,
}

impl Default for SemiSupervisedConfig {
    /// The paper's values: 80 %, weight 1, half of the batches mixed.
    fn default() -> Self {
        Self { keep_percent: 80.0, weight: 1.0, mix: 0.5 }
    }
}

/// Semi-supervised segmentation: cross entropy on the labelled images, plus cross entropy with the teacher's labels on the
/// unlabelled ones without the pixels of [`entropy_drop_mask`]. The latter is a mean over kept pixels, times all pixels over kept
/// pixels, as in the paper's code: what is kept weighs more where more is dropped.
pub struct SemiSupervised<'a> {
    student: &'a dyn ModuleT,
    teacher: &'a dyn ModuleT,
    config: SemiSupervisedConfig,
    /// Draws the mixing.
    pub rng: Rng,
}

impl<'a> SemiSupervised<'a> {
    /// For networks from images `[B, C, H, W]` to logits `[B, classes, H, W]`.
    ///
    /// # Errors
    /// Constants outside their ranges.
    pub fn new(
        student: &'a dyn ModuleT,
        teacher: &'a dyn ModuleT,
        config: SemiSupervisedConfig,
        rng: Rng,
    ) -> Result<Self> {
        check_range("keep_percent", config.keep_percent, 0.0..=100.0)?;
        check_range("weight", config.weight, 0.0..)?;
        check_range("mix", config.mix, 0.0..=1.0)?;
        Ok(Self { student, teacher, config, rng })
    }
}

impl Task for SemiSupervised<'_> {
    type Batch = PartlyLabelled;
    type Labels = Tensor;

    fn label(&mut self, batch: &PartlyLabelled) -> Result<Tensor> {
        Ok(self.teacher.forward_t(&batch.unlabelled, false).argmax(1, false))
    }

    fn loss(&mut self, batch: &PartlyLabelled, teacher: &Tensor) -> Result<Tensor> {
        let (mut images, mut labels) = (batch.unlabelled.shallow_clone(), teacher.shallow_clone());
        if self.rng.random_bool(self.config.mix) {
            let [b, h, w] = labels.size()[..] else {
                return Err(Error::shape("teacher's labels", "[B, H, W]", &labels));
            };
            let mask = cut_masks(b, [h, w], 0.5, labels.device(), &mut self.rng)?;
            let next = |x: &Tensor| x.roll([-1], [0]);
            (images, labels) = (mix(&mask, &next(&images), &images)?, mix(&mask, &next(&labels), &labels)?);
        }
        let labelled = batch.images.size()[0];
        let all = Tensor::cat(&[&batch.images, &images], 0);
        let logits = self.student.forward_t(&all, true);
        let supervised = pixel_ce(&logits.narrow(0, 0, labelled), &batch.labels)?;
        if self.config.weight == 0.0 {
            return Ok(supervised);
        }
        let count = images.size()[0];
        // In training mode, which refreshes the running statistics of the teacher.
        let judged = tch::no_grad(|| self.teacher.forward_t(&all, true).narrow(0, labelled, count));
        let dropped = entropy_drop_mask(&judged, &labels, self.config.keep_percent)?;
        let labels = labels.masked_fill(&dropped, IGNORE);
        let unlabelled = in_full_precision([&logits.narrow(0, labelled, count)], |[logits]| {
            // All pixels over kept ones, times the mean over kept ones. Without one that is kept, 0.
            let sum = logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Sum, IGNORE, 0.0);
            let kept = labels.ne(IGNORE).sum(logits.kind()).clamp_min(1.0);
            Ok(sum * (labels.numel() as f64) / kept.square())
        })?;
        Ok(supervised + unlabelled * self.config.weight)
    }
}
