//! Augmentation: against torchvision, and as a share of training.

use anyhow::Result;
use autodidact_benches::{Entry, Work};
use autodidact_core::nn::{ConvNet, ConvNetConfig, Head, Mlp};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::seed::{Rng, rng};
use autodidact_datasets::augment::{BarlowTwins, Pipeline, barlow_twins_small_color};
use autodidact_datasets::image::shapes;
use autodidact_ssl::barlow_twins::{BarlowTwinsLoss, projector};
use rand::RngExt;
use serde_json::json;
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

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
            let mut training = Training::new()?;
            Ok(Box::new(move || {
                let [a, _] = training.views()?;
                Ok(a.size()[0] as f64)
            }))
        })
        .beside_ours("the whole step", || {
            let mut training = Training::new()?;
            Ok(Box::new(move || training.step()))
        })
        .at_most(0.25),
    ]
}

/// The step of the Barlow Twins experiment at its `small` scale.
struct Training {
    images: Tensor,
    augment: Pipeline,
    encoder: ConvNet,
    projector: Mlp,
    optimizer: Optimizer,
    rng: Rng,
    _parameters: VarStore,
}

impl Training {
    fn new() -> Result<Self> {
        let vs = VarStore::new(Device::Cpu);
        let blocks = vec![(32, 1), (64, 2), (128, 2), (256, 2)];
        let encoder =
            ConvNet::new(vs.root() / "encoder", &ConvNetConfig { channels: 3, blocks, head: Head::GlobalMean })?;
        Ok(Self {
            images: shapes(0, 0..3000).to_float().avg_pool2d(2, 2, 0, false, true, None),
            augment: barlow_twins_small_color(16),
            encoder,
            projector: projector(vs.root() / "projector", &[256, 512, 512])?,
            optimizer: Optimizer::new(Rule::Adam(Adam::default()), vec![Group::all(&vs, 1e-6)])?,
            rng: rng(0, &["training"]),
            _parameters: vs,
        })
    }

    fn views(&mut self) -> Result<[Tensor; 2]> {
        let index: Vec<i64> = (0..128).map(|_| self.rng.random_range(0..3000)).collect();
        let x = self.images.index_select(0, &Tensor::from_slice(&index));
        Ok([self.augment.apply(&x, &mut self.rng)?, self.augment.apply(&x, &mut self.rng)?])
    }

    fn step(&mut self) -> Result<f64> {
        let [za, zb] = self.views()?.map(|x| {
            let features = self.encoder.forward_t(&((x - 0.5) / 0.25), true);
            self.projector.forward_t(&features, true)
        });
        let loss = BarlowTwinsLoss { lambda: 1.0 / 128.0, ..Default::default() }.forward(&za, &zb)?.total;
        self.optimizer.zero_grad();
        loss.backward();
        self.optimizer.step(2e-3)?;
        Ok(loss.to_kind(Kind::Double).double_value(&[]))
    }
}
