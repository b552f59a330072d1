//! Augmentation: against torchvision, and as a share of training.

use crate::end_to_end::BarlowTwinsTraining;
use anyhow::Result;
use autodidact_benches::{Entry, Work};
use autodidact_core::seed::rng;
use autodidact_datasets::augment::BarlowTwins;
use autodidact_datasets::image::shapes;
use serde_json::json;

pub fn entries(threads: usize) -> [Entry; 2] {
    let views = || -> Result<Work> {
        let images = shapes(0, 0..512).images;
        let (a, b) = BarlowTwins { size: 32, ..Default::default() }.pipelines();
        let mut rng = rng(0, &["two views"]);
        Ok(Box::new(move || {
            Ok(a.apply(&images, &mut rng)?.size()[0] as f64 + b.apply(&images, &mut rng)?.size()[0] as f64)
        }))
    };
    let what = format!("both Barlow Twins views of 512 images of 32x32, threads: {threads}");
    [
        Entry::new("augment/two-views", what, views)
            .beside_python("PIL transforms in a process per thread", "two_views", json!({"images": 512, "side": 32}))
            .agreeing(0.0)
            .at_most(0.2),
        Entry::new("augment/share-of-step", "the views alone, of a small Barlow Twins step (batch 128, 16x16)", || {
            let mut training = BarlowTwinsTraining::new(128)?;
            let all: Vec<i64> = (0..128).collect();
            Ok(Box::new(move || {
                let [a, _] = training.views(&all)?;
                Ok(a.size()[0] as f64)
            }))
        })
        .beside_ours("the whole step", || {
            let mut training = BarlowTwinsTraining::new(128)?;
            let all: Vec<i64> = (0..128).collect();
            Ok(Box::new(move || training.step(&all)))
        })
        .at_most(0.25),
    ]
}
