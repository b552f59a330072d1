//! The network and its optimizer against an implementation in PyTorch; its identities.

use autodidact_core::nn::{Gpt, parameter_count};
use autodidact_core::testing::{assert_close, fixture};
use autodidact_scaling::monitors::{
    Pairs, adam_direction, attention_stats, gradient_norm, gradient_rms, max_attention_logit, output_stats, rms,
};
use autodidact_scaling::training_instabilities::{Decay, MuParam, Proxy, Recipe, loss};
use std::collections::BTreeMap;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const PROXY: Proxy = Proxy {
    vocab: 11,
    context: 6,
    width: 16,
    depth: 2,
    head_width: 4,
    qk_norm: true,
    mu: MuParam::Standard,
    base_width: 16,
};

struct Golden {
    g: BTreeMap<String, Tensor>,
    vs: VarStore,
    model: Gpt,
}

impl Golden {
    fn new() -> Self {
        let g = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/training_instabilities.safetensors"));
        let vs = VarStore::new(Device::Cpu);
        let model = PROXY.network(vs.root()).unwrap();
        for (name, t) in vs.variables() {
            let value = &g[&format!("start.{name}")];
            tch::no_grad(|| t.shallow_clone().copy_(value));
        }
        Self { g, vs, model }
    }

    fn step_loss(&self) -> Tensor {
        let logits = self.model.logits(&self.g["tokens"], None).unwrap();
        loss(&logits, &self.g["targets"], 0.01).unwrap().0
    }
}

#[test]
fn the_network_its_loss_and_what_monitors_see_are_pytorchs() {
    let Golden { g, model, .. } = &Golden::new();
    let (hidden, blocks) = model.hidden_traced(&g["tokens"]).unwrap();
    let logits = model.project(&hidden);
    assert_close("logits", &logits, &g["logits"], 1e-5);
    let (total, entropy) = loss(&logits, &g["targets"], 0.01).unwrap();
    assert_close("loss", &total, &g["loss"], 1e-5);
    assert_close("cross-entropy", &entropy, &g["entropy"], 1e-5);
    let (plain, same) = loss(&logits, &g["targets"], 0.0).unwrap();
    assert_eq!(plain, same);
    let out = output_stats(&logits).unwrap();
    assert_close("log Z", &out.log_z, &g["log_z"], 1e-5);
    assert_close("min log Z", &out.min_log_z, &g["min_log_z"], 1e-5);
    let stats = attention_stats(&blocks[0], Pairs::Causal).unwrap();
    assert_close("max logit", &stats.max_logit, &g["max_logit"], 1e-5);
    assert_eq!(max_attention_logit(&blocks[0], Pairs::Causal).unwrap(), stats.max_logit);
    assert_close("query norm", &stats.query_norm, &g["query_norm"], 1e-5);
    assert_close("key norm", &stats.key_norm, &g["key_norm"], 1e-5);
    assert_close("cosine", &stats.cosine, &g["cosine"], 1e-5);
    assert_close("block", &rms(&blocks[0].output), &g["block_rms"], 1e-5);
    assert!(loss(&logits, &g["targets"], -1.0).unwrap_err().to_string().contains("z-loss"));
}

#[test]
fn both_kinds_of_decay_are_those_of_pytorchs_adamw() {
    for (kind, decay) in [("independent", Decay::Independent(1e-2)), ("coupled", Decay::Coupled(0.3))] {
        let golden = Golden::new();
        let recipe = Recipe { decay, ..Recipe::default() };
        let mut optimizer = recipe.optimizer(&golden.vs, &PROXY, 0.02).unwrap();
        for s in [0.5, 1.0, 0.25] {
            optimizer.zero_grad();
            golden.step_loss().backward();
            optimizer.step(0.02 * s).unwrap();
        }
        for (name, t) in golden.vs.variables() {
            assert_close(&name, &t, &golden.g[&format!("{kind}.{name}")], 1e-4);
        }
        if kind == "coupled" {
            let up = &golden.vs.variables()["blocks.0.up.weight"];
            assert_close("gradient", &gradient_rms(up).unwrap(), &golden.g["gradient_rms"], 1e-4);
            let all = golden.vs.trainable_variables();
            assert_close("norm", &gradient_norm(&all).unwrap(), &golden.g["gradient_norm"], 1e-4);
            let state = optimizer.state_dict();
            let direction = adam_direction(&state, "blocks.0.up.weight", &recipe.adam()).unwrap();
            assert_close("direction", &rms(&direction), &golden.g["direction_rms"], 1e-3);
        }
    }
}

