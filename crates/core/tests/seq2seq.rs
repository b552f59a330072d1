//! The encoder-decoder against `torch.nn.Transformer`, its decoding against recomputation and against all that could be decoded.

use autodidact_core::nn::{BeamConfig, Seq2Seq, Seq2SeqConfig, parameter_count};
use autodidact_core::testing::{assert_close, fixture};
use std::collections::BTreeMap;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const INT: (Kind, Device) = (Kind::Int64, Device::Cpu);

fn golden() -> (VarStore, Seq2Seq, BTreeMap<String, Tensor>) {
    let file = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/seq2seq.safetensors"));
    let vs = VarStore::new(Device::Cpu);
    let model = Seq2Seq::new(vs.root(), &Seq2SeqConfig::new(13, 11, 16, 24, 4)).unwrap();
    let variables = vs.variables();
    let weights = file.keys().filter(|k| k.starts_with("weights.")).count();
    assert_eq!(variables.len(), weights, "{:?}", variables.keys());
    tch::no_grad(|| {
        for (name, t) in variables {
            t.shallow_clone().copy_(&file[&format!("weights.{name}")]);
        }
    });
    (vs, model, file)
}

#[test]
fn it_is_torchs_transformer_with_norms_first() {
    let (vs, model, file) = golden();
    let (tokens, mask) = (&file["tokens"], &file["mask"].to_kind(Kind::Bool));
    let encoded = model.encode(tokens, Some(mask), false).unwrap();
    let hidden = model.hidden(&encoded, &file["inputs"], false).unwrap();
    assert_close("logits", &hidden.matmul(&model.head().tr()), &file["logits"], 1e-5);
    let loss = model.loss(tokens, Some(mask), &file["targets"], true).unwrap();
    assert_close("loss", &loss, &file["loss"], 1e-6);
    loss.backward();
    for (name, t) in vs.variables() {
        assert_close(&name, &t.grad(), &file[&format!("grads.{name}")], 2e-5);
    }
}

/// Up to the first end.
fn until_end(tokens: &Tensor) -> Vec<Vec<i64>> {
    let rows = Vec::<Vec<i64>>::try_from(tokens).unwrap();
    rows.into_iter().map(|r| r.into_iter().take_while(|&t| t != 2).collect()).collect()
}

#[test]
fn greedy_decoding_is_torchs_without_a_cache_and_stops_at_the_end() {
    let (_vs, model, file) = golden();
    let (tokens, mask) = (&file["tokens"], &file["mask"].to_kind(Kind::Bool));
    let want = until_end(&file["greedy"]);
    assert_eq!(model.greedy(tokens, Some(mask), 9).unwrap(), want);
    // Rows that end leave the batch; the others go on as before.
    assert!(want.iter().any(|r| r.len() < 9), "{want:?}");
    for row in 0..5 {
        let length = mask.get(row).sum(Kind::Int64).int64_value(&[]);
        let alone = tokens.narrow(0, row, 1).narrow(1, 0, length);
        assert_eq!(model.greedy(&alone, None, 9).unwrap()[0], want[row as usize]);
    }
    let one = BeamConfig { beams: 1, max_len: 9, length_penalty: 0.0 };
    let beams = model.beam(tokens, Some(mask), &one).unwrap();
    for (beam, greedy) in beams.iter().zip(&want) {
        assert_eq!(beam.tokens, *greedy);
    }
}

#[test]
fn beams_are_scored_as_they_should_be_and_beat_greedy_decoding() {
    // Targets of up to three words, of three kinds.
    let mut all: Vec<Vec<i64>> = vec![vec![]];
    let mut layer = all.clone();
    for _ in 0..3 {
        layer = layer.iter().flat_map(|t| [0, 2, 3].map(|w| [&t[..], &[w]].concat())).collect();
        all.extend(layer.clone());
    }
    let source = Tensor::from_slice(&[1i64, 4, 2, 6, 3, 5, 5, 2, 0, 1, 6, 6, 1, 3, 2]).view([3, 5]);
    let mask = Tensor::from_slice(&[5i64, 3, 4]).unsqueeze(1).gt_tensor(&Tensor::arange(5, INT));
    let (mut ended, mut gains) = (0, vec![]);
    for seed in 0..4 {
        tch::manual_seed(seed);
        let vs = VarStore::new(Device::Cpu);
        let config = Seq2SeqConfig { start: 0, end: 1, ..Seq2SeqConfig::new(7, 4, 8, 16, 2) };
        let model = Seq2Seq::new(vs.root(), &config).unwrap();
        for penalty in [0.0, 1.5] {
            let config = BeamConfig { beams: 2, max_len: 4, length_penalty: penalty };
            let found = model.beam(&source, Some(&mask), &config).unwrap();
            let greedy = model.greedy(&source, Some(&mask), 4).unwrap();
            for (row, got) in found.iter().enumerate() {
                // Four words are as many as there may be, and have no end.
                let score = |target: &Vec<i64>| {
                    let target = if target.len() < 4 { [&target[..], &[1]].concat() } else { target.clone() };
                    let (s, m) = (source.narrow(0, row as i64, 1), mask.narrow(0, row as i64, 1));
                    let tokens = Tensor::from_slice(&target).unsqueeze(0);
                    let sum =
                        model.log_probs(&s, Some(&m), &tokens, false).unwrap().sum(Kind::Double).double_value(&[]);
                    (sum, sum / ((5.0 + target.len() as f64) / 6.0).powf(penalty))
                };
                let (log_prob, scored) = score(&got.tokens);
                assert!((got.log_prob - log_prob).abs() < 1e-4 && (got.score - scored).abs() < 1e-4, "{got:?}");
                if got.tokens.len() < 4 {
                    ended += 1;
                    let best = all.iter().map(|t| score(t).1).fold(f64::MIN, f64::max);
                    assert!(got.score <= best + 1e-4);
                    // A target that was cut off is no rival of one that ended.
                    gains.extend((greedy[row].len() < 4).then(|| got.score - score(&greedy[row]).1));
                }
            }
        }
    }
    assert!(ended >= 4, "{ended}");
    assert!(gains.iter().sum::<f64>() > -1e-4, "{gains:?}");
}

