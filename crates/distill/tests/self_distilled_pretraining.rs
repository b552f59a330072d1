//! Masked autoencoding and self-distillation: transformers' values, worked examples, identities, bad input.

use autodidact_core::optim::StateDict;
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_distill::self_distilled_pretraining::{
    Mae, MaeConfig, Match, SelfDistillation, distill_representation, patchify, weight_distance, weight_distance_squared,
};
use std::collections::BTreeMap;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);
const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn config() -> MaeConfig {
    MaeConfig { side: 16, patch: 4, channels: 2, encoder: (8, 2, 2), decoder: (12, 1, 3), ..MaeConfig::default() }
}

fn model(seed: i64) -> (VarStore, Mae) {
    tch::manual_seed(seed);
    let vs = VarStore::new(Device::Cpu);
    let mae = Mae::new(&vs.root(), &config()).unwrap();
    (vs, mae)
}

fn value(x: &Tensor) -> f64 {
    x.double_value(&[])
}

fn state(vs: &VarStore) -> StateDict {
    vs.variables().into_iter().collect()
}

#[test]
fn loss_and_gradients_are_those_of_transformers() {
    let g: BTreeMap<String, Tensor> = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/mae.safetensors"));
    let (vs, mae) = model(0);
    for (name, mut to) in vs.variables() {
        if name.ends_with("position") {
            assert_close(&name, &to, &g[&name], 1e-6);
        }
        tch::no_grad(|| to.copy_(&g[&name]));
    }
    let (images, noise) = (g["images"].to_kind(Kind::Float), g["noise"].to_kind(Kind::Float));
    let out = mae.forward(&images, &noise).unwrap();
    assert_close("loss", &out.loss, &g["loss"], 1e-5);
    assert_eq!(out.mask.to_kind(Kind::Double), g["mask"]);
    assert_close("prediction", &out.prediction, &g["prediction"], 1e-4);
    out.loss.backward();
    let variables = vs.variables();
    assert_close("patches", &variables["encoder.patches.weight"].grad(), &g["patches_grad"], 1e-3);
    assert_close("class", &variables["encoder.class"].grad(), &g["class_grad"], 1e-3);
    assert_close("tokens", &mae.encoder().tokens(&images).unwrap(), &g["tokens"], 1e-4);
}

#[test]
fn masks_hide_three_quarters_and_only_they_count() {
    let (vs, mae) = model(1);
    assert_eq!((mae.patches(), mae.visible()), (16, 4));
    let images = Tensor::randn([5, 2, 16, 16], F32);
    let noise = mae.noise(5);
    let out = mae.forward(&images, &noise).unwrap();
    let hidden: Vec<f64> = out.mask.sum_dim_intlist([1i64].as_slice(), false, Kind::Double).try_into().unwrap();
    assert_eq!(hidden, [12.0; 5]);
    // Hidden pixels are a target and nothing else: the prediction does not see them.
    let first_hidden = out.mask.get(0).argmax(0, false).int64_value(&[]);
    let (row, column) = (first_hidden / 4 * 4, first_hidden % 4 * 4);
    let changed = images.copy();
    let _ = changed.get(0).narrow(1, row, 4).narrow(2, column, 4).g_mul_scalar_(-3.0);
    let other = mae.forward(&changed, &noise).unwrap();
    assert_eq!(other.prediction, out.prediction);
    assert!((value(&other.loss) - value(&out.loss)).abs() > 1e-6);
    // A zero prediction of normalised patches of n = 32 pixels: (n - 1)/n, since the variance is unbiased.
    for (name, mut v) in vs.variables() {
        if name.starts_with("decoder.predict") {
            let _ = tch::no_grad(|| v.zero_());
        }
    }
    let zero = mae.forward(&images, &noise).unwrap();
    assert!((value(&zero.loss) - 31.0 / 32.0).abs() < 1e-5, "{}", value(&zero.loss));
}

#[test]
fn patches_are_read_row_by_row_with_channels_last() {
    let x = Tensor::arange(2 * 4 * 4, F64).view([1, 2, 4, 4]);
    let p = patchify(&x, 2).unwrap();
    assert_eq!(p.size(), [1, 4, 8]);
    // Patch of row 0, columns 2 and 3: pixels 2, 3, 6, 7, each with the second channel's 16 more.
    assert_eq!(Vec::<f64>::try_from(p.get(0).get(1)).unwrap(), [2., 18., 3., 19., 6., 22., 7., 23.]);
    assert!(patchify(&x, 3).is_err());
}