#[test]
fn without_gradients_independent_decay_forgets_the_peak() {
    let decayed = |decay, peak: f64, mu| {
        let vs = VarStore::new(Device::Cpu);
        let _model = PROXY.network(vs.root()).unwrap();
        tch::no_grad(|| vs.trainable_variables().into_iter().for_each(|mut t| drop(t.fill_(1.0))));
        let proxy = Proxy { mu, base_width: 4, ..PROXY };
        let mut optimizer = Recipe { decay, ..Recipe::default() }.optimizer(&vs, &proxy, peak).unwrap();
        for s in [0.5, 1.0] {
            let zero: Tensor = vs.trainable_variables().iter().map(|t| t.sum(Kind::Float) * 0.0).sum();
            optimizer.zero_grad();
            zero.backward();
            optimizer.step(peak * s).unwrap();
        }
        let v = vs.variables();
        (v["blocks.1.up.weight"].double_value(&[0, 0]), v["norm.weight"].double_value(&[0]))
    };
    let near = |got: (f64, f64), want: (f64, f64)| (got.0 - want.0).abs() < 1e-6 && (got.1 - want.1).abs() < 1e-6;
    let product = |l: f64| (1.0 - 0.5 * l) * (1.0 - l);
    let (standard, simple) = (MuParam::Standard, MuParam::Simple);
    for peak in [1e-3, 0.3] {
        for mu in [standard, simple] {
            assert!(near(decayed(Decay::Independent(0.1), peak, mu), (product(0.1), product(0.1))));
        }
    }
    assert!(near(decayed(Decay::Coupled(0.1), 0.3, standard), (product(0.03), product(0.03))));
    // Hidden matrices learn, and decay, at a quarter of the rate: base 4 over width 16.
    assert!(near(decayed(Decay::Coupled(0.1), 0.3, simple), (product(0.0075), product(0.03))));
    // The two agree where lambda_independent = peak * lambda_coupled.
    let (a, b) = (decayed(Decay::Independent(0.03), 0.3, standard), decayed(Decay::Coupled(0.1), 0.3, standard));
    assert!(near(a, b));
}

#[test]
fn initialisations_have_their_deviations() {
    tch::manual_seed(0);
    let wide = Proxy { width: 128, head_width: 32, vocab: 500, ..PROXY };
    let of = |mu| {
        let vs = VarStore::new(Device::Cpu);
        let proxy = Proxy { mu, base_width: 32, ..wide };
        let model = proxy.network(vs.root()).unwrap();
        let embedding = vs.variables()["tokens.weight"].numel() + vs.variables()["head"].numel();
        assert_eq!(parameter_count(&vs), proxy.weights() + embedding as i64);
        (model.parameters(), model)
    };
    let near = |t: &Tensor, want: f64| {
        let std = rms(t).double_value(&[]);
        assert!((std / want - 1.0).abs() < 0.03, "{std} {want}");
    };
    let (p, _) = of(MuParam::Standard);
    let root = 128f64.sqrt();
    near(&p["tokens.weight"], 1.0 / root);
    near(&p["head"], 1.0 / root);
    near(&p["blocks.0.attention.qkv.weight"], 1.0 / root);
    near(&p["blocks.1.down.weight"], 0.5 / root);
    // Cut at two deviations (of the normal before it is scaled up).
    assert!(p["blocks.0.up.weight"].abs().max().double_value(&[]) < 2.0 / 0.8796 / root);
    assert!(p["tokens.weight"].abs().max().double_value(&[]) > 3.0 / root);
    near(&of(MuParam::Simple).0["head"], 1.0 / root);
    near(&of(MuParam::Intermediate).0["head"], 32f64.sqrt() / 128.0);
    let (p, full) = of(MuParam::Full);
    near(&p["head"], 32f64.sqrt() / 128.0);
    assert_eq!(p["blocks.0.attention.qkv.weight"].narrow(0, 0, 128).abs().max().double_value(&[]), 0.0);
    near(&p["blocks.0.attention.qkv.weight"].narrow(0, 128, 256), 1.0 / root);
    let tokens = Tensor::from_slice(&[1i64, 2]).view([1, 2]);
    assert_eq!(full.hidden_traced(&tokens).unwrap().1[0].scale, 1.0 / 32.0);
}

#[test]
fn the_norm_changes_no_draw_and_bounds_scores() {
    let of = |qk_norm| {
        tch::manual_seed(4);
        let vs = VarStore::new(Device::Cpu);
        let model = Proxy { qk_norm, ..PROXY }.network(vs.root()).unwrap();
        (vs, model)
    };
    let ((on, model), (off, _)) = (of(true), of(false));
    for (name, t) in off.variables() {
        assert_eq!(t, on.variables()[&name], "{name}");
    }
    let qkv = on.variables()["blocks.0.attention.qkv.weight"].shallow_clone();
    tch::no_grad(|| drop(qkv.narrow(0, 0, 32).g_mul_scalar_(1e3)));
    let tokens = Tensor::randint(11, [4, 6], (Kind::Int64, Device::Cpu));
    let block = &model.hidden_traced(&tokens).unwrap().1[0];
    // Unit gains: at most sqrt(4).
    assert!(max_attention_logit(block, Pairs::All).unwrap().double_value(&[]) <= 2.0 + 1e-5);
}

#[test]
fn bad_settings_are_errors() {
    let vs = VarStore::new(Device::Cpu);
    let said = |proxy: Proxy| proxy.network(vs.root()).unwrap_err().to_string();
    assert!(said(Proxy { head_width: 5, ..PROXY }).contains("head width"));
    assert!(said(Proxy { head_width: 0, ..PROXY }).contains("head width"));
    assert!(said(Proxy { base_width: 0, ..PROXY }).contains("base width"));
    assert!(said(Proxy { depth: 0, ..PROXY }).contains("GPT sizes"));
    let recipe = Recipe::default();
    assert!(recipe.optimizer(&vs, &PROXY, 0.1).unwrap_err().to_string().contains("hidden matrices"));
    let _model = PROXY.network(vs.root()).unwrap();
    assert!(recipe.optimizer(&vs, &PROXY, 0.0).unwrap_err().to_string().contains("peak"));
    let negative = Recipe { decay: Decay::Coupled(-1.0), ..recipe };
    assert!(negative.optimizer(&vs, &PROXY, 0.1).unwrap_err().to_string().contains("weight decay"));
}
