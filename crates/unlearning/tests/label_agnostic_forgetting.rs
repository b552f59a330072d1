//! The losses beside torch's, the conformance values, what unlearning must not touch, and the whole method on points that need no data.

mod common;

use autodidact_core::Error;
use autodidact_core::metrics::accuracy;
use autodidact_core::optim::Snapshot;
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_unlearning::classifier::*;
use autodidact_unlearning::label_agnostic_forgetting::*;
use common::images;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn golden() -> BTreeMap<String, Tensor> {
    fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/label_agnostic_forgetting.safetensors"))
}

#[test]
fn losses_and_gradients_are_those_of_torchs_modules() {
    let g = golden();
    let leaf = |name: &str| g[name].copy().set_requires_grad(true);
    let (e_r, e_f) = (leaf("e_r"), leaf("e_f"));
    let compare = |name: &str, loss: Tensor| {
        assert_close(name, &loss.view(1), &g[name], 1e-12);
        let gradients = Tensor::run_backward(&[&loss], &[&e_r, &e_f], false, false);
        for (gradient, of) in gradients.iter().zip(["e_r", "e_f"]) {
            assert_close(name, gradient, &g[&format!("{name}/{of}")], 1e-10);
        }
    };
    compare("unlearning", unlearning_loss((&e_r, &g["hat_r"]), (&e_f, &g["hat_f"])).unwrap());
    for tau in [1.0, 20.0] {
        let loss = alignment_loss((&e_r, &g["t_r"]), (&e_f, &g["t_f"]), tau).unwrap();
        compare(&format!("alignment/{tau:.1}"), loss);
    }
    let kl = divergence_from_prior(&g["mu"], &g["log_variance"]);
    assert_close("divergence", &kl.view(1), &g["kl"], 1e-12);
}

#[test]
fn hand_computed_values() {
    for (s, rho) in [(0.0f64, 1.0), (0.5, 1.395612), (1.0, 1.648721), (4.0, 2.225541), (1e12, std::f64::consts::E)] {
        let (e, hat) = (Tensor::zeros([1, 1], F64), Tensor::full([1, 1], s.sqrt(), F64));
        let value = normalised_mse(&e, &hat).unwrap().double_value(&[]);
        assert!((value - rho).abs() < 1e-6, "{s}: {value}");
        assert!(value <= std::f64::consts::E);
    }
    for (mu, sigma, kl) in [(0.5, 0.8f64, 0.168144), (0.0, 1.0, 0.0)] {
        let value = divergence_from_prior(&Tensor::from(mu).to_kind(Kind::Double), &Tensor::from((sigma * sigma).ln()));
        assert!((value.double_value(&[]) - kl).abs() < 1e-6);
    }
    let distances = |d: &[f64]| Tensor::from_slice(d);
    let value = alignment_of_distances(&distances(&[0.1, 0.2]), &distances(&[0.3, 0.5]), 20.0).unwrap();
    assert!((value.double_value(&[]) + 1.126319).abs() < 1e-6);
}

#[test]
fn gradients_agree_with_finite_differences() {
    let g = golden();
    check_gradient(&g["e_r"], 1e-6, |e| normalised_mse(e, &g["hat_r"]).unwrap());
    check_gradient(&g["e_f"], 1e-6, |e| alignment_loss((&g["e_r"], &g["t_r"]), (e, &g["t_f"]), 5.0).unwrap());
    // d rho / d s = rho / (s + 1)^2.
    let d = Tensor::full([1, 1], 0.7, F64).set_requires_grad(true);
    let rho = normalised_mse(&Tensor::zeros([1, 1], F64), &d).unwrap();
    rho.backward();
    let s = 0.49;
    let want = (s / (s + 1.0f64)).exp() / (s + 1.0).powi(2) * 2.0 * 0.7;
    assert!((d.grad().double_value(&[0, 0]) - want).abs() < 1e-12);
}

