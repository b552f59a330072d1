//! Libtorch as a peer of the perceptron, the published decision table, and identities of the stream.

use autodidact_core::seed;
use autodidact_unlearning::homeostatic::*;
use rand::RngExt;
use tch::{Reduction, Tensor};

/// `n` samples of ten classes: noisy prototypes.
fn samples(n: usize, seed: u64) -> Samples {
    let mut rng = seed::rng(seed, &["samples"]);
    let mut inputs = vec![];
    for i in 0..n {
        inputs.extend((0..12).map(|j| if j == i % 10 { 1.0 } else { 0.0 } + 0.3 * rng.random::<f32>()));
    }
    Samples::new(inputs, (0..n).map(|i| i % 10).collect()).unwrap()
}

fn network() -> Mlp {
    Mlp::new(&[12, 9, 7, 10], &mut seed::rng(3, &["init"])).unwrap()
}

/// Trains libtorch's own layers, initialised from `net`, on one minibatch; gives the flat parameters as [`Mlp::params`] has them.
fn torch_step(net: &Mlp, x: &Tensor, labels: &Tensor, update: impl Fn(&Tensor, &Tensor) -> Tensor) -> Vec<f32> {
    let mut leaves = vec![];
    let mut at = 0;
    for pair in net.sizes().windows(2) {
        for shape in [vec![pair[0] as i64, pair[1] as i64], vec![pair[1] as i64]] {
            let n = shape.iter().product::<i64>() as usize;
            leaves.push(Tensor::from_slice(&net.params()[at..at + n]).reshape(&shape).set_requires_grad(true));
            at += n;
        }
    }
    let mut h = x.shallow_clone();
    for (l, layer) in leaves.chunks(2).enumerate() {
        h = h.matmul(&layer[0]) + &layer[1];
        if l < 2 {
            h = h.elu();
        }
    }
    let loss = h.cross_entropy_loss::<Tensor>(labels, None, Reduction::Mean, -100, 0.0);
    let gradients = Tensor::run_backward(&[&loss], &leaves, false, false);
    let flat: Vec<Tensor> = leaves.iter().zip(&gradients).map(|(p, g)| update(p, g).detach().flatten(0, -1)).collect();
    Vec::try_from(Tensor::cat(&flat, 0)).unwrap()
}

#[test]
fn a_minibatch_moves_the_weights_as_libtorch_does() {
    let net = network();
    let mut rng = seed::rng(1, &["x"]);
    let inputs: Vec<f32> = (0..10 * 12).map(|_| rng.random_range(-1.0..1.0)).collect();
    let labels: Vec<i64> = (0..10).map(|i| (i * 7) % 10).collect();
    let (x, y) = (Tensor::from_slice(&inputs).reshape([10, 12]), Tensor::from_slice(&labels));

    let mut gradient = vec![0.0; net.params().len()];
    let mut space = net.workspace();
    for (x, label) in inputs.chunks(12).zip(&labels) {
        net.accumulate(x, *label as usize, &mut space, &mut gradient);
    }
    gradient.iter_mut().for_each(|g| *g /= 10.0);
    let eta = 0.1;
    for (update, rule) in [
        (Update::Sgd, (&|p: &Tensor, g: &Tensor| p - g * eta) as &dyn Fn(&Tensor, &Tensor) -> Tensor),
        (Update::Momentum(0.9), &|p, g| p - g * eta),
        // At the first step the moments, corrected for their start, are g and g^2.
        (Update::Adam, &|p, g| p - g / (g.abs() + 1e-8) * eta),
    ] {
        let mut moved = net.clone();
        Updater::new(update, net.params().len()).unwrap().step(&mut moved, eta as f32, &gradient);
        let peer = torch_step(&net, &x, &y, rule);
        for (ours, theirs) in moved.params().iter().zip(&peer) {
            assert!((ours - theirs).abs() < 2e-5, "{update:?}: {ours} and {theirs}");
        }
        assert_ne!(moved, net);
    }
}

