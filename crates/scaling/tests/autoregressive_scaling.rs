//! Henighan's constants and units, information, trends, and the network against an implementation in PyTorch.

use autodidact_core::nn::{Gpt, parameter_count};
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_scaling::autoregressive_scaling::*;
use autodidact_scaling::fit::{FitOptions, PowerLawPlusConst};
use tch::nn::VarStore;
use tch::{Device, Kind, Reduction, Tensor};

fn close(got: f64, want: f64, relative: f64) {
    assert!((got / want - 1.0).abs() < relative, "{got} is not {want}");
}

fn published(domain: &str) -> &'static Published {
    PUBLISHED.iter().find(|p| p.domain == domain).unwrap()
}

#[test]
fn table_1_at_the_sizes_of_table_5() {
    for (domain, want) in [
        ("image 8x8", [3.41865, 3.30135, 3.23011, 3.18684, 3.16058, 3.14463, 3.13496]),
        ("image 16x16", [3.07511, 2.91543, 2.81433, 2.75032, 2.70983, 2.68418, 2.66797]),
        ("math (extrapolate)", [1.26229, 0.98439, 0.78507, 0.64211, 0.53964, 0.46611, 0.41346]),
    ] {
        // The sizes as they are printed, to three digits.
        for (n, want) in [1.23e4, 9.83e4, 7.86e5, 6.29e6, 5.03e7, 4.03e8, 3.22e9].into_iter().zip(want) {
            close(published(domain).by_size.loss(n), want, 2e-5);
        }
    }
    for (domain, want) in [("language", 1.293e9), ("image 8x8", 3.137e8), ("image 16x16", 3.084e8), ("video", 3.036e8)]
    {
        close(published(domain).best_size.unwrap().n(1.0), want, 1e-3);
    }
    close(published("math (extrapolate)").best_size.unwrap().n(1.0), 1.073e8, 1e-3);
    // Per image, by table 3.
    for (domain, l_inf, scale) in [
        ("image 8x8", 601.0, 1.87e4),
        ("image 16x16", 2028.0, 1.73e10),
        ("image 32x32", 6789.0, 2.69e26),
        ("image VQ 16x16", 1047.0, 4.77e15),
        ("image VQ 32x32", 3246.0, 3.17e19),
    ] {
        let p = published(domain);
        let per_image = p.by_compute.unwrap().per_sample(p.tokens.unwrap() as f64);
        close(per_image.l_inf, l_inf, 1e-3);
        close(per_image.x0, scale, 5e-3);
    }
    // Exponents of N_opt lie between 0.64 and 0.75 everywhere; data then grow slower than N^(2/3).
    let best = PUBLISHED.iter().filter_map(|p| p.best_size);
    assert_eq!(best.clone().count(), 10);
    assert!(best.clone().all(|b| (0.64..=0.75).contains(&b.beta) && b.data_exponent() < 2.0 / 3.0));
}

#[test]
fn laws_have_their_limits() {
    let law = published("video").by_size;
    close(law.loss(1e60), law.l_inf, 1e-9);
    close(law.reducible(1e9 * 2f64.powf(1.0 / law.alpha)), law.reducible(1e9) / 2.0, 1e-12);
}

#[test]
fn units_of_compute() {
    close(PfDays::of_training(3.137e8, 4.591e10).0, 1.0, 1e-3);
    assert_eq!(PfDays::of_flop(8.64e19), PfDays(1.0));
    assert_eq!((PfDays(2.0).flop(), PfDays(2.0).tokens(1.0)), (1.728e20, 2.88e19));
}

#[test]
fn sizes_of_table_5_are_the_published_ones() {
    let n: Vec<f64> = IMAGE_SIZES.iter().map(|&(d, n, _)| ScalingTransformer::image(1, 1, d, n).parameters()).collect();
    assert_eq!(n[..3], [12_288.0, 98_304.0, 786_432.0]);
    close(n[6], 3.22e9, 1e-3);
    assert_eq!(ScalingTransformer::text(1, 1, 64, 2).parameters(), 98_304.0);
    assert_eq!(ScalingTransformer::image(1, 1, 512, 64).heads, 8);
    // Weights of a network beyond N: embedding, head, positions, norms and biases.
    let shape = ScalingTransformer { prefix_vocab: 2, ..ScalingTransformer::image(5, 6, 16, 3) };
    let vs = VarStore::new(Device::Cpu);
    shape.network(vs.root()).unwrap();
    let rest = 2 * 7 * 16 + 6 * 16 + 2 * 16 + 3 * (4 * 16 + 3 * 4 + 16 + 16 + 16);
    assert_eq!(parameter_count(&vs), shape.parameters() as i64 + rest);
}

