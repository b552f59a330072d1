//! Self-supervised losses, forward and backward.

use crate::scrambled;
use anyhow::Result;
use autodidact_benches::Entry;
use autodidact_ssl::barlow_twins::BarlowTwinsLoss;
use autodidact_ssl::contrastive::{nt_xent, supcon};
use autodidact_ssl::isogclr::{Isogclr, TemperatureState};
use autodidact_ssl::mixed_barlow_twins::{Mix, MixedBarlowTwins};
use autodidact_ssl::multi_head_contrastive::{Amcl, PairTemperature, TemperatureConfig};
use autodidact_ssl::projection_head::spectral_contrastive_loss;
use autodidact_ssl::rankme::{EPS, rankme};
use autodidact_ssl::scattering::Scattering2d;
use autodidact_ssl::vicreg::Vicreg;
use serde_json::json;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// A loss of two batches of embeddings.
pub type Loss = fn(&Tensor, &Tensor) -> autodidact_core::Result<Tensor>;

pub const BARLOW_TWINS: Loss =
    |za, zb| Ok(BarlowTwinsLoss { lambda: 5e-3, ..Default::default() }.forward(za, zb)?.total);
/// With the mean of the views as embeddings of the mixtures: each sample's partner is the next one.
const MIXED: Loss = |za, zb| {
    let n = za.size()[0];
    let mix = Mix::new(0.3, &(0..n).map(|i| (i + 1) % n).collect::<Vec<_>>())?;
    Ok(MixedBarlowTwins::default().forward(za, zb, &((za + zb) / 2.0), &mix)?.total)
};
pub const NT_XENT: Loss = |za, zb| nt_xent(za, zb, 0.5);
const SPECTRAL: Loss = |za, zb| spectral_contrastive_loss(za, zb);
/// Of ten classes, row `i` of both views in class `i mod 10`.
const SUPCON: Loss = |za, zb| {
    let labels = Tensor::arange(za.size()[0], (Kind::Int64, za.device())).remainder(10).repeat([2]);
    supcon(&Tensor::cat(&[za, zb], 0), &labels, 0.5)
};
const VICREG: Loss = |za, zb| Ok(Vicreg::default().forward(za, zb)?.total);

pub fn entries() -> Vec<Entry> {
    let losses = [
        ("barlow-twins", "BarlowTwinsLoss", "barlow_twins", BARLOW_TWINS),
        ("mixed-barlow-twins", "the formula in PyTorch", "mixed_barlow_twins", MIXED),
        ("nt-xent", "NTXentLoss", "nt_xent", NT_XENT),
        ("spectral", "the formula in PyTorch", "spectral", SPECTRAL),
        ("supcon", "the formula in PyTorch", "supcon", SUPCON),
        ("vicreg", "VICRegLoss", "vicreg", VICREG),
    ];
    let mut all = vec![];
    for (name, class, work, loss) in losses {
        for (n, d) in [(256, 128), (256, 2048), (1024, 128), (1024, 2048)] {
            let entry = entry(format!("ssl/{name}/n={n},d={d}"), loss, n, d);
            all.push(entry.beside_python(class, work, json!({"n": n, "d": d})).agreeing(1e-4).at_most(1.0));
        }
    }
    for (n, d) in [(256, 128), (256, 2048), (1024, 128), (1024, 2048)] {
        let entry = isogclr(n, d).beside_python("the formula in PyTorch", "isogclr", json!({"n": n, "d": d}));
        all.push(entry.agreeing(1e-4).at_most(1.0));
    }
    for (n, d) in [(256, 128), (256, 2048), (1024, 128), (1024, 2048)] {
        let entry = amcl(n, d).beside_python("the formula in PyTorch", "amcl", json!({"n": n, "d": d}));
        all.push(entry.agreeing(1e-4).at_most(1.0));
    }
    all.push(rank());
    all.push(scattering());
    all
}

