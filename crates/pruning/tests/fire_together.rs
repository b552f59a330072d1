//! Masks by hand, what gradients reach, counted operations, and that skipping gives what masking gives.

use autodidact_core::Error;
use autodidact_core::optim::{Group, Optimizer, Rule, Sgd};
use autodidact_pruning::fire_together::*;
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

fn bits(t: &Tensor) -> Vec<i64> {
    Vec::try_from(t.to_kind(Kind::Int64).flatten(0, -1)).unwrap()
}

fn peaks(values: &[f64]) -> Tensor {
    Tensor::from_slice(values).view([1, -1])
}

fn config(input: HeadInput) -> GatedNetConfig {
    use Stage::{Filters, Pool};
    GatedNetConfig {
        channels: 3,
        side: 8,
        stages: vec![Filters(8), Filters(12), Pool, Filters(16)],
        classes: 5,
        pooling: Pooling::Max,
        input,
    }
}

fn network(input: HeadInput) -> GatedNet {
    tch::manual_seed(0);
    GatedNet::new(&config(input), Device::Cpu).unwrap()
}

fn images(n: i64) -> Tensor {
    tch::manual_seed(1);
    Tensor::rand([n, 3, 8, 8], F32)
}

/// Some steps on images, so that statistics and masks are not those of fresh weights.
fn trained(input: HeadInput) -> GatedNet {
    let net = network(input);
    let mut optimizer =
        Optimizer::new(Rule::Sgd(Sgd { momentum: 0.9, ..Sgd::default() }), vec![Group::all(net.store(), 0.0)]).unwrap();
    let (x, y) = (images(40), Tensor::arange(40, (Kind::Int64, Device::Cpu)).remainder(5));
    for _ in 0..12 {
        let out = net.forward(&x, Gates::Heads, Some(Criterion::Mass(0.8)), true, true).unwrap();
        let loss = out.logits.cross_entropy_for_logits(&y) + mask_loss(&out.targets).unwrap();
        optimizer.zero_grad();
        loss.backward();
        optimizer.step(0.05).unwrap();
    }
    net
}