#[test]
fn padding_changes_nothing_and_later_words_do_not_change_earlier_ones() {
    tch::manual_seed(3);
    let vs = VarStore::new(Device::Cpu);
    let model = Seq2Seq::new(vs.root(), &Seq2SeqConfig::new(20, 30, 16, 32, 2)).unwrap();
    let source = Tensor::randint(20, [2, 6], INT);
    let target = Tensor::randint(30, [2, 5], INT);
    let plain = model.log_probs(&source, None, &target, false).unwrap();
    let padded = Tensor::cat(&[&source, &Tensor::full([2, 3], 9, INT)], 1);
    let mask = Tensor::arange(9, INT).less(6).expand([2, 9], false);
    let longer = Tensor::cat(&[&target, &Tensor::full([2, 2], -1, INT)], 1);
    let same = model.log_probs(&padded, Some(&mask), &longer, false).unwrap();
    assert_close("padded", &same.narrow(1, 0, 5), &plain, 1e-5);
    assert_eq!(same.narrow(1, 5, 2).abs().sum(Kind::Double).double_value(&[]), 0.0);
    let other = target.copy();
    let _ = other.narrow(1, 4, 1).fill_(7);
    let changed = model.log_probs(&source, None, &other, false).unwrap();
    assert_close("earlier", &changed.narrow(1, 0, 4), &plain.narrow(1, 0, 4), 1e-6);
    // The mean is over words that count.
    let loss = model.loss(&padded, Some(&mask), &longer, false).unwrap();
    assert_close("loss", &loss, &(-plain.mean(Kind::Float)), 1e-5);
}

#[test]
fn sizes_are_those_of_scaling_laws_and_of_the_store() {
    let config = Seq2SeqConfig { encoder_layers: 3, decoder_layers: 1, ..Seq2SeqConfig::new(20, 30, 16, 32, 2) };
    assert_eq!(config.param_split(), (3 * (4 * 256 + 1024), 8 * 256 + 1024));
    let vs = VarStore::new(Device::Cpu);
    Seq2Seq::new(vs.root(), &config).unwrap();
    let (encoder, decoder) = config.param_split();
    // Biases: 3 + 1 in attention, 2 + 1 in the perceptron (in widths); a norm has gain and shift.
    let small = 3 * (4 + 3 + 2 * 2) * 16 + (4 + 4 + 3 + 3 * 2) * 16 + 2 * 2 * 16;
    assert_eq!(parameter_count(&vs), encoder + decoder + 50 * 16 + small);
    for (shared, tied, tables) in [(true, true, 1), (true, false, 2), (false, false, 3)] {
        let vs = VarStore::new(Device::Cpu);
        let config = Seq2SeqConfig { source_vocab: 30, share: shared, tied, ..config };
        Seq2Seq::new(vs.root(), &config).unwrap();
        assert_eq!(parameter_count(&vs), encoder + decoder + tables * 30 * 16 + small);
    }
}

#[test]
fn dropout_is_for_training_only_and_bad_input_is_an_error() {
    let vs = VarStore::new(Device::Cpu);
    let config = Seq2SeqConfig { dropout: 0.3, context: 8, ..Seq2SeqConfig::new(20, 30, 16, 32, 2) };
    let model = Seq2Seq::new(vs.root(), &config).unwrap();
    let (source, target) = (Tensor::randint(20, [2, 6], INT), Tensor::randint(30, [2, 5], INT));
    let loss = |train| model.loss(&source, None, &target, train).unwrap().double_value(&[]);
    assert_eq!(loss(false), loss(false));
    assert_ne!(loss(true), loss(true));
    let error = |result: autodidact_core::Result<Tensor>| result.unwrap_err().to_string();
    let long = Tensor::zeros([2, 9], INT);
    assert!(error(model.loss(&long, None, &target, false)).contains("at most the context of 8"));
    assert!(error(model.loss(&source, None, &target.narrow(0, 0, 1), false)).contains("as many as sources"));
    assert!(error(model.loss(&source, Some(&source), &target, false)).contains("mask of the source"));
    assert!(error(model.loss(&(source.copy() + 20), None, &target, false)).contains("index out of range"));
    assert!(model.greedy(&source, None, 9).is_err());
    assert!(model.beam(&source, None, &BeamConfig { beams: 16, max_len: 8, length_penalty: 0.0 }).is_err());
    let refused = |config| Seq2Seq::new(VarStore::new(Device::Cpu).root(), &config).unwrap_err().to_string();
    assert!(refused(Seq2SeqConfig { heads: 3, ..config }).contains("heads"));
    assert!(refused(Seq2SeqConfig { share: true, ..config }).contains("where embeddings are shared"));
    assert!(refused(Seq2SeqConfig { end: 30, ..config }).contains("end token"));
    assert!(refused(Seq2SeqConfig { dropout: 1.0, ..config }).contains("dropout"));
}
