//! Time and memory over problem sizes.

use crate::distilled;
use crate::models::Stepping;
use crate::scrambled;
use crate::ssl;
use anyhow::Result;
use autodidact_benches::{Entry, Work};
use autodidact_core::metrics::{Knn, Vote};
use autodidact_core::nn::GptConfig;
use autodidact_core::text::selected_log_probs;
use autodidact_ssl::rankme::{EPS, rankme};
use tch::{Device, Kind, Tensor};

pub fn entries() -> Vec<Entry> {
    let mut all = vec![];
    for n in [128, 256, 512, 1024] {
        let entry = ssl::entry(format!("growth/nt-xent/N={n}"), ssl::NT_XENT, n, 128);
        all.push(entry.in_series("NT-Xent, D = 128", "N", n));
    }
    for n in [2000, 4000, 8000, 16_000] {
        all.push(rank(n).in_series("RankMe, D = 512", "N", n));
    }
    for n in [5000, 10_000, 20_000, 40_000] {
        all.push(neighbours(n).in_series("weighted k-NN of a bank of N, D = 128", "N", n));
    }
    for d in [128, 256, 512, 1024, 2048] {
        let entry = ssl::entry(format!("growth/barlow-twins/D={d}"), ssl::BARLOW_TWINS, 256, d);
        all.push(entry.in_series("Barlow Twins, N = 256", "D", d));
    }
    for t in [128, 256, 512, 1024, 2048] {
        all.push(context(t).in_series("step of a GPT, width 128, depth 4", "T", t));
    }
    for v in [8192, 16_384, 32_768] {
        all.push(in_parts(v).in_series("log-probabilities of 4,096 tokens", "V", v));
    }
    for v in [8192, 16_384, 32_768] {
        all.push(whole(v).in_series("the same, all logits held", "V", v));
    }
    for steps in [2, 4, 8] {
        let entry = distilled::matching(16, 2, 8, 1, steps);
        all.push(entry.in_series("trajectory matching, width 16, 8x8", "steps", steps as i64));
    }
    all
}

fn rank(n: i64) -> Entry {
    Entry::new(format!("growth/rankme/N={n}"), "RankMe of N embeddings, K = 512", move || {
        let z = scrambled(&[n, 512], 0.0, Kind::Float);
        Ok(Box::new(move || Ok(rankme(&z, EPS)?)))
    })
}

fn neighbours(bank: i64) -> Entry {
    Entry::new(format!("growth/weighted-knn/N={bank}"), "1,000 queries, D = 128, k = 200", move || {
        let features = scrambled(&[bank, 128], 0.0, Kind::Float);
        let labels = Tensor::arange(bank, (Kind::Int64, Device::Cpu)).remainder(10);
        let queries = scrambled(&[1000, 128], 0.5, Kind::Float);
        let knn = Knn::new(&features, &labels, 10)?;
        Ok(Box::new(move || Ok(knn.scores(&queries, 200, Vote::Temperature(0.07))?.double_value(&[0, 0]))))
    })
}

fn context(length: i64) -> Entry {
    Entry::new(format!("growth/gpt-step/T={length}"), "forward, backward, clipping and AdamW", move || {
        let mut stepping = Stepping::new(&GptConfig::gpt2(65, length, 128, 4, 4), 1)?;
        Ok(Box::new(move || stepping.step()))
    })
}

fn in_parts(vocabulary: i64) -> Entry {
    let name = format!("growth/selected-log-probs/V={vocabulary}");
    Entry::new(name, "forward and backward", move || {
        over_vocabulary(vocabulary, |hidden, head, tokens| Ok(selected_log_probs(hidden, head, tokens)?))
    })
}

fn whole(vocabulary: i64) -> Entry {
    let name = format!("growth/selected-log-probs-whole/V={vocabulary}");
    Entry::new(name, "forward and backward", move || {
        over_vocabulary(vocabulary, |hidden, head, tokens| {
            let all = hidden.matmul(&head.tr()).log_softmax(-1, None::<Kind>);
            Ok(all.gather(1, &tokens.unsqueeze(1), false).squeeze_dim(1))
        })
    })
}

/// Log-probabilities of tokens, down to the gradients of hidden states and head.
fn over_vocabulary(
    vocabulary: i64,
    log_probs: impl Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor> + 'static,
) -> Result<Work> {
    let hidden = scrambled(&[4096, 32], 0.0, Kind::Float).set_requires_grad(true);
    let head = (scrambled(&[vocabulary, 32], 0.5, Kind::Float) * 0.1).set_requires_grad(true);
    let tokens = (Tensor::arange(4096, (Kind::Int64, Device::Cpu)) * 7919).remainder(vocabulary);
    Ok(Box::new(move || {
        let loss = -log_probs(&hidden, &head, &tokens)?.mean(Kind::Float);
        Tensor::run_backward(&[&loss], &[&hidden, &head], false, false);
        Ok(loss.double_value(&[]))
    }))
}