#[test]
fn momentum_and_adam_carry_their_state() {
    let mut net = network();
    let n = net.params().len();
    let (before, ones) = (net.params()[0], vec![1.0; n]);
    let mut momentum = Updater::new(Update::Momentum(0.5), n).unwrap();
    (0..3).for_each(|_| momentum.step(&mut net, 0.1, &ones));
    // 1 + 1.5 + 1.75.
    assert!((before - net.params()[0] - 0.425).abs() < 1e-6);
    let before = net.params()[0];
    let mut adam = Updater::new(Update::Adam, n).unwrap();
    (0..3).for_each(|_| adam.step(&mut net, 0.1, &ones));
    assert!((before - net.params()[0] - 0.3).abs() < 1e-5, "constant gradients: steps of eta");
    assert!(Updater::new(Update::Momentum(1.0), n).is_err());
}

/// An opportunity with given accuracies of leaving and taking.
struct Staged {
    guess: usize,
    label: usize,
    eta: f64,
    leave: f64,
    take: f64,
    tried: Vec<f64>,
}

impl Opportunity for Staged {
    fn label(&self) -> usize {
        self.label
    }

    fn guess(&self) -> usize {
        self.guess
    }

    fn simulate(&mut self, memory: usize, _: SimGradient, eta: f64) -> Option<f64> {
        assert_eq!(memory, 20);
        self.tried.push(eta);
        Some(if eta == self.eta { self.leave } else { self.take })
    }
}

#[test]
fn decisions_are_those_of_the_table() {
    let decide = |eta: f64, guess, label, leave, take, policy| {
        let effect = Effect { step: 1e-4, up_from: 5, floor: 1e-8 };
        let mut regulator =
            HomeostaticRegulator::new(eta, effect, Simulation { policy, ..Default::default() }).unwrap();
        let mut staged = Staged { guess, label, eta, leave, take, tried: vec![] };
        let decision = regulator.opportunity(&mut staged);
        (decision, regulator.eta(), staged.tried)
    };
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} and {b}");
    let (decision, eta, tried) = decide(0.001, 7, 8, 0.55, 0.60, Policy::Guess);
    assert_eq!(decision, Decision::Ingest);
    close(eta, 0.0011);
    close(tried[0], 0.001);
    close(tried[1], 0.0011);
    // A wrong guess moves the rate the unintended way.
    close(decide(0.001, 7, 3, 0.55, 0.60, Policy::Guess).1, 0.0009);
    // Strictly better is asked.
    let (decision, eta, _) = decide(0.001, 7, 8, 0.6, 0.6, Policy::Guess);
    assert_eq!((decision, eta), (Decision::Leave, 0.001));
    close(decide(0.00005, 1, 2, 0.1, 0.2, Policy::Guess).1, 1e-8);
    close(decide(1e-8, 9, 9, 0.1, 0.2, Policy::Guess).1, 0.000_100_01);
    // The oracle simulates the true label's effect.
    close(decide(0.001, 7, 3, 0.55, 0.60, Policy::Oracle).2[1], 0.0009);
    let (decision, eta, tried) = decide(0.001, 7, 3, 0.9, 0.1, Policy::Always);
    assert_eq!((decision, tried.len()), (Decision::Ingest, 0));
    close(eta, 0.0009);
}

#[test]
fn without_a_step_every_regulator_is_the_constant() {
    let data = samples(300, 0);
    let stream = Stream { epochs: 4, spacing: Spacing::Every(100), ..Default::default() };
    let run = |regulator: &mut dyn Regulator| {
        let mut net = network();
        let trace = learn(&mut net, &data, &data, &stream, regulator).unwrap();
        (net, trace.right)
    };
    let still = Effect { step: 0.0, ..Effect::of(0.02) };
    let constant = run(&mut Constant(0.02));
    for policy in [Policy::Guess, Policy::Oracle, Policy::Always] {
        let simulation = Simulation { policy, ..Default::default() };
        assert_eq!(run(&mut HomeostaticRegulator::new(0.02, still, simulation).unwrap()), constant);
    }
    let mut random = RandomRegulator::new(0.02, still, 0.5, seed::rng(0, &["random"])).unwrap();
    assert_eq!(run(&mut random), constant);
}

