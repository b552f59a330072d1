//! Which run of a sweep has the best representations? RankMe says it without labels.
//!
//! `cargo run --release -p autodidact-ssl --example rank` sweeps the weight of redundancy in Barlow Twins on digits, chooses by RankMe, and
//! prints what labels say afterwards.
//! `cargo run --release -p autodidact-ssl --example rank -- FILE.safetensors` prints the RankMe of every matrix `[N, K]` in a file:
//! embeddings of the same images by the runs that are to be compared.

use anyhow::{Result, bail};
use autodidact_core::metrics::{LinearProbe, accuracy};
use autodidact_core::nn::{Mlp, MlpConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::seed::rng;
use autodidact_datasets::{augment::barlow_twins_small_digits, batch::Order, load_images};
use autodidact_ssl::barlow_twins::BarlowTwinsLoss;
use autodidact_ssl::rankme::{Candidate, EPS, Selection, alpha_req, rankme, select};
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args[..] {
        [] => sweep(),
        [file] => {
            for (name, t) in Tensor::read_safetensors(file)? {
                println!("{:8.2} of {}  {name}", rankme(&t, EPS)?, t.size().iter().min().unwrap_or(&0));
            }
            Ok(())
        }
        _ => bail!("give no arguments, or a safetensors file of embeddings"),
    }
}

/// A network of digits trained for 300 steps; its embeddings of the training images, and its representations of both sets.
fn train(lambda: f64, images: &Tensor, others: &Tensor) -> Result<[Tensor; 3]> {
    tch::manual_seed(0);
    let vs = VarStore::new(Device::Cpu);
    let encoder = Mlp::new(
        vs.root() / "encoder",
        &MlpConfig { output_batch_norm: true, ..MlpConfig::projector(&[64, 128, 64]) },
    )?;
    let projector = Mlp::new(vs.root() / "projector", &MlpConfig::projector(&[64, 128, 64]))?;
    let mut optimizer = Optimizer::new(Rule::AdamW(Adam::default()), vec![Group::all(&vs, 1e-4)])?;
    let represent = |x: &Tensor, train: bool| encoder.forward_t(&x.flatten(1, -1), train).relu();
    let order = Order::new(images.size()[0] as usize, 250, 0)?;
    let (augment, loss) = (barlow_twins_small_digits(), BarlowTwinsLoss { lambda, ..Default::default() });
    for step in 0..300 {
        let batch = images.index_select(0, &Tensor::from_slice(&order.batch(step)));
        let mut rng = rng(0, &["views", &step.to_string()]);
        let views = [augment.apply(&batch, &mut rng)?, augment.apply(&batch, &mut rng)?];
        let [za, zb] = views.map(|x| projector.forward_t(&represent(&x, true), true));
        optimizer.zero_grad();
        loss.forward(&za, &zb)?.total.backward();
        optimizer.step(2e-3)?;
    }
    let of = |x: &Tensor| tch::no_grad(|| represent(&(x.to_kind(Kind::Float) / 255.0), false));
    let h = of(images);
    Ok([tch::no_grad(|| projector.forward_t(&h, false)), h, of(others)])
}

fn sweep() -> Result<()> {
    let (digits, test) = load_images("digits", None, false)?;
    let mut runs = vec![];
    println!("lambda  RankMe of 64  linear layer");
    for lambda in [1e-4, 1e-3, 1e-2, 0.1] {
        let [z, h, tested] = train(lambda, &digits.images, &test.images)?;
        let logits = LinearProbe { epochs: 30, ..Default::default() }.logits(&h, &digits.labels, 10, &tested)?;
        let accuracy = 100.0 * accuracy(&logits, &test.labels)?;
        let run = Candidate { value: lambda, rankme: rankme(&z, EPS)?, alpha: alpha_req(&h, 10..100)?, accuracy };
        println!("{lambda:6}  {:12.2}  {accuracy:10.1} %", run.rankme);
        runs.push(run);
    }
    let chosen = select(&runs, Selection::RankMe { tolerance: 0.0 })?;
    println!("RankMe chooses lambda {}, with {:.1} %", chosen.value, chosen.accuracy);
    Ok(())
}
