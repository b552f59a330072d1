//! Distillation losses, forward and backward.

use crate::scrambled;
use anyhow::Result;
use autodidact_benches::Entry;
use autodidact_core::nn::{ResNet, ResNetConfig, ResNetDepth, ResNetStem, layers};
use autodidact_core::optim::{Group, Optimizer, Rule, Sgd};
use autodidact_distill::dual_head_distillation::{binary_kl, binary_kl_norm};
use autodidact_distill::normalized_distillation::{Nkd, RankScore, Uskd, UskdConfig};
use serde_json::json;
use tch::nn::{Linear, Module, VarStore};
use tch::{Device, Kind, Tensor};

/// Width of the intermediate feature.
const FEATURES: i64 = 256;

pub fn entries() -> Vec<Entry> {
    let mut all = vec![];
    for (b, c) in [(256, 100), (256, 1000)] {
        all.push(nkd(b, c));
        all.push(uskd(b, c));
        all.push(binary("binary_kl", binary_kl, b, c));
        all.push(binary("binary_kl_norm", binary_kl_norm, b, c));
    }
    all.push(
        Entry::new("distill/uskd-step", "ResNet-18 with USKD, 16 images of 32x32, 100 classes", || {
            let mut training = Training::new()?;
            Ok(Box::new(move || training.step(true)))
        })
        .beside_ours("the same step with cross entropy", || {
            let mut training = Training::new()?;
            Ok(Box::new(move || training.step(false)))
        })
        .at_most(1.05),
    );
    all
}

/// Student logits with gradients, teacher logits, labels.
fn logits(b: i64, c: i64) -> (Tensor, Tensor, Tensor) {
    let [s, t] = [0.0, 0.5].map(|phase| scrambled(&[b, c], phase, Kind::Float) * 4.0);
    (s.set_requires_grad(true), t, Tensor::arange(b, (Kind::Int64, Device::Cpu)).remainder(c))
}

fn nkd(b: i64, c: i64) -> Entry {
    Entry::new(format!("distill/nkd/b={b},c={c}"), "loss and gradient", move || {
        let (s, t, y) = logits(b, c);
        Ok(Box::new(move || {
            let loss = Nkd::cifar100().forward(&s, &t, &y)?.total;
            Tensor::run_backward(&[&loss], &[&s], false, false);
            Ok(loss.double_value(&[]))
        }))
    })
    .beside_python("the formula in PyTorch", "nkd", json!({"b": b, "c": c}))
    .agreeing(1e-4)
    .at_most(1.0)
}

/// A loss that the peers know by the same name.
fn binary(
    name: &'static str,
    loss: fn(&Tensor, &Tensor, f64) -> autodidact_core::Result<Tensor>,
    b: i64,
    c: i64,
) -> Entry {
    Entry::new(format!("distill/{}/b={b},c={c}", name.replace('_', "-")), "loss and gradient", move || {
        let (s, t, _) = logits(b, c);
        Ok(Box::new(move || {
            let loss = loss(&s, &t, 2.0)?;
            Tensor::run_backward(&[&loss], &[&s], false, false);
            Ok(loss.double_value(&[]))
        }))
    })
    .beside_python("the formula in PyTorch", name, json!({"b": b, "c": c}))
    .agreeing(1e-4)
    .at_most(1.0)
}

fn uskd(b: i64, c: i64) -> Entry {
    Entry::new(format!("distill/uskd/b={b},c={c}"), "loss, head and gradient", move || {
        let (s, _, y) = logits(b, c);
        let feature = scrambled(&[b, FEATURES], 0.25, Kind::Float).set_requires_grad(true);
        let vs = VarStore::new(Device::Cpu);
        // The published code ranks by log-probabilities.
        let config = UskdConfig { rank_score: RankScore::LogProbability, ..UskdConfig::cifar100() };
        let uskd = Uskd::new(vs.root(), FEATURES, c, config)?;
        for (name, mut v) in vs.variables() {
            let phase = if name.ends_with("bias") { 0.75 } else { 0.6 };
            tch::no_grad(|| v.copy_(&(scrambled(&v.size(), phase, Kind::Float) / 16.0)));
        }
        let trained: Vec<Tensor> = vs.trainable_variables();
        Ok(Box::new(move || {
            let loss = uskd.forward(&feature, &s, &y)?.total;
            let inputs: Vec<&Tensor> = [&s, &feature].into_iter().chain(&trained).collect();
            Tensor::run_backward(&[&loss], &inputs, false, false);
            Ok(loss.double_value(&[]))
        }))
    })
    .beside_python("the published code's expressions in PyTorch", "uskd", json!({"b": b, "c": c, "features": FEATURES}))
    .agreeing(1e-4)
    .at_most(1.0)
}

struct Training {
    net: ResNet,
    classifier: Linear,
    uskd: Uskd,
    optimizer: Optimizer,
    x: Tensor,
    y: Tensor,
    _parameters: VarStore,
}

impl Training {
    fn new() -> Result<Self> {
        let vs = VarStore::new(Device::Cpu);
        let config = ResNetConfig::new(ResNetDepth::D18, ResNetStem::Cifar);
        Ok(Self {
            net: ResNet::new(vs.root() / "net", &config),
            classifier: layers::linear(vs.root() / "classifier", config.features(), 100, true),
            uskd: Uskd::new(vs.root(), config.features() / 2, 100, UskdConfig::cifar100())?,
            optimizer: Optimizer::new(Rule::Sgd(Sgd::default()), vec![Group::all(&vs, 5e-4)])?,
            x: scrambled(&[16, 3, 32, 32], 0.0, Kind::Float),
            y: Tensor::arange(16, (Kind::Int64, Device::Cpu)),
            _parameters: vs,
        })
    }

    fn step(&mut self, with_uskd: bool) -> Result<f64> {
        self.optimizer.zero_grad();
        let (features, tap) = self.net.forward_with_tap(&self.x, true);
        let logits = self.classifier.forward(&features);
        let mut loss = logits.cross_entropy_for_logits(&self.y);
        if with_uskd {
            loss += self.uskd.forward(&tap, &logits, &self.y)?.total;
        }
        loss.backward();
        self.optimizer.step(1e-3)?;
        Ok(loss.double_value(&[]))
    }
}