#[test]
fn information_between_halves_of_a_text() {
    close(harmonic(64, 0.5), 14.602064, 1e-7);
    close(harmonic(128, 0.5), 21.211228, 1e-7);
    assert_eq!((harmonic(0, 0.5), harmonic(5, 0.0)), (0.0, 5.0));
    for (l, information, gain) in [(4.0, 23.97870, 0.086934), (3.0, 31.97160, 0.146366), (2.0, 39.96450, 0.248156)] {
        let model = infogain_model(l, 7.0, 0.5, 64).unwrap();
        close(model.information, information, 1e-6);
        close(model.infogain, gain, 1e-5);
        // It is what the losses of tokens say: those of the second half as if it came first, less its own.
        let sum = |from: usize, to: usize| (from..=to).map(|t| token_loss(l, 7.0, 0.5, t as f64)).sum::<f64>();
        close(sum(1, 64) - sum(65, 128), information, 1e-6);
        close((sum(1, 64) - sum(65, 128)) / sum(65, 128), gain, 1e-5);
    }
    // A model that has learned nothing sees no connection.
    assert_eq!(infogain_model(7.0, 7.0, 0.5, 64).unwrap().information, 0.0);
    assert!(infogain_model(8.0, 7.0, 0.5, 64).is_err() && infogain_model(2.0, 7.0, 0.5, 0).is_err());
    assert_eq!(infogain(1.0, 10f64.ln()).unwrap(), 1.0 / 10f64.ln());
    assert!(infogain(1.0, 0.0).is_err());
    let i = mutual_information(&[3.0, 5.0, 4.0, 6.0], &[2.0, 4.0, 2.0, 6.0]).unwrap();
    // Differences 1, 1, 2, 0.
    assert_eq!(i.value, 1.0);
    close(i.high - 1.0, 3.182446 * (2.0f64 / 3.0).sqrt() / 2.0, 1e-5);
}

#[test]
fn logarithms_of_size_are_recovered() {
    let points = [1e3, 1e4, 1e6].map(|n: f64| (n, 0.4 * (n / 200.0).ln()));
    let (law, r2) = log_n_fit(&points).unwrap();
    close(law.lambda, 0.4, 1e-12);
    close(law.n_c, 200.0, 1e-9);
    close(r2, 1.0, 1e-12);
    close(law.at(200.0 * 1f64.exp()), 0.4, 1e-9);
    assert!(log_n_fit(&points[..1]).is_err() && log_n_fit(&[(0.0, 1.0), (2.0, 1.0)]).is_err());
}

#[test]
fn percentiles_have_trends_of_their_own() {
    let sizes = [1e3, 1e4, 1e5, 1e6, 1e7];
    // Hard samples have a higher entropy and a smaller exponent.
    let loss = |n: f64, i: f64| 1.0 + i + (50.0 / n).powf(0.4 - 0.2 * i);
    let losses: Vec<Vec<f64>> =
        sizes.iter().map(|&n| (0..=20).map(|i| loss(n, 0.05 * f64::from(i))).collect()).collect();
    let trends = percentile_trends(&sizes, &losses, &[0.0, 50.0, 100.0], &FitOptions::default()).unwrap();
    for (trend, i) in trends.iter().zip([0.0, 0.5, 1.0]) {
        close(trend.fitted.law.l_inf, 1.0 + i, 1e-3);
        close(trend.fitted.law.alpha, 0.4 - 0.2 * i, 1e-2);
        assert!(trend.r2 > 0.9999 && trend.points[4].0 == 1e7);
    }
    let bad = |losses: &[Vec<f64>], p: &[f64]| {
        percentile_trends(&sizes, losses, p, &FitOptions::default()).unwrap_err().to_string()
    };
    assert!(bad(&losses[1..], &[50.0]).contains("rows of losses"));
    assert!(bad(&losses, &[101.0]).contains("percentile"));
    let mut ragged = losses.clone();
    ragged[2].pop();
    assert!(bad(&ragged, &[50.0]).contains("losses of samples"));
    // Where the constant is not below all losses, nothing is left to be a power law.
    let law = PowerLawPlusConst { l_inf: 2.0, x0: 1.0, alpha: 0.5 };
    assert_eq!(reducible_r2(&law, &[(1.0, 3.0), (2.0, 2.0)]).unwrap(), 0.0);
    close(reducible_r2(&law, &[(1.0, 3.0), (4.0, 2.5), (16.0, 2.25)]).unwrap(), 1.0, 1e-12);
}

const SHAPE: ScalingTransformer = ScalingTransformer {
    vocab: 7,
    prefix_vocab: 3,
    context: 9,
    width: 16,
    depth: 3,
    heads: 2,
    mlp: 16,
    attention: 4,
    attending: Attending::Strided { stride: 3 },
};

