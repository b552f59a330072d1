//! Optimizers against PyTorch's, their state, averages and bad input.

use autodidact_core::optim::{Adam, Ema, Group, Lars, Optimizer, Rule, Sgd};
use autodidact_core::testing::{assert_close, fixture};
use std::collections::BTreeMap;
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor};

const NAMES: [&str; 4] = ["w1", "b1", "w2", "b2"];

fn network(golden: &BTreeMap<String, Tensor>) -> VarStore {
    let mut vs = VarStore::new(Device::Cpu);
    for name in NAMES {
        let _ = vs.root().var_copy(name, &golden[&format!("init.{name}")]);
    }
    vs.double();
    tch::no_grad(|| NAMES.iter().for_each(|n| vs.variables()[*n].shallow_clone().copy_(&golden[&format!("init.{n}")])));
    vs
}

fn loss(vs: &VarStore, golden: &BTreeMap<String, Tensor>) -> Tensor {
    let p = vs.variables();
    let hidden = (golden["x"].matmul(&p["w1"].tr()) + &p["b1"]).tanh();
    (hidden.matmul(&p["w2"].tr()) + &p["b2"] - &golden["y"]).square().mean(Kind::Double)
}

fn groups(vs: &VarStore) -> Vec<Group> {
    let of = |names: [&str; 2], decay| {
        Group::of(names.map(|n| (n.to_owned(), vs.variables()[n].shallow_clone())).into(), decay)
    };
    vec![of(["w1", "w2"], 0.1), Group { adapt: false, ..of(["b1", "b2"], 0.0).scaled(0.3) }]
}

