//! A small network learns digits from few labels: alone, from a teacher's logits with KD, and with NKD.
//!
//! `cargo run --release -p autodidact-distill --example teacher_student -- [LABELS]` (200 labelled images for everyone)
//!
//! The teacher is wider and is trained on the same images; its logits are all that the students see of it.

use anyhow::{Context, Result};
use autodidact_core::metrics::accuracy;
use autodidact_core::nn::{ConvNet, ConvNetConfig, ConvNetHead};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::train::{Order, TrainConfig, Trainer};
use autodidact_datasets::load_images;
use autodidact_distill::logits::kd;
use autodidact_distill::normalized_distillation::Nkd;
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Tensor};

const STEPS: usize = 300;

/// What is added to the cross entropy, for the student's logits and the rows of the batch.
type Extra<'a> = &'a dyn Fn(&Tensor, &Tensor) -> autodidact_core::Result<Tensor>;

/// Trains a network with these widths; returns its logits on the training images and those on the test images.
fn train(widths: [i64; 2], data: [&Tensor; 3], seed: u64, extra: Option<Extra>) -> Result<[Tensor; 2]> {
    let [x, y, test] = data;
    tch::manual_seed(seed as i64);
    let vs = VarStore::new(Device::Cpu);
    let blocks = widths.map(|width| (width, 2)).to_vec();
    let net = ConvNet::new(
        vs.root(),
        &ConvNetConfig { channels: 1, blocks, head: ConvNetHead::Flatten { side: 8, width: 10 } },
    )?;
    let optimizer = Optimizer::new(Rule::AdamW(Adam::default()), Group::split_decay(&vs, 1e-2))?;
    let order = Order::new(y.size()[0] as usize, 50, seed)?;
    let schedule = Schedule::new(3e-3, STEPS, Shape::cosine_to(0.0));
    Trainer::new(TrainConfig::new(schedule, seed), &vs, optimizer)?.run(
        |step| {
            let rows = Tensor::from_slice(&order.batch(step.index));
            let logits = net.forward_t(&x.index_select(0, &rows), true);
            let loss = logits.cross_entropy_for_logits(&y.index_select(0, &rows));
            Ok(match extra {
                Some(extra) => loss + extra(&logits, &rows)?,
                None => loss,
            })
        },
        |_| Ok(()),
    )?;
    Ok([x, test].map(|x| tch::no_grad(|| net.forward_t(x, false))))
}

fn main() -> Result<()> {
    let labelled: usize = std::env::args().nth(1).map_or(Ok(200), |a| a.parse()).context("the argument is a number")?;
    let (train_set, test) = load_images("digits", None, false)?;
    let few = train_set.subset(labelled, 0)?;
    let (x, y, tested) = (few.to_float(), few.labels, test.to_float());
    let correct = |logits: &Tensor| -> Result<f64> { Ok(100.0 * accuracy(logits, &test.labels)?) };
    let [teacher, on_test] = train([32, 64], [&x, &y, &tested], 0, None)?;
    println!("teacher of 32 and 64 channels   {:.1} %", correct(&on_test)?);

    let (nkd, temperature) = (Nkd { temperature: 3.0, ..Nkd::default() }, 4.0);
    let of = |rows: &Tensor| teacher.index_select(0, rows);
    let with_kd = |s: &Tensor, rows: &Tensor| kd(s, &of(rows), temperature);
    let with_nkd = |s: &Tensor, rows: &Tensor| Ok(nkd.forward(s, &of(rows), &y.index_select(0, rows))?.total);
    let students: [(&str, Option<Extra>); 3] = [("alone", None), ("KD", Some(&with_kd)), ("NKD", Some(&with_nkd))];
    for (name, extra) in students {
        let mut percent = vec![];
        for seed in 0..3 {
            percent.push(correct(&train([4, 8], [&x, &y, &tested], seed, extra)?[1])?);
        }
        println!("student of 4 and 8, {name:5}       {percent:.1?} %, by seed");
    }
    Ok(())
}
