//! Label augmentation against hand-computed and independently computed values, its identities and bad input.

use autodidact_core::device::Precision;
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_ssl::label_augmentation::{
    Classifier, ColorPerm3, ColorPerm6, Compose, CrossTransformAccuracy, Identity, InputTransform, Mode, Reduction,
    Rotation2, Rotation4, SlaLoss, aggregate_logits, average_logits, data_augmentation_loss, joint_labels,
    multitask_loss, own_logits, single_logits,
};
use std::collections::BTreeMap;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);

fn golden() -> BTreeMap<String, Tensor> {
    fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/label_augmentation.safetensors"))
}

fn value(t: &Tensor) -> f64 {
    t.double_value(&[])
}

fn near(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance, "{got}, expected {want}");
}

#[test]
fn one_image_has_the_values_computed_by_hand() {
    let joint = Tensor::from_slice2(&[[1f64, 0., 2., -1.], [0.5, 0.5, 0., 1.]]);
    let (single, y) = (Tensor::from_slice2(&[[0.2f64, 0.4]]), Tensor::from_slice(&[1i64]));
    let parts = SlaLoss::default().self_distilled(&joint, &single, &y, 2).unwrap();
    near(value(&parts.joint), 0.69417183, 1e-8);
    near(value(&parts.single), 0.59813887, 1e-8);
    near(value(&parts.distillation), 0.03481615, 1e-8);
    near(value(&parts.total), 1.32712686, 2e-8);
    let summed = SlaLoss { reduction: Reduction::SumOverTransforms, ..Default::default() };
    near(value(&summed.forward(&joint, &y, 2).unwrap()), 2.0 * 0.69417183, 2e-8);
    let probabilities = |logits: Tensor| Vec::<f64>::try_from(logits.softmax(-1, Kind::Double).view(-1)).unwrap();
    let si = probabilities(single_logits(&joint.narrow(0, 0, 1), 2, 0).unwrap());
    near(si[0], 0.26894142, 1e-8);
    let ag = probabilities(aggregate_logits(&joint, 2).unwrap());
    near(ag[1], 0.67917870, 1e-8);
}

#[test]
fn values_and_gradients_are_those_of_the_equations() {
    let g = golden();
    let leaf = |name: &str| g[name].copy().set_requires_grad(true);
    let (y, config) = (&g["y"], SlaLoss { beta: 0.7, temperature: 2.0, ..Default::default() });

    let joint = leaf("joint");
    let sla = config.forward(&joint, y, 4).unwrap();
    assert_close("sla", &sla, &g["sla"], 1e-6);
    sla.backward();
    assert_close("gradient", &joint.grad(), &g["sla.grad"], 1e-5);

    let (joint, single) = (leaf("joint"), leaf("single"));
    let parts = config.self_distilled(&joint, &single, y, 4).unwrap();
    for (name, got) in [("kl", &parts.distillation), ("ce", &parts.single), ("total", &parts.total)] {
        assert_close(name, got, &g[name], 1e-5);
    }
    parts.total.backward();
    assert_close("joint head", &joint.grad(), &g["total.grad_joint"], 1e-5);
    // With beta 0.7 and T 2: 0.7 (softmax - onehot) + 2 (softmax_T - AG_T), over the batch.
    assert_close("single head", &single.grad(), &g["total.grad_single"], 1e-5);
    assert_close("no distillation in the joint head", &joint.grad(), &g["sla.grad"], 1e-5);
    assert_close("aggregate", &aggregate_logits(&g["joint"], 4).unwrap(), &g["aggregate"], 1e-6);

    let (plain, which) = (leaf("plain"), leaf("which"));
    assert_close("da", &data_augmentation_loss(&plain, y, 4).unwrap(), &g["da"], 1e-6);
    let mt = multitask_loss(&plain, &which, y, 4).unwrap();
    assert_close("mt", &mt, &g["mt"], 1e-6);
    mt.backward();
    assert_close("class head", &plain.grad(), &g["mt.grad_plain"], 1e-5);
    assert_close("transformation head", &which.grad(), &g["mt.grad_which"], 1e-5);
}

#[test]
fn gradients_are_those_of_finite_differences() {
    tch::manual_seed(3);
    let (joint, single) = (Tensor::randn([6, 8], DOUBLE), Tensor::randn([3, 4], DOUBLE));
    let y = Tensor::from_slice(&[3i64, 0, 2]);
    let config = SlaLoss { beta: 0.5, temperature: 1.5, ..Default::default() };
    check_gradient(&joint, 1e-7, |j| config.forward(j, &y, 2).unwrap());
    check_gradient(&single, 1e-7, |s| config.self_distilled(&joint, s, &y, 2).unwrap().total);
}