#[test]
fn a_random_rate_walks() {
    struct Always(usize);
    impl Opportunity for Always {
        fn label(&self) -> usize {
            self.0
        }
        fn guess(&self) -> usize {
            0
        }
        fn simulate(&mut self, _: usize, _: SimGradient, _: f64) -> Option<f64> {
            None
        }
    }
    let effect = Effect { step: 1e-4, up_from: 5, floor: 1e-8 };
    // All labels 9: eta_0 + delta Binomial(T, 1/2).
    let mut up = RandomRegulator::new(1.0, effect, 0.5, seed::rng(0, &["up"])).unwrap();
    let ingested = (0..1000).filter(|_| up.opportunity(&mut Always(9)) == Decision::Ingest).count();
    assert!((up.eta() - 1.0 - 1e-4 * ingested as f64).abs() < 1e-9);
    assert!((ingested as f64 - 500.0).abs() < 5.0 * 15.8);
    // Balanced labels far from the floor: variance delta^2 T / 2.
    let ends: Vec<f64> = (0..400)
        .map(|walk| {
            let mut r = RandomRegulator::new(1.0, effect, 0.5, seed::rng(walk, &["walk"])).unwrap();
            let mut labels = seed::rng(walk, &["labels"]);
            (0..1000).for_each(|_| _ = r.opportunity(&mut Always(labels.random_range(0..10))));
            r.eta() - 1.0
        })
        .collect();
    let deviation = autodidact_core::stats::variance(&ends).sqrt();
    // The standard error of a deviation from 400 walks is a 28th of it.
    assert!((deviation - 0.002236).abs() < 3.0 * 0.002236 / 28.0, "{deviation}");
}

#[test]
fn opportunities_and_memory_are_counted_per_epoch() {
    #[derive(Default)]
    struct Counting {
        asked: usize,
        simulated: usize,
    }
    impl Regulator for Counting {
        fn eta(&self) -> f64 {
            0.01
        }
        fn opportunity(&mut self, seen: &mut dyn Opportunity) -> Decision {
            self.asked += 1;
            self.simulated += usize::from(seen.simulate(20, SimGradient::Accumulated, 0.01).is_some());
            Decision::Leave
        }
    }
    let mut counting = Counting::default();
    let stream = Stream { epochs: 2, ..Default::default() };
    let trace = learn(&mut network(), &samples(600, 0), &samples(50, 1), &stream, &mut counting).unwrap();
    // i = 10, 20, ..., 590; a simulation needs i > 20: as 60,000 samples give 5,997, 600 give 57.
    assert_eq!((counting.asked, counting.simulated), (2 * 59, 2 * 57));
    assert_eq!((trace.online.len(), trace.eta.len(), trace.right.len()), (2, 120, 1200));
    assert_eq!(trace.decisions.iter().map(|d| d.0).sum::<usize>(), 2 * 59);
}

#[test]
fn simulations_leave_the_weights_and_use_the_gradient_they_name() {
    /// Accuracies on the memory without a step, and after one along each gradient.
    #[derive(Default)]
    struct Probe(Vec<[f64; 4]>);
    impl Regulator for Probe {
        fn eta(&self) -> f64 {
            0.0
        }
        fn opportunity(&mut self, seen: &mut dyn Opportunity) -> Decision {
            let kinds = [SimGradient::Accumulated, SimGradient::FullMinibatch, SimGradient::Memory];
            if let [Some(a), Some(b), Some(c)] = kinds.map(|k| seen.simulate(20, k, 0.0)) {
                assert!(a == b && b == c, "no step: the network itself, whatever the gradient");
                let [d, e, f] = kinds.map(|k| seen.simulate(20, k, 30.0).unwrap());
                self.0.push([a, d, e, f]);
            }
            Decision::Leave
        }
    }
    // Softmax regression: one long step goes a long way.
    let (net, data) = (Mlp::new(&[12, 10], &mut seed::rng(3, &["init"])).unwrap(), samples(400, 2));
    let seen = |batch| {
        let mut probe = Probe::default();
        let mut learned = net.clone();
        let stream = Stream { epochs: 1, batch, ..Default::default() };
        learn(&mut learned, &data, &data, &stream, &mut probe).unwrap();
        assert_eq!(learned, net, "at rate 0 nothing changes");
        probe.0
    };
    let of_ten = seen(10);
    let mean = |k: usize| of_ten.iter().map(|s| s[k]).sum::<f64>() / of_ten.len() as f64;
    assert!(mean(3) > mean(0) + 0.05, "the memory's own gradient helps on it: {} from {}", mean(3), mean(0));
    assert!(of_ten.iter().any(|s| s[1] != s[2]), "one sample's gradient over ten is not the mean of ten");
    assert!(seen(1).iter().all(|s| s[1] == s[2]), "of minibatches of one sample it is");
}

