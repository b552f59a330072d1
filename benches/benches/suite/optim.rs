//! Optimizers.

use crate::scrambled;
use anyhow::Result;
use autodidact_benches::Entry;
use autodidact_core::nn::{Vit, VitConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule, sorted_trainables};
use serde_json::json;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// One AdamW step over a vision transformer of about ten million parameters.
pub fn adamw_step() -> Result<Entry> {
    let vs = VarStore::new(Device::Cpu);
    Vit::new(vs.root(), &VitConfig { width: 256, depth: 13, heads: 4, ..Default::default() })?;
    let params: Vec<Tensor> = sorted_trainables(&vs).into_iter().map(|(_, p)| p).collect();
    let shapes: Vec<Vec<i64>> = params.iter().map(Tensor::size).collect();
    let millions = params.iter().map(Tensor::numel).sum::<usize>() as f64 / 1e6;
    let what = format!("AdamW step, ViT of {millions:.1} M parameters in {} tensors", params.len());
    let ours = move || {
        for (i, p) in params.iter().enumerate() {
            let (value, gradient) =
                (scrambled(&p.size(), i as f64, Kind::Float), scrambled(&p.size(), 0.5 + i as f64, Kind::Float));
            tch::no_grad(|| p.shallow_clone().copy_(&value));
            (p * gradient).sum(Kind::Float).backward();
        }
        let mut optimizer = Optimizer::new(Rule::AdamW(Adam::default()), vec![Group::all(&vs, 0.05)])?;
        Ok(Box::new(move || {
            let _keeps_the_parameters = &vs;
            optimizer.step(1e-3)?;
            Ok(params[0].view(-1).double_value(&[0]))
        }) as _)
    };
    let arguments = json!({"shapes": shapes, "lr": 1e-3, "weight_decay": 0.05});
    Ok(Entry::new("optim/adamw-step", what, ours)
        .beside_python("torch.optim.AdamW(foreach=True)", "adamw_step", arguments)
        .agreeing(1e-6)
        .at_most(1.0))
}
