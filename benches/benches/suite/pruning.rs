//! Pruning.

use crate::scrambled;
use anyhow::{Result, ensure};
use autodidact_benches::Entry;
use autodidact_core::masks::Masks;
use autodidact_pruning::fire_together::{
    CompactNet, Criterion, GatedNet, GatedNetConfig, Gates, HeadInput, Pooling, Stage,
};
use autodidact_pruning::pruners::global_magnitude;
use serde_json::json;
use tch::{Device, Kind, Tensor};

pub fn entries() -> Vec<Entry> {
    use Stage::{Filters, Pool};
    let wide = GatedNetConfig {
        side: 64,
        stages: vec![Filters(64), Filters(64), Pool, Filters(128), Filters(128), Pool, Filters(256), Filters(256)],
        ..GatedNetConfig::vgg16(10)
    };
    vec![
        global_pruning(),
        dynamic("pruning/dynamic/convnet-64", "six convolutions of 64 to 256 filters on 64x64", wide),
        dynamic("pruning/dynamic/vgg16-32", "VGG-16 on 32x32", GatedNetConfig::vgg16(10)),
    ]
}

/// One image at a time through gates that save half of the operations, beside the same network with all filters.
fn dynamic(name: &str, network: &str, config: GatedNetConfig) -> Entry {
    let config = GatedNetConfig { pooling: Pooling::Max, input: HeadInput::Standardised, ..config };
    let work = |config: GatedNetConfig, open: bool| {
        move || {
            let (net, images) = half_gated(&config)?;
            // The network lives as long as the process: what is measured borrows it.
            let compact = CompactNet::new(Box::leak(Box::new(net)), 16)?;
            // The convolution library makes code for each width when it first meets it.
            for i in 0..2 * images.size()[0] {
                let _ = compact.forward(&images.narrow(0, i % images.size()[0], 1), open)?;
            }
            let mut next = 0;
            Ok(Box::new(move || {
                next = (next + 1) % images.size()[0];
                let (logits, _) = compact.forward(&images.narrow(0, next, 1), open)?;
                Ok(logits.double_value(&[0, 0]))
            }) as _)
        }
    };
    Entry::new(name, format!("{network}, one image, half of the operations skipped"), work(config.clone(), false))
        .beside_ours("all filters computed", work(config, true))
        .at_most(1.0 / 1.3)
}

/// A network of which every filter is computed on as many images as saves half of the operations; and images.
fn half_gated(config: &GatedNetConfig) -> Result<(GatedNet, Tensor)> {
    tch::manual_seed(0);
    let net = GatedNet::new(config, Device::Cpu)?;
    let images = scrambled(&[16, config.channels, config.side, config.side], 0.1, Kind::Float);
    let pass = |train| tch::no_grad(|| net.forward(&images, Gates::Heads, Some(Criterion::Mass(0.9)), true, train));
    // Statistics first.
    for _ in 0..5 {
        pass(true)?;
    }
    let mut order = vec![];
    for (name, parameter) in &net.parts()[1] {
        if let Some(layer) = name.strip_prefix("heads.").and_then(|n| n.strip_suffix(".linear.bias")) {
            order.push((layer.parse::<usize>()?, parameter.shallow_clone()));
        }
    }
    order.sort_by_key(|o| o.0);
    for (layer, bias) in order {
        let logits = pass(false)?.targets[layer].0.shallow_clone();
        let quantile = logits.quantile_scalar(1.0 - 0.5f64.sqrt(), 0, false, "linear");
        let _ = tch::no_grad(|| bias.shallow_clone().g_sub_(&quantile));
    }
    let saved = 1.0 - net.macs(&pass(false)?.masks).mean(Kind::Double).double_value(&[]) / net.dense_macs();
    ensure!((0.45..0.55).contains(&saved), "{saved} of the operations are saved, not half");
    Ok((net, images))
}

/// Half of 100 million weights by magnitude, in one ranking, and the masks applied.
fn global_pruning() -> Entry {
    const TENSORS: usize = 24;
    const SIDE: i64 = 2048;
    let ours = || {
        let weights =
            (0..TENSORS).map(|i| (format!("{i:02}"), scrambled(&[SIDE, SIDE], 0.01 * i as f64, Kind::Float))).collect();
        let dense = Masks::of(weights);
        Ok(Box::new(move || {
            let masks = global_magnitude(&dense, 0.5)?;
            masks.apply();
            Ok(masks.densities()[0].1)
        }) as _)
    };
    let arguments = json!({"tensors": TENSORS, "side": SIDE, "amount": 0.5});
    Entry::new("pruning/global-magnitude", "half of 100 M weights in 24 matrices pruned in one ranking", ours)
        .beside_python("torch.nn.utils.prune.global_unstructured", "global_pruning", arguments)
        .agreeing(1e-4)
        .at_most(0.2)
}