#[test]
fn an_additive_tie_gives_the_losses_that_it_relaxes() {
    tch::manual_seed(4);
    let (b, n, m) = (5, 3, 4);
    let (class, which) = (Tensor::randn([b * m, n], DOUBLE), Tensor::randn([b * m, m], DOUBLE));
    let y = Tensor::from_slice(&[0i64, 2, 1, 1, 0]);
    let tied = |which: &Tensor| (class.unsqueeze(2) + which.unsqueeze(1)).flatten(1, 2);
    let sla = |joint: &Tensor| value(&SlaLoss::default().forward(joint, &y, m).unwrap());
    near(sla(&tied(&which)), value(&multitask_loss(&class, &which, &y, m).unwrap()), 1e-12);
    let da = value(&data_augmentation_loss(&class, &y, m).unwrap());
    near(sla(&tied(&which.zeros_like())), da + (m as f64).ln(), 1e-12);
    // Zero heads know nothing.
    near(sla(&Tensor::zeros([b * m, n * m], DOUBLE)), ((n * m) as f64).ln(), 1e-12);
}

#[test]
fn with_one_transformation_it_is_ordinary_classification() {
    tch::manual_seed(5);
    let (logits, y) = (Tensor::randn([4, 3], DOUBLE), Tensor::from_slice(&[0i64, 2, 1, 1]));
    let own = logits.log_softmax(1, Kind::Double).gather(1, &y.unsqueeze(1), false);
    let want = -value(&own.mean(Kind::Double));
    near(value(&SlaLoss::default().forward(&logits, &y, 1).unwrap()), want, 1e-12);
    near(value(&data_augmentation_loss(&logits, &y, 1).unwrap()), want, 1e-12);
    assert_eq!(aggregate_logits(&logits, 1).unwrap(), single_logits(&logits, 1, 0).unwrap());
}

#[test]
fn slices_are_the_joint_distribution_given_the_transformation() {
    let joint = &golden()["joint"];
    let own = own_logits(joint, 4).unwrap();
    assert_eq!(own.size(), [6, 4, 5]);
    for j in 0..4 {
        // Rows of copies through j; every fourth column from j on.
        let rows = joint.slice(0, j, None, 4);
        let si = single_logits(&rows, 4, j).unwrap();
        assert_eq!(si, own.select(1, j));
        let rho = rows.softmax(-1, Kind::Float).slice(1, j, None, 4);
        let conditional = &rho / rho.sum_dim_intlist(1, true, Kind::Float);
        assert_close("conditional", &si.softmax(-1, Kind::Float), &conditional, 1e-5);
    }
    let probabilities = |joint: &Tensor| aggregate_logits(joint, 4).unwrap().softmax(-1, Kind::Float);
    let shift = Tensor::from_slice(&[3f32, -2., 0.5, 7.]).repeat([5]);
    assert_close("constants of the slices", &probabilities(&(joint + shift)), &probabilities(joint), 1e-5);
    let plain = &golden()["plain"];
    assert_close(
        "views",
        &average_logits(plain, 4).unwrap().get(1),
        &plain.narrow(0, 4, 4).mean_dim(0, false, None),
        1e-6,
    );
}

#[test]
fn copies_come_image_by_image_in_the_published_order() {
    let g = golden();
    let of = |t: &dyn InputTransform| t.apply_all(&g["x"]).unwrap();
    assert_eq!(of(&Identity), g["x"]);
    assert_eq!(of(&Rotation4), g["rotation"]);
    assert_eq!(of(&Rotation2), g["rotation2"]);
    assert_eq!(of(&ColorPerm3), g["color3"]);
    assert_eq!(of(&ColorPerm6), g["color6"]);
    assert_eq!(of(&Compose(Rotation2, ColorPerm3)), g["rotation2xcolor3"]);
    assert_eq!(of(&Compose(Rotation4, ColorPerm6)), g["rotationxcolor6"]);
    let turned = (0..4).fold(g["x"].shallow_clone(), |x, _| Rotation4.apply(&x, 1).unwrap());
    assert_eq!(turned, g["x"]);
    // A group: any two permutations in a row are one of the six.
    let all: Vec<Tensor> = (0..6).map(|j| ColorPerm6.apply(&g["x"], j).unwrap()).collect();
    for (first, second) in (0..6).flat_map(|i| (0..6).map(move |j| (i, j))) {
        let both = ColorPerm6.apply(&all[first], second).unwrap();
        assert_eq!(all.iter().filter(|x| **x == both).count(), 1, "{first} then {second}");
    }
}