#[test]
fn mass_masks_by_hand() {
    let p = peaks(&[5.5, 7.9, 0.3, 8.6, 2.2, 3.1, 0.9]);
    let kept = |r: f64| bits(&Criterion::Mass(r).mask(&p).unwrap());
    assert_eq!(kept(0.95), [1, 1, 0, 1, 0, 1, 0]);
    assert_eq!(kept(0.3), [0; 7], "the first holds 0.3018");
    assert_eq!(kept(0.31), [0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(kept(1.0), [1; 7]);
    let dead = peaks(&[1.0, 0.0, 2.0, 0.0]);
    let of = |c: Criterion| bits(&c.mask(&dead).unwrap());
    assert_eq!(of(Criterion::Mass(1.0)), [1, 0, 1, 0]);
    assert_eq!(of(Criterion::Mass(0.999)), [0, 0, 1, 0], "the second crosses");
    assert_eq!(of(Criterion::Mass(-1.0)), [1; 4]);
    assert_eq!(of(Criterion::Uniform(0.0)), [1, 0, 1, 0], "dead filters are dropped always");
    assert_eq!(of(Criterion::Uniform(0.8)), [0, 0, 1, 0], "three of four");
    // An image on which nothing fires asks for nothing.
    let silent = peaks(&[0.0; 4]);
    for criterion in [Criterion::Mass(0.9), Criterion::Mass(1.0), Criterion::Uniform(0.5)] {
        assert_eq!(bits(&criterion.mask(&silent).unwrap()), [0; 4]);
    }
}

#[test]
fn peaks_are_largest_absolute_values_and_masks_grow_with_the_share() {
    let x = Tensor::from_slice(&[1.0f32, -3.0, 0.0, 2.0, 0.5, 0.1, 0.2, 0.3]).view([1, 2, 2, 2]);
    assert_eq!(Vec::<f32>::try_from(peak(&x).unwrap().view(-1)).unwrap(), [3.0, 0.5]);
    tch::manual_seed(3);
    let p = Tensor::rand([50, 20], F32);
    let mut before = Tensor::zeros([50, 20], F32);
    for r in [0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 1.0] {
        let mask = Criterion::Mass(r).mask(&p).unwrap();
        assert!((&mask - &before).min().double_value(&[]) >= 0.0, "{r}");
        assert_eq!(mask, mass_mask(&p.view([50, 20, 1, 1]), r).unwrap());
        before = mask;
    }
    // By definition: the kept ones hold at most the share, and one more would cross it.
    let mask = Criterion::Mass(0.7).mask(&p).unwrap();
    let share = &p / p.sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
    let held = (&share * &mask).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
    let next = (share * (&mask * -1.0 + 1.0)).amax([1i64].as_slice(), false);
    assert!(held.max().double_value(&[]) <= 0.7 + 2e-5 && (held + next).min().double_value(&[]) > 0.7);
}

#[test]
fn losses_by_hand() {
    let layer = |l: &[f64], t: &[f64]| (peaks(l), peaks(t));
    let a = layer(&[2.0, -1.0, 0.0], &[1.0, 0.0, 1.0]);
    let value = mask_loss(&[a]).unwrap().double_value(&[]);
    assert!((value - 1.133337).abs() < 1e-6, "{value}");
    // The mean over layers and images, the sum over filters.
    let two = (Tensor::from_slice2(&[[0.0f64, 0.0], [0.0, 0.0]]), Tensor::from_slice2(&[[1.0f64, 0.0], [1.0, 1.0]]));
    let one = layer(&[0.0], &[1.0]);
    let value = mask_loss(&[two, one]).unwrap().double_value(&[]);
    assert!((value - 1.5 * std::f64::consts::LN_2).abs() < 1e-12);
}

#[test]
fn operations_are_counted_as_filters_times_channels() {
    let net = GatedNet::new(
        &GatedNetConfig { side: 16, stages: vec![Stage::Filters(16), Stage::Filters(16)], ..config(HeadInput::Plain) },
        Device::Cpu,
    )
    .unwrap();
    let mask = |n: i64| Tensor::arange(16, F32).lt(n).to_kind(Kind::Float).view([1, 16]);
    let macs: Vec<f64> = net.macs_by_layer(&[mask(8), mask(4)]).iter().map(|m| m.double_value(&[0])).collect();
    assert_eq!(macs, [55_296.0, 73_728.0]);
    assert_eq!(net.macs(&[mask(16), mask(16)]).double_value(&[0]), net.dense_macs());
    let vgg = GatedNet::new(&GatedNetConfig::vgg16(10), Device::Cpu).unwrap();
    assert_eq!(vgg.dense_macs(), 313196544.0);
}

#[test]
fn heads_and_network_learn_apart_unless_joined() {
    for (detached, joined) in [(true, false), (false, true)] {
        let net = network(HeadInput::Standardised);
        let out = net.forward(&images(6), Gates::Heads, Some(Criterion::Mass(0.8)), detached, true).unwrap();
        let [backbone, heads] = net.parts();
        let of = |loss: &Tensor, parts: &[(String, Tensor)]| -> Vec<(String, f64)> {
            let leaves: Vec<&Tensor> = parts.iter().map(|p| &p.1).collect();
            // What a loss does not reach has no gradient: a zero of each parameter makes it one.
            let zero = leaves.iter().fold(Tensor::zeros([], F32), |s, p| s + p.sum(Kind::Float) * 0.0);
            let gradients = Tensor::run_backward(&[&(loss + zero)], &leaves, true, false);
            parts.iter().zip(gradients).map(|(p, g)| (p.0.clone(), g.abs().max().double_value(&[]))).collect()
        };
        let (task, mask) = (
            out.logits.cross_entropy_for_logits(&Tensor::from_slice(&[0i64, 1, 2, 3, 4, 0])),
            mask_loss(&out.targets).unwrap(),
        );
        assert!(of(&task, &heads).iter().all(|g| g.1 == 0.0), "the task never reaches the heads");
        let moved: Vec<String> = of(&mask, &backbone).into_iter().filter(|g| g.1 > 0.0).map(|g| g.0).collect();
        assert_eq!(moved.iter().any(|name| name.starts_with("layers.0")), joined, "{moved:?}");
        // Nothing reads the last layer's map, and the first head reads the image.
        assert!(!moved.iter().any(|name| name.starts_with("layers.2")));
        assert!(of(&mask, &heads).iter().any(|g| g.1 > 0.0));
    }
    // Through a straight-through mask the task reaches them.
    let net = network(HeadInput::Standardised);
    let out = net.forward(&images(6), Gates::StraightThrough, None, true, true).unwrap();
    out.logits.square().sum(Kind::Float).backward();
    let [_, heads] = net.parts();
    assert!(heads.iter().any(|(_, p)| p.grad().defined() && p.grad().abs().max().double_value(&[]) > 0.0));
}

#[test]
fn heads_that_say_yes_leave_the_dense_network_and_empty_masks_only_biases() {
    let net = trained(HeadInput::Standardised);
    let x = images(7);
    let logits = |gates: Gates<'_>| net.forward(&x, gates, None, true, false).unwrap();
    let dense = logits(Gates::Open).logits;
    let none: Vec<Tensor> = net.filters().iter().map(|f| Tensor::zeros([*f], F32)).collect();
    let silent = logits(Gates::Fixed(&none)).logits;
    assert!((&silent - silent.get(0)).abs().max().double_value(&[]) < 1e-6, "all images look alike");
    assert_eq!(logits(Gates::Oracle(Criterion::Mass(-1.0))).logits, dense);
    let saved = |o: &Outcome| 1.0 - net.macs(&o.masks).mean(Kind::Double).double_value(&[]) / net.dense_macs();
    assert!(saved(&logits(Gates::Heads)) > 0.05);
    net.open_heads();
    let open = logits(Gates::Heads);
    assert_eq!((open.logits, 0.0), (dense, saved(&logits(Gates::Heads))));
}

#[test]
fn skipping_gives_what_masking_gives() {
    for input in [HeadInput::Standardised, HeadInput::Softmax, HeadInput::Plain] {
        let net = trained(input);
        let x = images(12);
        let masked = net.forward(&x, Gates::Heads, None, true, false).unwrap();
        for block in [1, 4, 16] {
            let compact = CompactNet::new(&net, block).unwrap();
            for i in 0..12 {
                let (logits, counts) = compact.forward(&x.narrow(0, i, 1), false).unwrap();
                let error = (logits - masked.logits.narrow(0, i, 1)).abs().max().double_value(&[]);
                assert!(error < 1e-5, "{input:?}, block {block}: {error}");
                let want: Vec<i64> = masked.masks.iter().map(|m| m.get(i).sum(Kind::Int64).int64_value(&[])).collect();
                assert_eq!(counts, want);
            }
            let dense = net.forward(&x.narrow(0, 0, 1), Gates::Open, None, true, false).unwrap().logits;
            let (open, _) = compact.forward(&x.narrow(0, 0, 1), true).unwrap();
            assert!((open - dense).abs().max().double_value(&[]) < 1e-5);
        }
    }
}

#[test]
fn the_saving_is_known_before_training_and_a_saving_is_found() {
    let net = trained(HeadInput::Standardised);
    let x = images(30);
    let peaks = net.peaks(&x).unwrap();
    let (total, by_layer) = peaks.reduction(&net, Criterion::Mass(0.8)).unwrap();
    // An open network's targets are what peaks give.
    let open = net.forward(&x, Gates::Open, Some(Criterion::Mass(0.8)), true, false).unwrap();
    let masks: Vec<Tensor> = open.targets.into_iter().map(|t| t.1).collect();
    let want = 1.0 - net.macs(&masks).mean(Kind::Double).double_value(&[]) / net.dense_macs();
    assert!((total - want).abs() < 1e-9 && by_layer.len() == 3);
    let saved = |r: f64| peaks.reduction(&net, Criterion::Mass(r)).unwrap().0;
    assert!(saved(0.5) > saved(0.8) && saved(0.8) > saved(0.95));
    for family in [Criterion::Mass as fn(f64) -> Criterion, Criterion::Uniform] {
        let found = peaks.choose(&net, family, 0.5).unwrap();
        let reached = peaks.reduction(&net, family(found)).unwrap().0;
        assert!((reached - 0.5).abs() < 0.12, "{found}: {reached}");
    }
    let fixed = peaks.most_frequent(Criterion::Mass(0.8), &[3, 0, 16]).unwrap();
    let kept: Vec<f64> = fixed.iter().map(|m| m.sum(Kind::Double).double_value(&[])).collect();
    assert_eq!(kept, [3.0, 0.0, 16.0]);
}

#[test]
fn bad_input_is_refused() {
    let net = network(HeadInput::Plain);
    let wrong = Tensor::zeros([1, 3, 9, 9], F32);
    assert!(matches!(net.forward(&wrong, Gates::Open, None, true, false), Err(Error::Shape { .. })));
    assert!(matches!(net.peaks(&wrong), Err(Error::Shape { .. })));
    let short = [Tensor::ones([8], F32)];
    assert!(net.forward(&images(1), Gates::Fixed(&short), None, true, false).is_err());
    assert!(Criterion::Mass(1.1).check().is_err() && Criterion::Uniform(-0.1).check().is_err());
    assert!(peak(&Tensor::zeros([2, 3], F32)).is_err());
    assert!(mask_loss(&[]).is_err());
    assert!(CompactNet::new(&net, 0).is_err());
    assert!(CompactNet::new(&net, 1).unwrap().forward(&images(2), false).is_err());
    for stages in
        [vec![], vec![Stage::Pool], vec![Stage::Filters(4), Stage::Pool, Stage::Pool], vec![Stage::Filters(0)]]
    {
        assert!(GatedNet::new(&GatedNetConfig { stages, ..config(HeadInput::Plain) }, Device::Cpu).is_err());
    }
    let peaks = net.peaks(&images(2)).unwrap();
    assert!(peaks.choose(&net, Criterion::Mass, 1.5).is_err());
    assert!(peaks.most_frequent(Criterion::Mass(0.8), &[1]).is_err());
}
