//! Trains an encoder of digits with Barlow Twins, without labels, and asks with few how much of the classes it has found.
//!
//! `cargo run --release -p autodidact-ssl --example pretrain -- [STEPS]` (300)
//!
//! The same network with its first weights is measured beside it: what it already tells is not the training's merit.

use anyhow::{Context, Result};
use autodidact_core::metrics::{Knn, LinearProbe, Vote, accuracy};
use autodidact_core::nn::{ConvNet, ConvNetConfig, ConvNetHead, Mlp, MlpConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::train::{TrainConfig, Trainer};
use autodidact_datasets::image::ImageSet;
use autodidact_datasets::{augment::barlow_twins_small_digits, batch::Order, load_images};
use autodidact_ssl::barlow_twins::BarlowTwinsLoss;
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Tensor};

/// Percent correct on test images: of 5 neighbours among 1000 labelled images, and of a linear layer on 100 of them.
fn probes(encoder: &ConvNet, train: &ImageSet, test: &ImageSet) -> Result<(f64, f64)> {
    let features = |set: &ImageSet| tch::no_grad(|| encoder.forward_t(&set.to_float(), false));
    let (bank, queries) = (features(train), features(test));
    let knn = Knn::new(&bank, &train.labels, 10)?.accuracy(&queries, &test.labels, 5, Vote::Plain)?;
    let few = train.subset(100, 0)?;
    let logits = LinearProbe::default().logits(&features(&few), &few.labels, 10, &queries)?;
    Ok((100.0 * knn, 100.0 * accuracy(&logits, &test.labels)?))
}

fn main() -> Result<()> {
    let steps: usize = std::env::args().nth(1).map_or(Ok(300), |a| a.parse()).context("the argument is a number")?;
    let (train, test) = load_images("digits", None, false)?;
    tch::manual_seed(0);
    let vs = VarStore::new(Device::Cpu);
    let head = ConvNetHead::Flatten { side: 8, width: 64 };
    let shape = ConvNetConfig { channels: 1, blocks: vec![(32, 1), (64, 2)], head };
    let encoder = ConvNet::new(vs.root() / "encoder", &shape)?;
    let projector = Mlp::new(vs.root() / "projector", &MlpConfig::projector(&[64, 128, 128]))?;

    let report = |when: &str| -> Result<()> {
        let (knn, linear) = probes(&encoder, &train, &test)?;
        println!("{when}: k-NN {knn:.1} %, linear layer on 100 labels {linear:.1} %");
        Ok(())
    };
    report("its first weights")?;
    let loss = BarlowTwinsLoss { lambda: 0.01, ..Default::default() };
    let augment = barlow_twins_small_digits();
    let order = Order::new(train.len(), 256, 0)?;
    let schedule = Schedule::new(2e-3, steps, Shape::cosine_to(0.0)).warmup(steps / 10);
    let optimizer = Optimizer::new(Rule::AdamW(Adam::default()), Group::split_decay(&vs, 1e-4))?;
    let config = TrainConfig { log_every: (steps / 5).max(1), ..TrainConfig::new(schedule, 0) };
    Trainer::new(config, &vs, optimizer)?.run(
        |step| {
            let images = train.select(&order.batch(step.index))?.images;
            let mut rng = step.rng("views");
            let view = |images: &Tensor, rng: &mut _| -> autodidact_core::Result<Tensor> {
                Ok(projector.forward_t(&encoder.forward_t(&augment.apply(images, rng)?, true), true))
            };
            let (za, zb) = (view(&images, &mut rng)?, view(&images, &mut rng)?);
            Ok(loss.forward(&za, &zb)?.total)
        },
        |progress| {
            if let Some(loss) = progress.loss {
                println!("step {:4}: loss {loss:.2}", progress.done);
            }
            Ok(())
        },
    )?;
    report("Barlow Twins")
}