#[test]
fn identities_of_the_alignment_loss() {
    let g = golden();
    let value = |scale: f64| {
        let e = &g["e_r"] * scale;
        alignment_loss((&e, &g["t_r"]), (&g["e_f"], &(&g["t_f"] * (1.0 / scale))), 5.0).unwrap().double_value(&[])
    };
    assert!((value(1.0) - value(3.7)).abs() < 1e-9, "lengths do not matter");
    let e = g["e_r"].copy().set_requires_grad(true);
    let f = g["e_f"].copy().set_requires_grad(true);
    let loss = alignment_loss((&e, &g["e_r"]), (&f, &g["e_f"]), 5.0).unwrap();
    assert!((loss.double_value(&[]) + 5.0 * 3f64.ln()).abs() < 1e-9, "at the original: -|R| ln |F|");
    let gradients = Tensor::run_backward(&[&loss], &[&e, &f], false, false);
    assert!(gradients.iter().all(|g| g.abs().max().double_value(&[]) < 1e-9), "where the gradient is 0");
    let both = (&g["e_r"], &g["hat_r"]);
    assert_eq!(unlearning_loss(both, both).unwrap().double_value(&[]), 0.0);
}

fn network() -> SmallCnn {
    let config =
        SmallCnnConfig { channels: 1, side: 8, kernel: 3, filters: [8, 8], embedding: 16, hidden: None, classes: 3 };
    SmallCnn::new(&config, Device::Cpu).unwrap()
}

fn trained(data: &Labelled) -> SmallCnn {
    tch::manual_seed(0);
    let model = network();
    train(&model, data, &Training { epochs: 8, lr: 3e-3, ..Training::default() }).unwrap();
    model
}

fn settings() -> LafConfig {
    let vae = |epochs| VaeConfig {
        hidden: vec![12],
        latent: 4,
        training: Training { epochs, ..VaeConfig::default().training },
        ..VaeConfig::default()
    };
    LafConfig {
        epochs: 25,
        lr_unlearning: 2e-3,
        lr_alignment: 4e-3,
        tau: 20.0,
        all: vae(20),
        forget: vae(40),
        ..LafConfig::default()
    }
}

#[test]
fn a_class_is_forgotten_without_labels_and_the_others_are_kept() {
    let data = images(360);
    let model = trained(&data);
    let of = |model: &SmallCnn, class: i64| {
        let part = data.rows(&data.y.eq(class).nonzero().view(-1));
        accuracy(&model.probabilities(&part.x), &part.y).unwrap()
    };
    assert!((0..3).all(|c| of(&model, c) > 0.95), "the original knows all classes");
    let split = autodidact_unlearning::splits::class_removal(&data.y, 0).unwrap();
    let [forget, remaining] = split.rows().map(|rows| data.rows(&rows).x);
    let head = Snapshot::of(model.parts()[1].iter().map(|p| p.1.shallow_clone()));
    let before: Vec<Tensor> = head.live().iter().map(Tensor::copy).collect();
    let losses =
        autodidact_unlearning::label_agnostic_forgetting::forget(&model, &data.x, &remaining, &forget, &settings())
            .unwrap();
    assert_eq!((losses.unlearning.len(), losses.alignment.len()), (25, 25));
    assert!(of(&model, 0) < 0.3, "{}", of(&model, 0));
    assert!(of(&model, 1) > 0.85 && of(&model, 2) > 0.85, "{} {}", of(&model, 1), of(&model, 2));
    assert!(head.live().iter().zip(&before).all(|(a, b)| a == b), "the head is the same to the bit");
}

#[test]
fn rates_of_zero_change_nothing_and_autoencoders_stay_as_they_are() {
    let data = images(60);
    let model = trained(&data);
    let e = model.embeddings(&data.x);
    let config = settings();
    let [h, h_f] = [&config.all, &config.forget].map(|c| EmbeddingVae::fit(&e, c).unwrap());
    let values = |vae: &EmbeddingVae| -> BTreeMap<String, Tensor> {
        vae.store().variables().into_iter().map(|(n, t)| (n, t.copy())).collect()
    };
    let before = values(&h);
    let (remaining, forget) = (data.x.narrow(0, 0, 40), data.x.narrow(0, 40, 20));
    let still = LafConfig { lr_unlearning: 0.0, lr_alignment: 0.0, epochs: 2, ..settings() };
    unlearn(&model, (&h, &h_f), &remaining, &forget, &still).unwrap();
    assert_eq!(model.embeddings(&data.x), e);
    unlearn(&model, (&h, &h_f), &remaining, &forget, &LafConfig { epochs: 1, ..settings() }).unwrap();
    assert_ne!(model.embeddings(&data.x), e);
    assert_eq!(values(&h), before);
    assert!(h.store().variables().values().all(|t| !t.requires_grad()), "nothing could move them");
    // Ablations take one kind of step.
    for (steps, counts) in [(Steps::Unlearning, (1, 0)), (Steps::Alignment, (0, 1))] {
        let one = LafConfig { steps, epochs: 1, ..settings() };
        let losses = unlearn(&model, (&h, &h_f), &remaining, &forget, &one).unwrap();
        assert_eq!((losses.unlearning.len(), losses.alignment.len()), counts);
    }
}

