//! Trains a small network on digits, prunes it in one shot at several sparsities, trains on under the masks, and saves it without what is
//! masked.
//!
//! `cargo run --release -p autodidact-pruning --example prune_and_save -- [FOLDER]`
//!
//! For every sparsity it prints the test accuracy before and after further training, and the size of the file, which is then read back.

use anyhow::{Result, ensure};
use autodidact_core::masks::Masks;
use autodidact_core::metrics::accuracy;
use autodidact_core::nn::{Mlp, MlpConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule, Snapshot};
use autodidact_core::train::Order;
use autodidact_datasets::image::digits;
use autodidact_pruning::pruners::{global_magnitude, matrices};
use autodidact_pruning::storage;
use std::path::PathBuf;
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Tensor};

fn network() -> Result<(VarStore, Mlp)> {
    tch::manual_seed(0);
    let vs = VarStore::new(Device::Cpu);
    let net = Mlp::new(vs.root(), &MlpConfig::plain(&[64, 256, 128, 10]))?;
    Ok((vs, net))
}

/// Some epochs of training, under masks if there are any.
fn train(vs: &VarStore, net: &Mlp, (x, y): (&Tensor, &Tensor), epochs: usize, masks: Option<&Masks>) -> Result<()> {
    let order = Order::new(y.size()[0] as usize, 64, 0)?;
    let mut optimizer = Optimizer::new(Rule::Adam(Adam::default()), vec![Group::all(vs, 0.0)])?;
    for step in 0..epochs * order.batches_per_epoch() {
        let rows = Tensor::from_slice(&order.batch(step));
        let loss = net.forward_t(&x.index_select(0, &rows), true).cross_entropy_for_logits(&y.index_select(0, &rows));
        optimizer.zero_grad();
        loss.f_backward()?;
        optimizer.step(1e-3)?;
        if let Some(masks) = masks {
            masks.apply();
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let (set, held) = digits().split(1400, 0)?;
    let (x, tested) = (set.to_float().flatten(1, -1), held.to_float().flatten(1, -1));
    let (vs, net) = network()?;
    train(&vs, &net, (&x, &set.labels), 15, None)?;
    let correct = |net: &Mlp| -> Result<f64> {
        Ok(100.0 * tch::no_grad(|| accuracy(&net.forward_t(&tested, false), &held.labels))?)
    };
    println!("dense: {:.1} % of test images", correct(&net)?);
    let dense = Snapshot::of_parameters(&vs);
    println!("sparsity   pruned   trained on   file");
    for sparsity in [0.0, 0.5, 0.8, 0.9, 0.95, 0.98] {
        dense.restore();
        let masks = global_magnitude(&matrices(&vs, |_| true)?, sparsity)?;
        masks.apply();
        let pruned = correct(&net)?;
        train(&vs, &net, (&x, &set.labels), 5, Some(&masks))?;
        let path = folder.join(format!("digits-{sparsity}.safetensors"));
        storage::save(&path, &vs, &masks)?;
        let size = std::fs::metadata(&path)?.len() as f64 / 1024.0;
        let (copy, again) = network()?;
        storage::load(&path, &copy)?;
        ensure!(correct(&again)? == correct(&net)?, "the file gives another network");
        println!("{sparsity:8}   {pruned:5.1} %   {:7.1} %   {size:6.1} KiB", correct(&net)?);
    }
    println!("files are in {}", folder.display());
    Ok(())
}
