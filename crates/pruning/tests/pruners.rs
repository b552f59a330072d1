//! `torch.nn.utils.prune` as a peer, exact counts, and masks that hold while a network trains.

use autodidact_core::masks::{Masks, prune_in_rounds};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule, Sgd, Snapshot};
use autodidact_core::testing::fixture;
use autodidact_core::{Error, seed};
use autodidact_pruning::pruners::*;
use autodidact_pruning::storage;
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

fn of(masks: &Masks) -> Vec<f32> {
    masks.iter().flat_map(|(_, m)| Vec::<f32>::try_from(m.flatten(0, -1)).unwrap()).collect()
}

fn example() -> Masks {
    let w = Tensor::from_slice(&[0.1f32, -0.5, 0.3, 0.05, 0.9, -0.2, 0.4, -0.7]).view([2, 4]);
    Masks::of(vec![("w".into(), w)])
}

fn big() -> Masks {
    tch::manual_seed(1);
    let parts = [[300i64, 400], [80, 400], [64, 750]].map(|s| Tensor::randn(s, F32));
    Masks::of(parts.into_iter().enumerate().map(|(i, p)| (i.to_string(), p)).collect())
}

#[test]
fn masks_are_torchs() {
    let golden = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pruners.safetensors"));
    let names = ["a", "b", "c"];
    let dense = Masks::of(names.iter().map(|n| ((*n).to_owned(), golden[*n].shallow_clone())).collect());
    for amount in ["0.1", "0.25", "0.5", "0.75", "0.9"] {
        let s: f64 = amount.parse().unwrap();
        for (kind, masks) in
            [("global", global_magnitude(&dense, s).unwrap()), ("layer", layerwise_magnitude(&dense, s).unwrap())]
        {
            for (name, mask) in masks.iter() {
                assert_eq!(mask, &golden[&format!("{kind}/{amount}/{name}")], "{kind} {amount} {name}");
            }
        }
    }
}

