//! Infinite schedules: the sheet's rates, branching that leaves no trace, baselines of continual learning.

use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::testing::assert_close;
use autodidact_scaling::infinite_lr::{
    ConstantRate, ContinualMatrix, ContinualRun, Cooldown, Ewc, InfiniteSchedule, Moment, RepeatedCosine,
    ReservoirBuffer, Resume, SingleCosine, TaskSchedule, feature_distillation,
};
use std::cell::RefCell;
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor};

fn schedule() -> InfiniteSchedule {
    InfiniteSchedule::new(1e-3, 1000)
}

#[track_caller]
fn micro(s: &dyn TaskSchedule, task: usize, points: &[(usize, f64)]) {
    for &(n, want) in points {
        let got = s.lr(task, n) * 1e6;
        assert!((got - want).abs() < 1e-4, "task {task}, step {n}: {got} is not {want}");
    }
}

#[test]
fn rates_are_those_of_the_published_code() {
    let s = schedule();
    assert_eq!((s.warmup, s.cooldown_end, s.constant_end), (50, 150, 800));
    micro(
        &s,
        0,
        &[
            (25, 500.0),
            (50, 1000.0),
            (75, 868.1981),
            (100, 550.0),
            (125, 231.8019),
            (150, 100.0),
            (400, 100.0),
            (800, 100.0),
            (850, 56.2341),
            (900, 31.6228),
            (1000, 10.0),
        ],
    );
    micro(&s, 1, &[(0, 100.0), (75, 100.0), (800, 100.0), (900, 31.6228), (1000, 10.0)]);
    let root = InfiniteSchedule { cooldown: Cooldown::InverseSqrt { timescale: 10.0 }, ..s };
    micro(&root, 0, &[(75, 400.234), (100, 237.5302), (125, 153.4543), (150, 100.0)]);
    let cosine = RepeatedCosine { eta_max: 1e-3, eta_min: 1e-5, warmup: 50, total: 1000 };
    for task in [0, 3] {
        micro(&cosine, task, &[(25, 500.0), (50, 1000.0), (250, 895.6246), (525, 505.0), (1000, 10.0)]);
    }
}