pub fn entry(name: String, loss: Loss, n: i64, d: i64) -> Entry {
    Entry::new(name, "loss and gradient", move || {
        let [za, zb] = views(n, d);
        Ok(Box::new(move || gradient(loss, &za, &zb)))
    })
}

/// iSogCLR, whose state follows from call to call.
fn isogclr(n: i64, d: i64) -> Entry {
    Entry::new(format!("ssl/isogclr/n={n},d={d}"), "loss, gradient and update of the state", move || {
        let [za, zb] = views(n, d);
        let (loss, store) = (Isogclr::default(), VarStore::new(Device::Cpu));
        let mut state = TemperatureState::new(store.root(), n, &loss)?;
        let index = Tensor::arange(n, (Kind::Int64, Device::Cpu));
        Ok(Box::new(move || gradient(|za, zb| Ok(loss.forward(za, zb, &index, &mut state)?.surrogate), &za, &zb)))
    })
}

/// AMCL with learned temperatures, the columns as two heads.
fn amcl(n: i64, d: i64) -> Entry {
    Entry::new(format!("ssl/amcl/n={n},d={d}"), "loss and gradient, two heads", move || {
        let [za, zb] = views(n, d);
        let store = VarStore::new(Device::Cpu);
        let temperature = PairTemperature::new(store.root(), d / 2, &TemperatureConfig::default())?;
        for (name, mut weight) in store.variables() {
            let phase = if name.contains(".0.") { 0.25 } else { 0.75 };
            let value = scrambled(&weight.size(), phase, Kind::Float) * 0.1;
            tch::no_grad(|| weight.copy_(&value));
        }
        let heads = move |z: &Tensor| z.view([n, 2, d / 2]).transpose(0, 1);
        let loss = Amcl::default();
        let of = move |za: &Tensor, zb: &Tensor| Ok(loss.simclr(&heads(za), &heads(zb), &temperature)?.total);
        Ok(Box::new(move || gradient(&of, &za, &zb)))
    })
}

/// RankMe at the paper's size.
fn rank() -> Entry {
    let ours = || {
        let z = scrambled(&[25_600, 2048], 0.0, Kind::Float);
        Ok(Box::new(move || Ok(rankme(&z, EPS)?)) as _)
    };
    Entry::new("ssl/rankme", "RankMe of 25,600 embeddings, K = 2,048", ours)
        .beside_python("svdvals", "rankme", json!({"n": 25_600, "k": 2048}))
        .agreeing(1e-3)
        .at_most(1.0 / 3.0)
}

/// The scattering transform of a batch of CIFAR-size images.
fn scattering() -> Entry {
    let ours = || {
        let transform = Scattering2d::new(2, 8, (32, 32), 2, Device::Cpu)?;
        let x = scrambled(&[64, 3, 32, 32], 0.0, Kind::Float);
        Ok(Box::new(move || Ok(transform.forward(&x)?.square().sum(Kind::Double).double_value(&[]))) as _)
    };
    Entry::new("ssl/scattering", "64 images of 3x32x32, J = 2, L = 8", ours)
        .beside_python("Scattering2D", "scattering", json!({"n": 64, "size": 32, "j": 2, "l": 8}))
        .agreeing(1e-4)
        .at_most(1.0)
}

/// Two correlated batches, `[n, d]` each.
fn views(n: i64, d: i64) -> [Tensor; 2] {
    let [a, b] = [0.0, 0.5].map(|phase| scrambled(&[n, d], phase, Kind::Float));
    let b = &a + b * 0.5;
    [a, b].map(|z| z.set_requires_grad(true))
}

fn gradient(
    loss: impl FnOnce(&Tensor, &Tensor) -> autodidact_core::Result<Tensor>,
    za: &Tensor,
    zb: &Tensor,
) -> Result<f64> {
    let value = loss(za, zb)?;
    Tensor::run_backward(&[&value], &[za, zb], false, false);
    Ok(value.double_value(&[]))
}