#[test]
fn the_network_its_losses_and_the_classifier_are_pytorchs() {
    let g = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/autoregressive_scaling.safetensors"));
    let vs = VarStore::new(Device::Cpu);
    let model = SHAPE.network(vs.root()).unwrap();
    let classifier = new_classifier(&vs, &model, 4).unwrap();
    for (name, t) in vs.variables() {
        tch::no_grad(|| t.shallow_clone().copy_(&g[&format!("start.{name}")]));
    }
    let losses = token_losses(&model, &g["inputs"], &g["targets"], 7).unwrap();
    assert_close("losses", &losses, &g["losses"], 1e-5);
    assert_close("scores", &classifier.logits(&g["inputs"]).unwrap(), &g["scores"], 1e-5);
    let dense = ScalingTransformer { attending: Attending::Dense, ..SHAPE };
    let other = VarStore::new(Device::Cpu);
    let dense = dense.network(other.root()).unwrap();
    for (name, t) in other.variables() {
        tch::no_grad(|| t.shallow_clone().copy_(&g[&format!("start.{name}")]));
    }
    assert!(!token_losses(&dense, &g["inputs"], &g["targets"], 7).unwrap().allclose(&g["losses"], 1e-3, 1e-3, false));

    // Targets of -100 cost nothing; captions and images are weighed.
    let some = g["targets"].copy();
    let _ = some.narrow(1, 0, 4).fill_(-100);
    let part = token_losses(&model, &g["inputs"], &some, 7).unwrap();
    assert_eq!(part.narrow(1, 0, 4).abs().max().double_value(&[]), 0.0);
    assert_eq!(part.narrow(1, 4, 5), losses.narrow(1, 4, 5));
    let both = multimodal_loss(&losses, 4, 9.0).unwrap().double_value(&[]);
    let mean = |from, n| losses.narrow(1, from, n).mean(Kind::Float).double_value(&[]);
    close(both, 9.0 * mean(4, 5) + mean(0, 4), 1e-5);

    let said = |r: autodidact_core::Result<Tensor>| r.unwrap_err().to_string();
    assert!(said(token_losses(&model, &g["inputs"], &g["targets"].narrow(1, 0, 3), 7)).contains("targets"));
    assert!(said(token_losses(&model, &g["inputs"], &g["targets"], 11)).contains("predicted tokens"));
    assert!(said(multimodal_loss(&losses, 9, 1.0)).contains("losses"));
    let bad = |shape: ScalingTransformer| shape.config().unwrap_err().to_string();
    assert!(bad(ScalingTransformer { heads: 3, ..SHAPE }).contains("width of attention"));
    assert!(bad(ScalingTransformer { attending: Attending::Strided { stride: 0 }, ..SHAPE }).contains("stride"));
    assert!(bad(ScalingTransformer { vocab: 0, ..SHAPE }).contains("predicted tokens"));
}

#[test]
fn gradients_of_the_losses_are_the_derivatives() {
    tch::manual_seed(1);
    let mut vs = VarStore::new(Device::Cpu);
    let model = SHAPE.network(vs.root()).unwrap();
    vs.double();
    let inputs = Tensor::randint(10, [2, 9], (Kind::Int64, Device::Cpu));
    let targets = Tensor::randint(7, [2, 9], (Kind::Int64, Device::Cpu));
    let positions = vs.variables()["positions"].shallow_clone();
    // The positions are replaced by the argument through the embeddings of the model.
    let x = (positions.detach() * 10.0).set_requires_grad(true);
    check_gradient(&x, 1e-5, |x| {
        let embedded = model.embed(&inputs).unwrap() * 10.0 + x;
        let hidden = model.hidden_of_embeddings(&embedded, None).unwrap();
        let logits = model.project(&hidden).narrow(-1, 0, 7).reshape([-1, 7]);
        logits.cross_entropy_loss::<Tensor>(&targets.view([-1]), None, Reduction::Mean, -100, 0.0) * 100.0
    });
}

/// Rows whose class is their last token.
fn rows(n: i64) -> (Tensor, Tensor) {
    let tokens = Tensor::randint(3, [n, 6], (Kind::Int64, Device::Cpu));
    let labels = tokens.select(1, 5).copy();
    (tokens, labels)
}

#[test]
fn a_classifier_learns_with_all_of_its_model() {
    tch::manual_seed(4);
    let vs = VarStore::new(Device::Cpu);
    let model: Gpt = ScalingTransformer::text(3, 6, 16, 1).network(vs.root()).unwrap();
    let ((x, y), (test, truth)) = (rows(256), rows(200));
    let classifier = new_classifier(&vs, &model, 3).unwrap();
    assert!(new_classifier(&vs, &model, 3).unwrap_err().to_string().contains("no classifier yet"));
    let before = vs.variables()["positions"].copy();
    let config = FinetuneConfig {
        schedule: Schedule::new(1e-2, 120, Shape::cosine_to(0.1)).warmup(10),
        batch: 32,
        weight_decay: 0.0,
        clip_norm: Some(1.0),
        seed: 5,
    };
    let start = classifier.error(&test, &truth, 64).unwrap();
    finetune_classifier(&vs, &classifier, (&x, &y), &config).unwrap();
    let end = classifier.error(&test, &truth, 64).unwrap();
    assert!(start > 0.4 && end < 0.1, "{start} {end}");
    assert_ne!(before, vs.variables()["positions"]);
    let said = |y: &Tensor| finetune_classifier(&vs, &classifier, (&x, y), &config).unwrap_err().to_string();
    assert!(said(&(&y + 1)).contains("labels"));
    assert!(said(&y.narrow(0, 0, 3)).contains("labels"));
    assert!(new_classifier(&VarStore::new(Device::Cpu), &model, 1).is_err());
}