#[test]
fn phases_join_and_limits_hold() {
    let s = schedule();
    for cooldown in [Cooldown::Cosine, Cooldown::Linear, Cooldown::InverseSqrt { timescale: 10.0 }] {
        let s = InfiniteSchedule { cooldown, ..s };
        for mark in [50, 150, 800] {
            let jump = (s.lr(0, mark + 1) - s.lr(0, mark)).abs();
            assert!(jump < 0.07 * s.lr(0, mark), "{cooldown:?} jumps by {jump} after {mark}");
        }
        assert!((50..150).all(|n| s.lr(0, n + 1) < s.lr(0, n)));
    }
    // The inverse square root becomes linear as its timescale goes to 0.
    let nearly = InfiniteSchedule { cooldown: Cooldown::InverseSqrt { timescale: 1e-6 }, ..s };
    let linear = InfiniteSchedule { cooldown: Cooldown::Linear, ..s };
    assert!((50..150).all(|n| (nearly.lr(0, n) - linear.lr(0, n)).abs() < 1e-9));
    // Without a lower constant there is no cool-down: warm-up, stable, decay.
    let flat = InfiniteSchedule { eta_const: 1e-3, ..s };
    assert!((50..=800).all(|n| (flat.lr(0, n) - 1e-3).abs() < 1e-18));
    // One cosine over the stream runs through its tasks.
    let whole = RepeatedCosine { eta_max: 1e-3, eta_min: 0.0, warmup: 50, total: 3000 };
    let single = SingleCosine { whole, tasks: 3 };
    assert_eq!(single.curve(3), (0..3000).map(|n| whole.lr(0, n)).collect::<Vec<_>>());
    let constant = ConstantRate { eta: 1.0, warmup: 4, total: 6 };
    assert_eq!(constant.curve(2), [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
}

/// A small least-squares problem; what a run with a schedule leaves at each moment: weights and Adam's moments.
fn states(schedule: &dyn TaskSchedule, resume: Resume, tasks: usize) -> Vec<(Moment, Vec<Tensor>)> {
    let vs = VarStore::new(Device::Cpu);
    let w = vs.root().var("w", &[3], Init::Const(1.0));
    let mut optimizer = Optimizer::new(Rule::AdamW(Adam::default()), vec![Group::all(&vs, 0.01)]).unwrap();
    let live: Vec<Tensor> =
        vs.variables().into_values().chain(optimizer.state_dict().into_values()).map(|t| t.detach()).collect();
    let seen = RefCell::new(vec![]);
    let run = ContinualRun { tasks, resume, clip_norm: Some(1.0), seed: 5, vs: &vs };
    run.run(
        schedule,
        &mut optimizer,
        |task, _| {
            // The seeded generator decides the data of a step.
            let x = Tensor::randn([3], (Kind::Float, Device::Cpu));
            Ok(((&w * &x).sum(Kind::Float) - (1 + task as i64)).square())
        },
        |moment| {
            seen.borrow_mut().push((moment, live.iter().map(Tensor::copy).collect()));
            Ok(())
        },
    )
    .unwrap();
    seen.into_inner()
}

fn equal(a: &[Tensor], b: &[Tensor]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.equal(b))
}

#[test]
fn the_next_task_starts_from_before_the_annealing_bit_for_bit() {
    let s = InfiniteSchedule::new(0.1, 20);
    let seen = states(&s, Resume::PreAnneal, 2);
    assert_eq!(seen.len(), 40);
    assert_eq!(seen[19].0, Moment { task: 0, done: 20, end: true });
    // A run whose first task ends with the constant phase (16 is its last step) goes the same way in the second.
    struct Cut(InfiniteSchedule);
    impl TaskSchedule for Cut {
        fn lr(&self, task: usize, n: usize) -> f64 {
            self.0.lr(task, n)
        }
        fn steps(&self) -> usize {
            self.0.constant_end + 1
        }
        fn check(&self) -> autodidact_core::Result<()> {
            Ok(())
        }
    }
    let cut = states(&Cut(s), Resume::Annealed, 2);
    assert!(equal(&seen[16].1, &cut[16].1));
    for n in 0..=16 {
        assert!(equal(&seen[20 + n].1, &cut[17 + n].1), "step {n} of the second task");
    }
    // From annealed weights it is another run.
    let annealed = states(&s, Resume::Annealed, 2);
    assert!(equal(&seen[19].1, &annealed[19].1) && !equal(&seen[20].1, &annealed[20].1));
    // And a repeated cosine has nothing to go back to.
    let cosine = RepeatedCosine { eta_max: 0.1, eta_min: 0.0, warmup: 2, total: 20 };
    let (a, b) = (states(&cosine, Resume::PreAnneal, 2), states(&cosine, Resume::Annealed, 2));
    assert!(a.iter().zip(&b).all(|(a, b)| equal(&a.1, &b.1)));
}

#[test]
fn matrices_say_what_was_learnt_and_forgotten() {
    let m = ContinualMatrix::new(vec![vec![0.5, 0.1, 0.0], vec![0.6, 0.7, 0.2], vec![0.4, 0.6, 0.9]]).unwrap();
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    near(m.average(), 1.9 / 3.0);
    near(m.forgetting(), (0.2 + 0.1) / 2.0);
    near(m.backward_transfer(), (-0.1 - 0.1) / 2.0);
    near(m.forward_transfer(&[0.0, 0.05, 0.05]).unwrap(), (0.05 + 0.15) / 2.0);
    let one = ContinualMatrix::new(vec![vec![0.3]]).unwrap();
    assert_eq!((one.average(), one.forgetting(), one.backward_transfer()), (0.3, 0.0, 0.0));
}

#[test]
fn reservoirs_hold_a_uniform_sample() {
    let mut counts = [0; 20];
    for seed in 0..400 {
        let mut rng = autodidact_core::seed::rng(seed, &["reservoir"]);
        let mut buffer = ReservoirBuffer::new(5).unwrap();
        assert!(buffer.sample(3, &mut rng).is_empty());
        (0..20usize).for_each(|i| buffer.add(i, &mut rng));
        assert_eq!(buffer.items().len(), 5);
        buffer.items().iter().for_each(|i| counts[*i] += 1);
        assert!(buffer.sample(7, &mut rng).iter().all(|i| buffer.items().contains(i)));
    }
    // Each of the 20 is kept in a quarter of 400 runs; the standard deviation is 8.7.
    assert!(counts.iter().all(|c| (65..135).contains(c)), "{counts:?}");
}

#[test]
fn penalties_hold_what_the_last_task_needed() {
    let w = Tensor::from_slice(&[1f32, 2.0]).set_requires_grad(true);
    let params = [w.shallow_clone()];
    // Gradients (2, 0) and (0, 4) in turn: Fisher information (2, 8).
    let ewc = Ewc::new(&params, 2, 3.0, |i| Ok(w.get(i as i64) * (2 * (i as i64 + 1)))).unwrap();
    assert_eq!(ewc.penalty(&params).unwrap().double_value(&[]), 0.0);
    let moved = [Tensor::from_slice(&[2f32, 2.5])];
    // 3/2 (2 * 1 + 8 * 0.25).
    assert!((ewc.penalty(&moved).unwrap().double_value(&[]) - 6.0).abs() < 1e-6);
    let penalty = ewc.penalty(&params).unwrap();
    let g = Tensor::run_backward(&[&penalty], &[&w], false, false).swap_remove(0);
    assert_close("gradient at the anchor", &g, &g.zeros_like(), 0.0);
    assert!(ewc.penalty(&[]).is_err());
    assert!(Ewc::new(&[], 1, 1.0, |_| Ok(w.sum(Kind::Float))).is_err());
    let (a, b) = (Tensor::from_slice(&[1.0, 3.0]).set_requires_grad(true), Tensor::from_slice(&[0.0, 1.0]));
    assert_eq!(feature_distillation(&a, &b).unwrap().double_value(&[]), 2.5);
    assert!(!feature_distillation(&b, &a).unwrap().requires_grad());
    assert!(feature_distillation(&a, &b.narrow(0, 0, 1)).is_err());
}

#[test]
fn settings_that_make_no_sense_are_errors() {
    let s = schedule();
    let refused = |s: &dyn TaskSchedule, word: &str| {
        let e = s.check().unwrap_err().to_string();
        assert!(e.contains(word), "{e}");
    };
    s.check().unwrap();
    refused(&InfiniteSchedule { cooldown_end: 900, ..s }, "in order");
    refused(&InfiniteSchedule { eta_min: 0.0, ..s }, "eta_min");
    refused(&InfiniteSchedule { eta_const: f64::NAN, ..s }, "eta_const");
    refused(&InfiniteSchedule { cooldown: Cooldown::InverseSqrt { timescale: 0.0 }, ..s }, "timescale");
    refused(&RepeatedCosine { eta_max: 1.0, eta_min: 0.0, warmup: 11, total: 10 }, "warm-up");
    let whole = RepeatedCosine { eta_max: 1.0, eta_min: 0.0, warmup: 1, total: 10 };
    refused(&SingleCosine { whole, tasks: 3 }, "divisor");
    refused(&ConstantRate { eta: -1.0, warmup: 0, total: 10 }, "eta");
    assert!(ContinualMatrix::new(vec![]).is_err());
    assert!(ContinualMatrix::new(vec![vec![1.0, 2.0]]).is_err());
    assert!(ContinualMatrix::new(vec![vec![f64::NAN]]).is_err());
    assert!(ReservoirBuffer::<i64>::new(0).is_err());
}