#[test]
fn global_and_row_wise_masks_differ() {
    let w = example();
    assert_eq!(of(&global_magnitude(&w, 0.5).unwrap()), [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0]);
    assert_eq!(of(&n_of_m(&w, 2, 4).unwrap()), [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
    // N counts what is kept.
    assert_eq!(n_of_m(&w, 1, 4).unwrap().kept(), 2);
    assert_eq!(n_of_m(&w, 3, 4).unwrap().kept(), 6);
    // Of equals the first.
    let equal = Masks::of(vec![("w".into(), Tensor::ones([1, 4], F32))]);
    assert_eq!(of(&n_of_m(&equal, 2, 4).unwrap()), [1.0, 1.0, 0.0, 0.0]);
    assert_eq!(of(&global_magnitude(&equal, 0.25).unwrap()), [1.0, 1.0, 1.0, 0.0]);
    // Kernels: groups run along the inputs of one filter.
    let kernel = Masks::of(vec![("w".into(), Tensor::arange(16, F32).view([2, 2, 2, 2]))]);
    assert_eq!(of(&n_of_m(&kernel, 1, 8).unwrap()).iter().sum::<f32>(), 2.0);
}

#[test]
fn counts_are_exact_and_masks_nested() {
    let dense = big();
    let n = dense.len();
    let mut rng = seed::rng(0, &["random"]);
    let mut before = dense.with(dense.iter().map(|(_, m)| m.copy()).collect()).unwrap();
    for s in [0.0, 0.1, 0.3, 0.5, 0.6, 0.9, 1.0] {
        let kept = n - (s * n as f64).round_ties_even() as i64;
        let masks = global_magnitude(&dense, s).unwrap();
        assert_eq!(masks.kept(), kept);
        assert!(masks.is_nested_in(&before).unwrap(), "{s}");
        before = masks;
        assert_eq!(global_random(&dense, s, &mut rng).unwrap().kept(), kept);
        for (d, (_, m)) in layerwise_magnitude(&dense, s).unwrap().densities().into_iter().zip(dense.iter()) {
            assert!((d.1 - (1.0 - s)).abs() <= 0.5 / m.numel() as f64 + 1e-12);
        }
    }
    // Masks of one sparsity that know nothing of each other have a cosine of their density.
    let [a, b] = [0, 1].map(|i| global_random(&dense, 0.4, &mut seed::rng(i, &["random"])).unwrap());
    assert!((a.cosine(&b).unwrap() - 0.6).abs() < 0.002);
    assert_eq!(a.cosine(&global_random(&dense, 0.4, &mut seed::rng(0, &["random"])).unwrap()).unwrap(), 1.0);
    // A further pruning keeps what is masked masked.
    let further = global_random(&a, 0.7, &mut rng).unwrap();
    assert!(further.is_nested_in(&a).unwrap());
    assert!(global_random(&a, 0.2, &mut rng).is_err());
}

#[test]
fn small_layers_stay_denser() {
    let shapes = vec![vec![64, 3, 3, 3], vec![128, 64, 3, 3], vec![10, 128]];
    for s in [0.5, 0.9, 0.98] {
        let densities = erdos_renyi_densities(&shapes, s).unwrap();
        let sizes = shapes.iter().map(|s| s.iter().product::<i64>() as f64);
        let total: f64 = sizes.clone().sum();
        let kept: f64 = densities.iter().zip(sizes).map(|(d, n)| d * n).sum();
        assert!((kept - (1.0 - s) * total).abs() < 1e-6);
        assert!(densities.iter().all(|d| (0.0..=1.0).contains(d)) && densities[1] < densities[0]);
    }
    assert_eq!(erdos_renyi_densities(&shapes, 0.5).unwrap()[0], 1.0, "what would exceed 1 is dense");
    let dense = big();
    let masks = erdos_renyi_kernel(&dense, 0.8, &mut seed::rng(0, &["erk"])).unwrap();
    assert!((masks.density() - 0.2).abs() < 1e-4);
    assert!(masks.densities()[1].1 > masks.densities()[0].1);
}

/// A network of two matrices and a bias, its input and its targets.
fn problem() -> (VarStore, Tensor, Tensor) {
    tch::manual_seed(2);
    let vs = VarStore::new(Device::Cpu);
    let root = vs.root();
    let normal = Init::Randn { mean: 0.0, stdev: 0.5 };
    for (name, shape) in [("first", &[6i64, 5][..]), ("second", &[3, 6]), ("bias", &[6])] {
        let _ = root.var(name, shape, normal);
    }
    let x = Tensor::randn([20, 5], F32);
    let y = Tensor::randn([20, 3], F32);
    (vs, x, y)
}

fn loss(vs: &VarStore, x: &Tensor, y: &Tensor) -> Tensor {
    let v = vs.variables();
    let hidden = (x.matmul(&v["first"].tr()) + &v["bias"]).tanh();
    (hidden.matmul(&v["second"].tr()) - y).square().mean(Kind::Float)
}

fn train(vs: &VarStore, x: &Tensor, y: &Tensor, rule: Rule, steps: usize, masks: &Masks) {
    let mut optimizer = Optimizer::new(rule, vec![Group::all(vs, 0.1)]).unwrap();
    for _ in 0..steps {
        optimizer.zero_grad();
        loss(vs, x, y).backward();
        optimizer.step(0.05).unwrap();
        masks.apply();
    }
}

#[test]
fn masked_weights_stay_zero_in_training() {
    for rule in [Rule::AdamW(Adam::default()), Rule::Sgd(Sgd { momentum: 0.9, nesterov: false })] {
        let (vs, x, y) = problem();
        let masks = global_magnitude(&matrices(&vs, |_| true).unwrap(), 0.6).unwrap();
        assert_eq!(masks.len(), 48, "the bias is not pruned");
        masks.apply();
        train(&vs, &x, &y, rule, 10, &masks);
        let variables = vs.variables();
        for (name, mask) in masks.iter() {
            let masked = variables[name].masked_select(&mask.eq(0.0));
            assert_eq!(masked.count_nonzero(None).int64_value(&[]), 0);
        }
    }
}

#[test]
fn nothing_pruned_is_the_dense_network_and_everything_leaves_the_biases() {
    let (vs, x, y) = problem();
    let dense = matrices(&vs, |_| true).unwrap();
    let before = loss(&vs, &x, &y);
    global_magnitude(&dense, 0.0).unwrap().apply();
    assert_eq!(loss(&vs, &x, &y), before);
    global_magnitude(&dense, 1.0).unwrap().apply();
    assert_eq!(loss(&vs, &x, &y), y.square().mean(Kind::Float));
    assert!(matrices(&vs, |name| name == "bias").is_err());
    assert_eq!(matrices(&vs, |name| name == "first").unwrap().len(), 30);
}

#[test]
fn lottery_tickets_without_training_are_one_shot() {
    let (vs, x, y) = problem();
    let dense = matrices(&vs, |_| true).unwrap();
    let start = Snapshot::of_parameters(&vs);
    let tickets = |steps: usize| {
        let rule = Rule::Sgd(Sgd::default());
        let run =
            prune_in_rounds(matrices(&vs, |_| true).unwrap(), &start, &[0.75, 0.5], |_, masks| -> Result<f64, Error> {
                train(&vs, &x, &y, rule, steps, masks);
                Ok(loss(&vs, &x, &y).double_value(&[]))
            });
        let (masks, measured) = run.unwrap();
        start.restore();
        (masks, measured)
    };
    let one_shot = global_magnitude(&dense, 0.5).unwrap();
    let (masks, measured) = tickets(0);
    assert_eq!(masks.cosine(&one_shot).unwrap(), 1.0);
    assert_eq!(measured.iter().map(|m| m.0).collect::<Vec<_>>(), [1.0, 0.75, 0.5]);
    let (trained, _) = tickets(60);
    let cosine = trained.cosine(&one_shot).unwrap();
    assert!(cosine < 1.0, "training moves the ranking: {cosine}");
}

#[test]
fn pruned_networks_are_smaller_on_disk_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pruned.safetensors");
    let store = |seed: i64| {
        tch::manual_seed(seed);
        let vs = VarStore::new(Device::Cpu);
        let normal = Init::Randn { mean: 0.0, stdev: 1.0 };
        for (name, shape) in [("w", &[100i64, 101][..]), ("b", &[100])] {
            let _ = vs.root().var(name, shape, normal);
        }
        vs
    };
    let vs = store(0);
    let masks = global_magnitude(&matrices(&vs, |_| true).unwrap(), 0.9).unwrap();
    masks.apply();
    storage::save(&path, &vs, &masks).unwrap();
    let size = std::fs::metadata(&path).unwrap().len();
    // 4 bytes for a tenth of the weights, a bit for each, the biases and the header; dense: 40,800.
    assert!(size < 4040 + 1263 + 400 + 600, "{size}");

    let other = store(1);
    let loaded = storage::load(&path, &other).unwrap();
    for (name, v) in vs.variables() {
        assert_eq!(v, other.variables()[&name]);
    }
    assert_eq!(loaded.cosine(&masks).unwrap(), 1.0);
    assert_eq!(loaded.densities(), masks.densities());

    // What does not fit changes nothing.
    let wrong = VarStore::new(Device::Cpu);
    let w = wrong.root().var("w", &[100, 100], Init::Const(7.0));
    let _ = wrong.root().var("b", &[100], Init::Const(7.0));
    assert!(storage::load(&path, &wrong).unwrap_err().to_string().contains("another network"));
    assert_eq!(w.min().double_value(&[]), 7.0);
    std::fs::write(&path, b"damaged").unwrap();
    assert!(storage::load(&path, &other).unwrap_err().to_string().contains("a safetensors file"));
    assert!(storage::load(folder.path().join("none"), &other).is_err());
    for strange in [example(), Masks::of(vec![("x".into(), Tensor::ones([100, 101], F32))])] {
        assert!(storage::save(&path, &vs, &strange).unwrap_err().to_string().starts_with("masks: "));
    }
}

#[test]
fn bad_input_is_refused() {
    let w = example();
    let said = |e: Error| e.to_string();
    assert!(said(global_magnitude(&w, 1.5).unwrap_err()).starts_with("sparsity: "));
    assert!(said(global_magnitude(&w, f64::NAN).unwrap_err()).starts_with("sparsity: "));
    assert!(said(n_of_m(&w, 3, 2).unwrap_err()).starts_with("n of n:m: "));
    assert!(said(n_of_m(&w, 1, 3).unwrap_err()).starts_with("inputs of w: expected a multiple of 3"));
    let half = global_magnitude(&w, 0.5).unwrap();
    assert!(said(n_of_m(&half, 2, 4).unwrap_err()).starts_with("masks of n:m: "));
    assert!(said(global_magnitude(&half, 0.25).unwrap_err()).starts_with("weights to keep: "));
    assert!(said(erdos_renyi_densities(&[vec![3]], 0.5).unwrap_err()).starts_with("shapes: "));
    let bad = Masks::of(vec![("w".into(), Tensor::from_slice(&[1.0f32, f32::INFINITY]).view([1, 2]))]);
    assert!(said(global_magnitude(&bad, 0.5).unwrap_err()).starts_with("w: expected finite"));
    assert!(said(n_of_m(&bad, 1, 2).unwrap_err()).starts_with("w: expected finite"));
}