fn rules() -> [(&'static str, Rule, f64, Option<f64>); 7] {
    let sgd = |momentum, nesterov| Rule::Sgd(Sgd { momentum, nesterov });
    let adam = Adam { betas: (0.9, 0.95), ..Default::default() };
    [
        ("sgd", sgd(0.0, false), 0.1, None),
        ("momentum", sgd(0.9, false), 0.05, None),
        ("nesterov", sgd(0.9, true), 0.05, None),
        ("clipped", sgd(0.9, false), 0.05, Some(0.1)),
        ("adam", Rule::Adam(adam), 0.02, None),
        ("adamw", Rule::AdamW(adam), 0.02, None),
        ("lars", Rule::Lars(Lars { momentum: 0.9, eta: 0.02 }), 0.5, None),
    ]
}

#[test]
fn fifty_steps_follow_pytorch() {
    let golden = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/optim.safetensors"));
    for (name, rule, lr, clip) in rules() {
        let vs = network(&golden);
        let mut optimizer = Optimizer::new(rule, groups(&vs)).unwrap();
        for i in 0..50 {
            optimizer.zero_grad();
            loss(&vs, &golden).backward();
            if let Some(max) = clip {
                let _norm = optimizer.clip_grad_norm(max).unwrap();
            }
            optimizer.step(lr * (1.0 - f64::from(i) / 50.0)).unwrap();
            for p in NAMES {
                if let Some(want) = golden.get(&format!("{name}.{}.{p}", i + 1)) {
                    assert_close(&format!("{name}, step {}, {p}", i + 1), &vs.variables()[p], want, 1e-6);
                }
            }
        }
    }
}

#[test]
fn saved_state_continues_the_very_same_run() {
    let golden = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/optim.safetensors"));
    for (name, rule, lr, _) in rules() {
        let run = |vs: &VarStore, optimizer: &mut Optimizer, steps: usize| {
            for _ in 0..steps {
                optimizer.zero_grad();
                loss(vs, &golden).backward();
                optimizer.step(lr).unwrap();
            }
        };
        let whole = network(&golden);
        let mut optimizer = Optimizer::new(rule, groups(&whole)).unwrap();
        run(&whole, &mut optimizer, 12);

        let first = network(&golden);
        let mut optimizer = Optimizer::new(rule, groups(&first)).unwrap();
        run(&first, &mut optimizer, 5);
        let mut second = network(&golden);
        second.copy(&first).unwrap();
        let mut resumed = Optimizer::new(rule, groups(&second)).unwrap();
        resumed.load_state_dict(&optimizer.state_dict()).unwrap();
        run(&second, &mut resumed, 7);
        for p in NAMES {
            assert_eq!(second.variables()[p], whole.variables()[p], "{name}: {p}");
        }
    }
}

#[test]
fn state_of_another_shape_or_rule_is_refused_and_changes_nothing() {
    let golden = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/optim.safetensors"));
    let vs = network(&golden);
    let mut optimizer = Optimizer::new(Rule::AdamW(Adam::default()), groups(&vs)).unwrap();
    let before = optimizer.state_dict();
    let mut state = optimizer.state_dict();
    state.insert("w1.exp_avg".into(), Tensor::zeros([1], (Kind::Double, Device::Cpu)));
    assert!(optimizer.load_state_dict(&state).unwrap_err().to_string().contains("w1.exp_avg"));
    state.remove("w1.exp_avg");
    assert!(optimizer.load_state_dict(&state).unwrap_err().to_string().contains("no such entry"));
    let mut more = optimizer.state_dict();
    more.insert("other".into(), Tensor::from(0.0));
    assert!(optimizer.load_state_dict(&more).is_err());
    assert_eq!(before, optimizer.state_dict());
}

#[test]
fn groups_split_by_shape_and_parameters_without_gradient_stay() {
    let vs = VarStore::new(Device::Cpu);
    let w = vs.root().var("w", &[2, 2], Init::Const(1.0));
    let unused = vs.root().var("unused", &[3], Init::Const(1.0));
    let mut optimizer = Optimizer::new(Rule::AdamW(Adam::default()), Group::split_decay(&vs, 0.5)).unwrap();
    let decays: Vec<_> = optimizer.groups().iter().map(|g| (g.names.clone(), g.weight_decay, g.adapt)).collect();
    assert_eq!(decays, [(vec!["w".to_owned()], 0.5, true), (vec!["unused".to_owned()], 0.0, false)]);
    w.sum(Kind::Float).backward();
    optimizer.step(0.1).unwrap();
    // Decoupled decay by 0.1 * 0.5, then Adam's first step.
    assert!((w.double_value(&[0, 0]) - 0.85).abs() < 1e-6);
    assert_eq!(unused.double_value(&[0]), 1.0);
}

#[test]
fn averages_follow_the_online_network() {
    let online = VarStore::new(Device::Cpu);
    let w = online.root().var("w", &[2], Init::Const(1.0));
    let mut target = VarStore::new(Device::Cpu);
    let t = target.root().var("w", &[2], Init::Const(7.0));
    let mut ema = Ema::new(&mut target, &online).unwrap();
    assert_eq!(t.double_value(&[0]), 1.0, "the online values are taken over");
    let _ = tch::no_grad(|| w.shallow_clone().fill_(3.0));
    ema.update(0.75).unwrap();
    assert_eq!(t.double_value(&[1]), 1.5);
    assert!(ema.update(1.5).is_err());
    let mut other = VarStore::new(Device::Cpu);
    let _ = other.root().var("v", &[2], Init::Const(0.0));
    assert!(Ema::new(&mut other, &online).unwrap_err().to_string().contains("a variable v"));
}

#[test]
fn bad_settings_are_errors() {
    let vs = VarStore::new(Device::Cpu);
    assert!(Optimizer::new(Rule::Sgd(Sgd::default()), vec![Group::all(&vs, 0.0)]).is_err(), "no parameters");
    let _ = vs.root().var("w", &[2], Init::Const(1.0));
    let make = |rule| Optimizer::new(rule, vec![Group::all(&vs, 0.0)]);
    assert!(make(Rule::Sgd(Sgd { momentum: 0.0, nesterov: true })).is_err());
    assert!(make(Rule::AdamW(Adam { betas: (0.9, 1.0), eps: 1e-8 })).is_err());
    let twice = Optimizer::new(Rule::Sgd(Sgd::default()), vec![Group::all(&vs, 0.0), Group::all(&vs, 0.0)]);
    assert!(twice.unwrap_err().to_string().contains("w twice"));
    let mut optimizer = make(Rule::Lars(Lars::default())).unwrap();
    assert!(optimizer.step(f64::NAN).is_err());
    assert!(optimizer.clip_grad_norm(1.0).unwrap_err().to_string().contains("a backward pass"));
}
