//! Learns an invented alphabet four characters at a time, over a small vision transformer that is pre-trained on other characters.
//!
//! `cargo run --release -p autodidact-unlearning --example class_incremental`
//!
//! After every task it prints the accuracy on all characters so far of MOS, of prototypes on the frozen features, and of one adapter that
//! goes on learning: no learner sees earlier characters again, and none is told the task.

use anyhow::Result;
use autodidact_core::nn::{Vit, VitConfig, layers};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule, StateDict};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::train::{TrainConfig, Trainer};
use autodidact_datasets::batch::Order;
use autodidact_datasets::image::ImageSet;
use autodidact_datasets::synthetic::{GlyphStyle, StrokeGlyphs};
use autodidact_unlearning::model_surgery::{
    AdaptedVit, AdapterConfig, Alignment, CilLearner, CilMetrics, FinetuneAdapter, Mos, MosConfig, SimpleCil,
    TaskTraining,
};
use tch::nn::{Module, ModuleT, VarStore};
use tch::{Device, Tensor};

const SOURCE: usize = 12;
const TASKS: usize = 4;
const CLASSES: usize = 4;
/// Training images of a character.
const PER_CLASS: usize = 80;

fn images(set: &ImageSet) -> Tensor {
    (set.to_float() - 0.5) / 0.25
}

/// A vision transformer that tells the source's characters apart.
fn pretrained(config: &VitConfig, source: &ImageSet) -> Result<AdaptedVit> {
    let vs = VarStore::new(Device::Cpu);
    let vit = Vit::new(vs.root() / "vit", config)?;
    let head = layers::linear(vs.root() / "head", config.width, SOURCE as i64, true);
    let (x, y) = (images(source), &source.labels);
    let order = Order::new(source.len(), 64, 0)?;
    let schedule = Schedule::new(1e-3, 10 * order.batches_per_epoch(), Shape::cosine_to(0.0));
    let optimizer = Optimizer::new(Rule::AdamW(Adam::default()), vec![Group::all(&vs, 0.01)])?;
    Trainer::new(TrainConfig::new(schedule, 0), &vs, optimizer)?.run(
        |step| {
            let batch = Tensor::from_slice(&order.batch(step.index));
            let logits = head.forward(&vit.forward_t(&x.index_select(0, &batch), true));
            Ok(logits.cross_entropy_for_logits(&y.index_select(0, &batch)))
        },
        |_| Ok(()),
    )?;
    let of_vit = |(name, t): (String, Tensor)| Some((name.strip_prefix("vit.")?.to_owned(), t));
    let weights: StateDict = vs.variables().into_iter().filter_map(of_vit).collect();
    Ok(AdaptedVit::new(config, &weights, Device::Cpu)?)
}

fn main() -> Result<()> {
    tch::manual_seed(0);
    let glyphs = StrokeGlyphs::new(SOURCE + TASKS * CLASSES, 0)?;
    let source: Vec<usize> = (0..SOURCE).collect();
    let config = VitConfig { side: 16, patch: 4, channels: 1, width: 48, depth: 3, heads: 4, ..Default::default() };
    println!("pre-training on {SOURCE} characters ...");
    let backbone = pretrained(&config, &glyphs.draw(&source, 100, GlyphStyle::Plain, 1)?)?;

    let adapter = AdapterConfig { rank: 8, scale: 1.0, dropout: 0.1 };
    let training = TaskTraining { epochs: 15, batch: 16, ..Default::default() };
    let alignment = Some(Alignment { epochs: 20, samples: 100, ..Default::default() });
    let mut mos = Mos::new(&backbone, MosConfig { adapter, training, alignment, ..Default::default() })?;
    let mut prototypes = SimpleCil::new(&backbone);
    let mut one_adapter = FinetuneAdapter::new(&backbone, adapter, training)?;
    let mut learners: [(&str, &mut dyn CilLearner, CilMetrics); 3] = [
        ("MOS", &mut mos, CilMetrics::default()),
        ("SimpleCIL", &mut prototypes, CilMetrics::default()),
        ("Finetune Adapter", &mut one_adapter, CilMetrics::default()),
    ];
    // Bright on dark in the source, dark on a bright, uneven ground now.
    let classes: Vec<usize> = (SOURCE..SOURCE + TASKS * CLASSES).collect();
    let train = glyphs.draw(&classes, PER_CLASS, GlyphStyle::Inverted, 2)?;
    let test = glyphs.draw(&classes, 30, GlyphStyle::Inverted, 3)?;
    for task in 0..TASKS {
        let (new, seen) = ((CLASSES * PER_CLASS) as i64, ((task + 1) * CLASSES * 30) as i64);
        let of_task = |t: &Tensor| t.narrow(0, task as i64 * new, new);
        let (x, y) = (images(&test).narrow(0, 0, seen), test.labels.narrow(0, 0, seen));
        let mut line = format!("{:>2} characters:", (task + 1) * CLASSES);
        for (name, learner, metrics) in &mut learners {
            learner.observe_task(&of_task(&images(&train)), &of_task(&train.labels))?;
            let predicted = learner.predict(&x)?.argmax(1, false);
            metrics.record(&predicted, &y, &learner.tasks().of_classes(Device::Cpu))?;
            line += &format!("  {name} {:.1} %", metrics.last());
        }
        println!("{line}");
    }
    for (name, _, metrics) in &learners {
        println!("{name}: average {:.1} %, forgetting {:.1} points", metrics.average(), metrics.forgetting());
    }
    Ok(())
}
