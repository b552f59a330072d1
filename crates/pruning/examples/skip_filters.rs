//! Teaches a small network on invented characters which of its filters each image needs, then computes only those.
//!
//! `cargo run --release -p autodidact-pruning --example skip_filters`
//!
//! It prints what the dense network's peaks say will be saved, what is saved after training, and the time of one image with all filters and
//! with those that the gates ask for. On so small a network asking costs more than it saves: the suite's `pruning/dynamic` measures larger ones.

use anyhow::Result;
use autodidact_core::metrics::accuracy;
use autodidact_core::optim::{Group, Optimizer, Rule, Sgd};
use autodidact_core::train::Order;
use autodidact_datasets::synthetic::{GlyphStyle, StrokeGlyphs};
use autodidact_pruning::fire_together::{
    CompactNet, Criterion, GatedNet, GatedNetConfig, Gates, HeadInput, Pooling, Stage, mask_loss,
};
use std::time::Instant;
use tch::{Device, Kind, Tensor};

const CLASSES: usize = 10;

fn images(per_class: usize, seed: u64) -> Result<(Tensor, Tensor)> {
    let classes: Vec<usize> = (0..CLASSES).collect();
    let set = StrokeGlyphs::new(CLASSES, 0)?.draw(&classes, per_class, GlyphStyle::Plain, seed)?;
    let set = set.subset(set.len(), seed)?;
    Ok(((set.to_float() - 0.5) / 0.25, set.labels))
}

/// Epochs of training; with a criterion heads learn in the first half.
fn train(net: &GatedNet, (x, y): (&Tensor, &Tensor), epochs: usize, lr: f64, gated: Option<Criterion>) -> Result<()> {
    let [backbone, heads] = net.parts();
    let rule = || Rule::Sgd(Sgd { momentum: 0.9, nesterov: false });
    let mut optimizer = Optimizer::new(rule(), vec![Group::of(backbone, 5e-4)])?;
    let mut of_heads = Optimizer::new(rule(), vec![Group::of(heads, 0.0)])?;
    let order = Order::new(y.size()[0] as usize, 50, 0)?;
    let steps = epochs * order.batches_per_epoch();
    for step in 0..steps {
        let rows = Tensor::from_slice(&order.batch(step));
        let (x, y) = (x.index_select(0, &rows), y.index_select(0, &rows));
        let learning = 2 * step < steps;
        let out = match gated {
            None => net.forward(&x, Gates::Open, None, true, true)?,
            Some(criterion) => net.forward_frozen(&x, Gates::Heads, learning.then_some(criterion), true, learning)?,
        };
        let mut loss = out.logits.cross_entropy_for_logits(&y);
        if !out.targets.is_empty() {
            loss += mask_loss(&out.targets)?;
        }
        optimizer.zero_grad();
        of_heads.zero_grad();
        loss.f_backward()?;
        optimizer.step(lr)?;
        if !out.targets.is_empty() {
            of_heads.step(0.1)?;
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    tch::manual_seed(0);
    use Stage::{Filters, Pool};
    let config = GatedNetConfig {
        channels: 1,
        side: 16,
        stages: vec![Filters(16), Pool, Filters(32), Pool, Filters(32)],
        classes: CLASSES as i64,
        pooling: Pooling::Max,
        input: HeadInput::Standardised,
    };
    let net = GatedNet::new(&config, Device::Cpu)?;
    let ((x, y), (tested, labels)) = (images(100, 1)?, images(40, 2)?);
    train(&net, (&x, &y), 12, 0.05, None)?;
    let correct = |gates: Gates<'_>| -> Result<(f64, f64)> {
        let out = tch::no_grad(|| net.forward(&tested, gates, None, true, false))?;
        let saved = 1.0 - net.macs(&out.masks).mean(Kind::Double).double_value(&[]) / net.dense_macs();
        Ok((100.0 * accuracy(&out.logits, &labels)?, 100.0 * saved))
    };
    println!("dense: {:.1} % of test images", correct(Gates::Open)?.0);
    let criterion = Criterion::Mass(0.9);
    let (estimate, _) = net.peaks(&x)?.reduction(&net, criterion)?;
    println!("filters with 90 % of the peaks: {:.0} % of the operations will be saved", 100.0 * estimate);
    net.open_heads();
    train(&net, (&x, &y), 10, 0.01, Some(criterion))?;
    let (accuracy, saved) = correct(Gates::Heads)?;
    println!("gated: {accuracy:.1} % of test images, {saved:.0} % of the operations saved");
    let compact = CompactNet::new(&net, 16)?;
    for (what, open) in [("all filters", true), ("those asked for", false)] {
        let start = Instant::now();
        for i in 0..200 {
            let _ = compact.forward(&tested.narrow(0, i, 1), open)?;
        }
        println!("one image, {what}: {:.0} us", 1e6 * start.elapsed().as_secs_f64() / 200.0);
    }
    Ok(())
}
