//! Pruning.

use crate::scrambled;
use autodidact_benches::Entry;
use autodidact_core::masks::Masks;
use autodidact_pruning::pruners::global_magnitude;
use serde_json::json;
use tch::Kind;

pub fn entries() -> Vec<Entry> {
    vec![global_pruning()]
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