#[test]
fn an_autoencoder_reconstructs_what_it_saw_better_than_what_it_did_not() {
    tch::manual_seed(5);
    let base = Tensor::randn([4, 16], (Kind::Float, Device::Cpu));
    let seen = Tensor::randn([200, 4], (Kind::Float, Device::Cpu)).matmul(&base);
    let unseen = Tensor::randn([200, 16], (Kind::Float, Device::Cpu)) * 2.0;
    let config = VaeConfig { training: Training { epochs: 60, ..settings().all.training }, ..settings().all };
    let linear = EmbeddingVae::fit(&seen, &config).unwrap();
    let distances = [&seen, &unseen].map(|e| linear.mean_distance(e).unwrap());
    assert!(distances[0] < 0.5 * distances[1], "{distances:?}");
    // Embeddings have entries outside [0, 1], which a sigmoid cannot give.
    let official = EmbeddingVae::fit(&seen, &VaeConfig { output: DecoderOutput::Sigmoid, ..config }).unwrap();
    assert!(official.mean_distance(&seen).unwrap() > 2.0 * distances[0]);
    let out = official.reconstruct(&seen, &official.noise(&seen)).unwrap().embedding;
    assert!(out.min().double_value(&[]) >= 0.0 && out.max().double_value(&[]) <= 1.0);
}

#[test]
fn repair_trains_the_head_alone() {
    let data = images(60);
    let model = trained(&data);
    let values = |part: usize| -> Vec<Tensor> { model.parts()[part].iter().map(|p| p.1.detach().copy()).collect() };
    let (extractor, head) = (values(0), values(1));
    repair_head(&model, &data.first(30), &Training { epochs: 1, lr: 1e-3, ..Training::default() }).unwrap();
    assert_eq!(values(0), extractor);
    assert_ne!(values(1), head);
}

#[test]
fn bad_input_is_refused() {
    let [a, b, wide] = [[3, 4], [2, 4], [3, 5]].map(|s: [i64; 2]| Tensor::zeros(s, F64));
    assert!(matches!(normalised_mse(&a, &wide), Err(Error::Shape { .. })));
    assert!(matches!(alignment_loss((&a, &b), (&b, &b), 1.0), Err(Error::Shape { .. })));
    assert!(matches!(alignment_loss((&a, &a), (&b, &b), 0.0), Err(Error::Value { .. })));
    let empty = Tensor::zeros([0], F64);
    assert!(matches!(alignment_of_distances(&empty, &empty, 1.0), Err(Error::Shape { .. })));
    let data = images(12);
    let none = data.x.narrow(0, 0, 0);
    let result = forget(&network(), &data.x, &data.x, &none, &settings());
    assert!(result.unwrap_err().to_string().starts_with("inputs to forget"));
    let config = VaeConfig { latent: 0, ..VaeConfig::default() };
    assert!(EmbeddingVae::fit(&a, &config).unwrap_err().to_string().starts_with("width of the latent code"));
    let broken = &a * f64::NAN;
    assert!(matches!(EmbeddingVae::fit(&broken, &VaeConfig::default()), Err(Error::Diverged { .. })));
    let c = SmallCnnConfig { side: 10, ..SmallCnnConfig::mnist() };
    assert!(SmallCnn::new(&c, Device::Cpu).unwrap_err().to_string().contains("multiple of 4"));
    let labels = Tensor::from_slice(&[0i64, 3]);
    assert!(Labelled::new(Tensor::zeros([2, 4], F64), labels, 3).is_err());
}