#[test]
fn accuracies_tell_class_and_transformation_apart() {
    // Two images, two classes, two transformations; predicted joint labels 0, 3, 2, 1 of the right 0, 1, 2, 3.
    let joint = Tensor::from_slice2(&[[9f32, 0., 1., 0.], [0., 1., 0., 9.], [1., 0., 9., 0.], [0., 9., 0., 1.]]);
    let y = Tensor::from_slice(&[0i64, 1]);
    assert_eq!(Vec::<i64>::try_from(joint_labels(&y, 2).unwrap()).unwrap(), [0, 1, 2, 3]);
    let right = CrossTransformAccuracy::new(&joint, &y, 2).unwrap();
    assert_eq!((right.joint, right.transformation, right.per_transformation), (0.5, 1.0, vec![1.0, 0.0]));
}

#[test]
fn heads_give_the_losses_and_scores_of_their_mode() {
    tch::manual_seed(6);
    let vs = VarStore::new(Device::Cpu);
    let (z, y) = (Tensor::randn([12, 7], (Kind::Float, Device::Cpu)), Tensor::from_slice(&[4i64, 0, 1]));
    let config = SlaLoss::default();
    for (i, mode) in [Mode::DataAugmentation, Mode::MultiTask, Mode::Sla, Mode::SelfDistilled].into_iter().enumerate() {
        let heads = Classifier::new(vs.root() / i, mode, 7, 5, 4).unwrap();
        let loss = heads.loss(&config, &z, &y).unwrap();
        assert!(value(&loss) > 0.0);
        loss.backward();
        let first = z.slice(0, 0, None, 4);
        let (single, aggregate) = (heads.single(&first).unwrap(), heads.aggregate(&z).unwrap());
        assert_eq!((single.size(), aggregate.size()), (vec![3, 5], vec![3, 5]));
        if let (Mode::Sla, Some(joint)) = (mode, heads.joint(&z)) {
            assert_close("loss", &loss, &config.forward(&joint, &y, 4).unwrap(), 1e-6);
            assert_close("single", &single, &own_logits(&joint, 4).unwrap().select(1, 0), 1e-5);
        }
    }
    assert!(vs.trainable_variables().iter().all(|p| p.grad().defined()), "every head learns");
    assert!(Classifier::new(vs.root() / "b", Mode::Baseline, 7, 5, 4).is_err());
}

#[test]
fn half_precision_is_computed_in_full() {
    let g = golden();
    let (joint, single) = (g["joint"].to_kind(Kind::BFloat16), g["single"].to_kind(Kind::BFloat16));
    let config = SlaLoss::default();
    let parts = Precision::Bf16.run(Device::Cpu, || config.self_distilled(&joint, &single, &g["y"], 4)).unwrap();
    let (wide, narrow) = (joint.to_kind(Kind::Float), single.to_kind(Kind::Float));
    let want = config.self_distilled(&wide, &narrow, &g["y"], 4).unwrap();
    assert_eq!(parts.total.kind(), Kind::Float);
    assert_close("total", &parts.total, &want.total, 1e-6);
    assert_close("distillation", &parts.distillation, &want.distillation, 1e-5);
}

#[test]
fn bad_input_is_named() {
    let g = golden();
    let (joint, single, y, config) = (&g["joint"], &g["single"], &g["y"], SlaLoss::default());
    let message = |r: autodidact_core::Result<Tensor>| r.unwrap_err().to_string();
    let e = message(config.forward(joint, y, 3));
    assert_eq!(e, "joint: expected a multiple of 3 columns, got shape [24, 20]");
    let e = message(config.forward(joint, &y.narrow(0, 0, 5), 4));
    assert_eq!(e, "logits: expected 4 rows for each of 5 labels, got shape [24, 20]");
    assert!(message(config.forward(joint, &(y + 5), 4)).contains("out of bounds"));
    assert!(message(single_logits(joint, 4, 4)).starts_with("transformation: expected an index in 0..4"));
    assert!(message(data_augmentation_loss(&g["plain"], &y.to_kind(Kind::Float), 4)).contains("Int64"));
    assert!(message(multitask_loss(&g["plain"], single, y, 4)).starts_with("transformation logits: expected [24, 4]"));
    assert!(config.self_distilled(joint, &g["plain"], y, 4).unwrap_err().to_string().starts_with("single: expected"));
    let cold = SlaLoss { temperature: 0.0, ..config };
    assert!(cold.self_distilled(joint, single, y, 4).unwrap_err().to_string().starts_with("temperature"));
    assert!(message(Rotation4.apply(&Tensor::zeros([1, 3, 4, 5], DOUBLE), 0)).starts_with("x: expected square images"));
    assert!(
        message(ColorPerm3.apply_all(&Tensor::zeros([1, 1, 4, 4], DOUBLE))).starts_with("x: expected [B, 3, H, W]")
    );
    assert!(message(Rotation2.apply(&g["x"], 2)).starts_with("transformation"));
}