#[test]
fn swaps_come_at_their_spacing_and_count_from_the_new_labels() {
    let data = samples(200, 0);
    let count = |spacing, epochs| {
        let stream = Stream { epochs, spacing, ..Default::default() };
        learn(&mut network(), &data, &data, &stream, &mut Constant(0.3)).unwrap()
    };
    assert_eq!(count(Spacing::Every(50), 1).swaps, [50, 100, 150, 200]);
    assert!(count(Spacing::Never, 3).swaps.is_empty());
    // A spacing inside of minibatches counts at their ends.
    assert_eq!(count(Spacing::Every(25), 1).swaps, [30, 50, 80, 100, 130, 150, 180, 200]);
    // Not after an epoch's first minibatch.
    assert_eq!(count(Spacing::Every(10), 1).swaps.len(), 19);
    let seasons = count(Spacing::Seasons { slow: 200, fast: 50, epochs: 2 }, 6);
    assert_eq!(seasons.swaps.len(), 2 + 8 + 2);

    let mut shift = ConceptShift::new(10).unwrap();
    let mut rng = seed::rng(5, &["swap"]);
    for _ in 0..100 {
        shift.swap(&mut rng);
        let mut sorted = shift.permutation().to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<_>>(), "a permutation");
    }
    assert_ne!(shift, ConceptShift::new(10).unwrap());

    // Learned, then swapped: the dip is visible and recovers.
    let data = samples(800, 0);
    let stream = Stream { epochs: 20, spacing: Spacing::Every(800), ..Default::default() };
    let trace = learn(&mut network(), &data, &data, &stream, &mut Constant(0.3)).unwrap();
    let around = trace.around_swaps(20, 5).unwrap();
    assert!(around[4] > around[5] + 0.1, "{around:?}");
    let times = trace.times_to_recover(50, 0.9);
    assert_eq!(times.len(), 20);
    assert!(times.iter().flatten().all(|t| (50..=800).contains(t)));
    assert!(times.iter().flatten().count() >= 10, "{times:?}");
}

#[test]
fn bad_input_is_refused() {
    let said = |e: autodidact_core::Error| e.to_string();
    let mut rng = seed::rng(0, &["init"]);
    assert!(said(Mlp::new(&[4], &mut rng).unwrap_err()).starts_with("sizes: "));
    assert!(said(Mlp::new(&[4, 0], &mut rng).unwrap_err()).starts_with("sizes: "));
    assert!(said(Samples::new(vec![], vec![]).unwrap_err()).starts_with("samples: "));
    assert!(said(Samples::new(vec![0.0; 5], vec![0, 1]).unwrap_err()).starts_with("inputs: "));
    assert!(said(Samples::new(vec![f32::NAN, 0.0], vec![0, 1]).unwrap_err()).contains("finite"));
    let good = samples(40, 0);
    let learn_on = |data: &Samples, stream: Stream| {
        said(learn(&mut network(), data, &good, &stream, &mut Constant(0.1)).map(drop).unwrap_err())
    };
    let narrow = Samples::new(vec![0.0; 40], vec![0; 20]).unwrap();
    assert!(learn_on(&narrow, Stream::default()).starts_with("training samples: expected 12 inputs"));
    let strange = Samples::new(vec![0.0; 240], vec![10; 20]).unwrap();
    assert!(learn_on(&strange, Stream::default()).starts_with("training samples: expected classes below 10"));
    assert!(learn_on(&good, Stream { batch: 41, ..Default::default() }).starts_with("batch: "));
    assert!(learn_on(&good, Stream { interval: 0, ..Default::default() }).starts_with("interval: "));
    assert!(learn_on(&good, Stream { spacing: Spacing::Every(0), ..Default::default() }).starts_with("spacing: "));
    assert!(HomeostaticRegulator::new(-1.0, Effect::of(0.1), Simulation::default()).is_err());
    let forgetful = Simulation { memory: 0, ..Default::default() };
    assert!(HomeostaticRegulator::new(0.1, Effect::of(0.1), forgetful).is_err());
    assert!(RandomRegulator::new(0.1, Effect::of(0.1), 1.5, seed::rng(0, &[])).is_err());
    assert!(ConceptShift::new(1).is_err() && ConceptShift::new(3).unwrap().exchange(0, 3).is_err());
}
