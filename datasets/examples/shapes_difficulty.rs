//! How hard the procedural shapes are: a linear classifier on the pixels and a small ConvNet, both trained on the same
//! images, and a contact sheet of ten images per class.
//!
//! `cargo run --release -p autodidact-datasets --example shapes_difficulty -- [TRAIN_IMAGES] [EPOCHS] [SHEET.png]`

use anyhow::{Context, Result};
use autodidact_core::seed::{rng, seed_torch};
use autodidact_datasets::augment::{Pipeline, Transform};
use autodidact_datasets::batch::Order;
use autodidact_datasets::image::{ImageSet, shapes};
use tch::nn::{self, ModuleT, OptimizerConfig};
use tch::{Device, Kind, Tensor};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let n: u64 = args.next().map_or(Ok(10_000), |a| a.parse()).context("TRAIN_IMAGES is a number")?;
    let epochs: usize = args.next().map_or(Ok(6), |a| a.parse()).context("EPOCHS is a number")?;
    let started = std::time::Instant::now();
    let (train, test) = (shapes(0, 0..n), shapes(1, 0..2000));
    println!("{} images drawn in {:.2?}", train.len() + test.len(), started.elapsed());
    if let Some(path) = args.next() {
        contact_sheet(&test, &path)?;
    }
    let linear =
        |p: &nn::Path| nn::seq_t().add_fn(|x| x.flatten(1, -1)).add(nn::linear(p, 3072, 10, Default::default()));
    println!("linear classifier on pixels: {:.1} %", 100.0 * fit(linear, &train, &test, epochs)?);
    println!("ConvNet: {:.1} %", 100.0 * fit(conv_net, &train, &test, epochs)?);
    Ok(())
}

fn conv_net(p: &nn::Path) -> nn::SequentialT {
    let mut net = nn::seq_t();
    for (i, (from, to, stride)) in
        [(3, 24, 1), (24, 48, 2), (48, 96, 2), (96, 128, 2), (128, 128, 1)].into_iter().enumerate()
    {
        let config = nn::ConvConfig { padding: 1, stride, bias: false, ..Default::default() };
        net = net
            .add(nn::conv2d(p / format!("conv{i}"), from, to, 3, config))
            .add(nn::batch_norm2d(p / format!("norm{i}"), to, Default::default()))
            .add_fn(|x| x.relu());
    }
    net.add_fn(|x| x.amax([2i64, 3].as_slice(), false)).add(nn::linear(p / "head", 128, 10, Default::default()))
}

/// Test accuracy after training with Adam, cosine learning rate and random flips.
fn fit(net: impl Fn(&nn::Path) -> nn::SequentialT, train: &ImageSet, test: &ImageSet, epochs: usize) -> Result<f64> {
    seed_torch(0, &["shapes-difficulty"]);
    let vs = nn::VarStore::new(Device::Cpu);
    let net = net(&vs.root());
    let mut optimizer = nn::Adam::default().build(&vs, 2e-3)?;
    let order = Order::new(train.len(), 64, 0)?;
    let flip = Pipeline(vec![Transform::HorizontalFlip { p: 0.5 }]);
    let steps = epochs * order.batches_per_epoch();
    for step in 0..steps {
        optimizer.set_lr(1e-3 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos()));
        let batch = train.select(&order.batch(step))?;
        let x = flip.apply(&batch.images, &mut rng(0, &["flip", &step.to_string()]))? - 0.5;
        optimizer.backward_step(&net.forward_t(&x, true).cross_entropy_for_logits(&batch.labels));
        if (step + 1).is_multiple_of(order.batches_per_epoch()) {
            println!("  epoch {}: {:.1} %", order.epoch_of(step) + 1, 100.0 * accuracy(&net, test));
        }
    }
    Ok(accuracy(&net, test))
}

fn accuracy(net: &nn::SequentialT, set: &ImageSet) -> f64 {
    tch::no_grad(|| net.forward_t(&(set.to_float() - 0.5), false).accuracy_for_logits(&set.labels)).double_value(&[])
}

/// Rows are classes, columns the first ten images of each; every pixel three by three.
fn contact_sheet(set: &ImageSet, path: &str) -> Result<()> {
    let grid = set.images.narrow(0, 0, 100).view([10, 10, 3, 32, 32]).permute([1, 3, 0, 4, 2]).reshape([320, 320, 3]);
    let bytes = Vec::<u8>::try_from(grid.to_kind(Kind::Uint8).contiguous().view([-1]) as Tensor)?;
    let sheet = image::RgbImage::from_raw(320, 320, bytes).context("a full sheet")?;
    image::imageops::resize(&sheet, 960, 960, image::imageops::FilterType::Nearest).save(path)?;
    Ok(())
}