#[test]
fn distance_of_the_worked_examples_and_its_gradient() {
    let teacher = Tensor::from_slice2(&[[0f64, 0.0], [1.0, 1.0]]);
    let student = Tensor::from_slice2(&[[1f64, 2.0], [1.0, 1.0]]);
    assert_eq!(value(&distill_representation(&student, &teacher).unwrap()), 2.5);
    assert_eq!(value(&distill_representation(&student.narrow(0, 0, 1), &teacher.narrow(0, 0, 1)).unwrap()), 5.0);
    let [s, t] = [0, 1].map(|_| Tensor::randn([4, 3], F64));
    check_gradient(&s, 1e-7, |s| distill_representation(s, &t).unwrap());
    let t = t.set_requires_grad(true);
    distill_representation(&s.set_requires_grad(true), &t).unwrap().backward();
    assert!(!t.grad().defined());
}

#[test]
fn a_student_that_is_its_teacher_has_the_autoencoders_gradient() {
    let (vs, student) = model(2);
    let (_other, teacher) = model(2);
    let images = Tensor::randn([3, 2, 16, 16], F32);
    let noise = student.noise(3);
    for on in [Match::ClassToken, Match::MeanPatch, Match::AllTokens] {
        let loss = SelfDistillation { on, weight: 1.0 }.forward(&student, &teacher, &images, &noise).unwrap();
        assert_eq!(value(&loss.distance), 0.0);
        assert_eq!(value(&loss.total), value(&student.forward(&images, &noise).unwrap().loss));
    }
    // The distance does not reach the decoder; it reaches the encoder once the teacher differs.
    let (_third, teacher) = model(3);
    let loss = SelfDistillation::default().forward(&student, &teacher, &images, &noise).unwrap();
    assert!(value(&loss.distance) > 0.0);
    loss.distance.backward();
    for (name, v) in vs.variables() {
        let reached =
            v.requires_grad() && v.grad().defined() && v.grad().abs().sum(Kind::Double).double_value(&[]) > 0.0;
        assert_eq!(reached, name.starts_with("encoder") && !name.ends_with("position"), "{name}");
    }
}

#[test]
fn weights_are_compared_by_name() {
    let (a, _ma) = model(4);
    let (b, _mb) = model(4);
    assert_eq!(weight_distance(&state(&a), &state(&b), |_| true).unwrap(), 0.0);
    let mut class = b.variables()["encoder.class"].shallow_clone();
    let _ = tch::no_grad(|| class.g_add_scalar_(0.5));
    let far = weight_distance(&state(&a), &state(&b), |n| n.starts_with("encoder")).unwrap();
    assert!((far - 8f64.sqrt() * 0.5).abs() < 1e-6);
    assert_eq!(weight_distance(&state(&a), &state(&b), |n| n.starts_with("decoder")).unwrap(), 0.0);
    weight_distance_squared(&state(&a), &state(&b), |_| true).unwrap().backward();
    let gradient = a.variables()["encoder.class"].grad();
    assert!((gradient + 1.0).abs().max().double_value(&[]) < 1e-6);
    assert!(weight_distance(&state(&a), &StateDict::new(), |_| true).unwrap_err().to_string().contains("a parameter"));
    assert!(weight_distance(&state(&a), &state(&b), |_| false).is_err());
}

#[test]
fn bad_input_says_what_is_wrong() {
    let of = |c: MaeConfig| Mae::new(&VarStore::new(Device::Cpu).root(), &c).unwrap_err().to_string();
    assert_eq!(of(MaeConfig { patch: 5, ..config() }), "image side: expected a multiple of patch 5, got 16");
    assert!(of(MaeConfig { mask_ratio: 1.0, ..config() }).contains("mask_ratio"));
    let e = of(MaeConfig { mask_ratio: 0.0, ..config() });
    assert_eq!(e, "mask_ratio: expected one that leaves patches seen and hidden, got 16 seen");
    assert!(of(MaeConfig { decoder: (10, 1, 2), ..config() }).contains("a multiple of 4"));
    let (_vs, mae) = model(5);
    let images = Tensor::zeros([2, 2, 16, 16], F32);
    let e = mae.forward(&images, &mae.noise(3)).unwrap_err().to_string();
    assert_eq!(e, "noise: expected [2, 16], got shape [3, 16]");
    assert!(mae.forward(&images.narrow(1, 0, 1), &mae.noise(2)).unwrap_err().to_string().contains("[N, 2, 16, 16]"));
    let e = distill_representation(&Tensor::zeros([2, 3], F64), &Tensor::zeros([2, 4], F64)).unwrap_err().to_string();
    assert_eq!(e, "teacher representations: expected [2, 3], got shape [2, 4]");
    let negative = SelfDistillation { weight: -1.0, ..Default::default() };
    assert!(negative.forward(&mae, &mae, &images, &mae.noise(2)).is_err());
}
