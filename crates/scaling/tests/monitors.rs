//! Monitors: the numbers of the paper's sheet, formulas written out, bad input.

use autodidact_core::Error;
use autodidact_core::nn::BlockTrace;
use autodidact_core::optim::{Adam, Group, Optimizer, Rule};
use autodidact_core::testing::{assert_close, check_gradient};
use autodidact_scaling::monitors::{
    Pairs, Polynomial, Recorder, adam_direction, adam_update_rms, attention_stats, cross_entropy_with_z, gradient_norm,
    gradient_rms, lr_sensitivity, lr_sensitivity_over_ranges, max_attention_logit, output_stats, predict_next_scale,
    rms, z_loss,
};
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor};

const LRS: [f64; 6] = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1];
const ON: [f64; 6] = [2.568, 2.412, 2.322, 2.415, 2.469, 2.509];
const OFF: [f64; 6] = [2.549, 2.393, 2.309, 2.499, 2.772, 3.104];
const L0: f64 = 4.577;

fn curve(losses: &[f64]) -> Vec<(f64, f64)> {
    LRS.into_iter().zip(losses.iter().copied()).collect()
}

fn said<T: std::fmt::Debug>(result: autodidact_core::Result<T>) -> String {
    result.map_err(|e: Error| e.to_string()).unwrap_err()
}

#[test]
fn sensitivities_of_known_curves() {
    let (on, off) = (lr_sensitivity(&curve(&ON), L0).unwrap(), lr_sensitivity(&curve(&OFF), L0).unwrap());
    assert!((on.value - 0.1272).abs() < 5e-5 && (off.value - 0.2953).abs() < 5e-5, "{on:?} {off:?}");
    assert_eq!((on.best_lr, on.best_loss, on.diverged), (1e-2, 2.322, 0));
    // A run that ends in NaN, in infinity or above the start counts as the start.
    for bad in [f64::NAN, f64::INFINITY, 17.0, L0] {
        let mut losses = ON;
        losses[5] = bad;
        let s = lr_sensitivity(&curve(&losses), L0).unwrap();
        assert!((s.value - 0.4718).abs() < 5e-5 && s.diverged == 1, "{s:?}");
    }
    // The level of the loss does not matter.
    let raised: Vec<f64> = ON.iter().map(|l| l + 3.0).collect();
    assert!((lr_sensitivity(&curve(&raised), L0 + 3.0).unwrap().value - on.value).abs() < 1e-12);
}

#[test]
fn ranges_make_up_for_a_shifted_optimum() {
    let points = curve(&OFF);
    let low = lr_sensitivity_over_ranges(&points, L0, &[(1e-3, 3e-2), (1e-2, 3e-1)]).unwrap();
    assert_eq!(low.value, lr_sensitivity(&points[..4], L0).unwrap().value);
    assert!(said(lr_sensitivity_over_ranges(&points, L0, &[])).contains("ranges"));
    assert!(said(lr_sensitivity_over_ranges(&points, L0, &[(1.0, 2.0)])).contains("finite"));
    assert!(said(lr_sensitivity(&[(1e-3, f64::NAN)], L0)).contains("at least one finite"));
    assert!(said(lr_sensitivity(&[(1e-3, 1.0), (1e-3, 2.0)], L0)).contains("twice"));
    assert!(lr_sensitivity(&[(0.0, 1.0)], L0).is_err() && lr_sensitivity(&points, f64::NAN).is_err());
}

fn block(queries: &[f32], keys: &[f32], scale: f64) -> BlockTrace {
    // One head of width 2.
    let of = |x: &[f32]| Tensor::from_slice(x).view([1, 1, x.len() as i64 / 2, 2]);
    BlockTrace { queries: of(queries), keys: of(keys), scale, output: Tensor::zeros([1], (Kind::Float, Device::Cpu)) }
}

#[test]
fn attention_scores_are_read_before_mask_and_softmax() {
    // Queries (1, 0), (0, 2); keys (1, 1), (3, 0). Scores 1, 3; 2, 0, of which the first query's second is hidden.
    let b = block(&[1.0, 0.0, 0.0, 2.0], &[1.0, 1.0, 3.0, 0.0], 0.5);
    let max = |pairs| max_attention_logit(&b, pairs).unwrap().double_value(&[]);
    assert_eq!((max(Pairs::Causal), max(Pairs::All)), (1.0, 1.5));
    let stats = attention_stats(&b, Pairs::Causal).unwrap();
    assert_eq!(stats.max_logit.double_value(&[]), 1.0);
    assert_eq!(stats.query_norm.double_value(&[]), 1.5);
    assert!((stats.key_norm.double_value(&[]) - (2f64.sqrt() + 3.0) / 2.0).abs() < 1e-6);
    // Cosines 1/sqrt 2, 1/sqrt 2 and 0.
    assert!((stats.cosine.double_value(&[]) - (1f64 / 3.0).sqrt()).abs() < 1e-6);
    // All scores negative: the mask's place in the matrix must not win.
    let negative = block(&[-1.0, 0.0, 0.0, -2.0], &[1.0, 1.0, 3.0, 1.0], 1.0);
    assert_eq!(max_attention_logit(&negative, Pairs::Causal).unwrap().double_value(&[]), -1.0);
    let broken = block(&[f32::NAN, 0.0], &[1.0, 0.0], 1.0);
    assert!(max_attention_logit(&broken, Pairs::Causal).unwrap().double_value(&[]).is_nan());
    // Groups of queries share keys.
    tch::manual_seed(1);
    let random = |h: i64| Tensor::randn([2, h, 5, 4], (Kind::Float, Device::Cpu));
    let mut grouped = BlockTrace { queries: random(6), keys: random(3), scale: 0.5, output: random(1) };
    let a = attention_stats(&grouped, Pairs::Causal).unwrap();
    grouped.keys = grouped.keys.repeat_interleave_self_int(2, 1, None);
    let b = attention_stats(&grouped, Pairs::Causal).unwrap();
    assert_close("max", &a.max_logit, &b.max_logit, 1e-6);
    assert_close("cosine", &a.cosine, &b.cosine, 1e-6);
    grouped.keys = random(4);
    assert!(said(attention_stats(&grouped, Pairs::All)).contains("keys"));
}

#[test]
fn the_z_loss_pulls_on_the_normaliser_alone() {
    let y = Tensor::zeros([1, 2], (Kind::Double, Device::Cpu)).set_requires_grad(true);
    let z = z_loss(&y).unwrap();
    assert!((z.double_value(&[]) - 0.480453).abs() < 1e-6);
    z.backward();
    // 2 log Z p = 2 * 0.693147 / 2.
    assert!((y.grad().double_value(&[0, 1]) - std::f64::consts::LN_2).abs() < 1e-6);

    tch::manual_seed(2);
    let logits = Tensor::randn([3, 4, 7], (Kind::Double, Device::Cpu)) * 3.0;
    let targets = Tensor::randint(7, [3, 4], (Kind::Int64, Device::Cpu));
    let (entropy, z) = cross_entropy_with_z(&logits, &targets).unwrap();
    let want = logits.view([12, 7]).log_softmax(-1, Kind::Double).nll_loss(&targets.view(-1));
    assert_close("cross-entropy", &entropy, &want, 1e-12);
    assert_close("z", &z, &z_loss(&logits).unwrap(), 1e-12);
    // A shift of all logits moves only the z-loss.
    let (shifted, moved) = cross_entropy_with_z(&(&logits - 9.0), &targets).unwrap();
    assert_close("shifted", &shifted, &entropy, 1e-12);
    assert!((moved - z).abs().double_value(&[]) > 1.0);
    check_gradient(&logits, 1e-7, |y| {
        let (entropy, z) = cross_entropy_with_z(y, &targets).unwrap();
        entropy + z * 0.1
    });
    assert!(said(cross_entropy_with_z(&logits, &targets.view(-1))).contains("[3, 4]"));
    assert!(said(z_loss(&targets)).contains("floating-point"));

    let stats = output_stats(&logits).unwrap();
    assert_eq!(stats.min.double_value(&[]), logits.min().double_value(&[]));
    let log_z = logits.exp().sum_dim_intlist([-1i64].as_slice(), false, Kind::Double).log();
    assert_close("log Z", &stats.log_z, &log_z.mean(Kind::Double), 1e-12);
    assert_close("min log Z", &stats.min_log_z, &log_z.min(), 1e-12);
}

#[test]
fn sizes_of_gradients_and_updates() {
    let vs = VarStore::new(Device::Cpu);
    let [a, b] = ["a", "b"].map(|n| vs.root().var(n, &[2], Init::Const(1.0)));
    assert!(said(gradient_rms(&a)).contains("backward"));
    assert!(said(gradient_norm(&[a.shallow_clone()])).contains("backward"));
    let adam = Adam { eps: 1e-7, ..Adam::default() };
    let mut optimizer = Optimizer::new(Rule::AdamW(adam), vec![Group::all(&vs, 0.0)]).unwrap();
    assert!(said(adam_direction(&optimizer.state_dict(), "a", &adam)).contains("after a step"));
    for _ in 0..3 {
        optimizer.zero_grad();
        // A constant gradient: (3, -4) e-7.
        ((&a * Tensor::from_slice(&[3e-7f32, -4e-7])).sum(Kind::Float) + b.sum(Kind::Float) * 0.0).backward();
        optimizer.step(1e-3).unwrap();
    }
    assert!((gradient_rms(&a).unwrap().double_value(&[]) - 12.5e-14f64.sqrt()).abs() < 1e-12);
    let all = [a.shallow_clone(), b, Tensor::zeros([1], (Kind::Float, Device::Cpu))];
    assert!((gradient_norm(&all).unwrap().double_value(&[]) - 5e-7).abs() < 1e-12);
    let direction = adam_direction(&optimizer.state_dict(), "a", &adam).unwrap();
    assert!((direction.double_value(&[0]) - adam_update_rms(3e-7, 1e-7)).abs() < 1e-4);
    assert!((direction.double_value(&[1]) + 0.8).abs() < 1e-4);
    assert!((rms(&direction).double_value(&[]) - ((0.75f64.powi(2) + 0.64) / 2.0).sqrt()).abs() < 1e-4);
    // The parameter moved by the learning rate times the directions (constant here).
    assert!((a.double_value(&[1]) - (1.0 + 3e-3 * 0.8)).abs() < 1e-6);
    assert!(said(adam_direction(&optimizer.state_dict(), "c", &adam)).contains("exp_avg of c"));
    assert!((adam_update_rms(1e-7, 1e-8) - 0.90909).abs() < 1e-5 && adam_update_rms(1e-8, 1e-8) == 0.5);
}

#[test]
fn layer_norms_hand_back_gradients_that_shrink_with_their_input() {
    let gradient = |x: [f64; 2], centred: bool| {
        let x = Tensor::from_slice(&x).set_requires_grad(true);
        let z = match centred {
            true => x.layer_norm([2], None::<&Tensor>, None::<&Tensor>, 1e-30, false),
            false => x.rms_norm([2], None::<&Tensor>, 1e-30),
        };
        z.get(0).backward();
        x.grad()
    };
    let close = |got: Tensor, want: [f64; 2]| (got - Tensor::from_slice(&want)).abs().max().double_value(&[]) < 1e-9;
    assert!(close(gradient([1.0, -1.0], false), [0.5, 0.5]));
    assert!(close(gradient([2.0, -2.0], false), [0.25, 0.25]));
    assert!(close(gradient([1.0, -1.0], true), [0.0, 0.0]));
    assert!(close(gradient([10.0, -10.0], false), [0.05, 0.05]));
}

#[test]
fn polynomials_extrapolate() {
    // 2 - 3 x + 0.5 x^2 through more points than it needs, far from 0.
    let f = |x: f64| 2.0 - 3.0 * x + 0.5 * x * x;
    let x: Vec<f64> = (0..6).map(|i| 100.0 + 0.3 * f64::from(i)).collect();
    let y: Vec<f64> = x.iter().map(|x| f(*x)).collect();
    assert!((predict_next_scale(&x, &y, 2, 103.0).unwrap() - f(103.0)).abs() < 1e-6);
    // Least squares: the mean, and the line through (0, 0), (1, 0), (2, 3): -0.5 + 1.5 x.
    assert!((Polynomial::fit(&[0.0, 1.0, 2.0], &[0.0, 0.0, 3.0], 0).unwrap().at(7.0) - 1.0).abs() < 1e-12);
    assert!((predict_next_scale(&[0.0, 1.0, 2.0], &[0.0, 0.0, 3.0], 1, 4.0).unwrap() - 5.5).abs() < 1e-12);
    assert!(said(predict_next_scale(&[1.0, 1.0, 2.0], &[1.0; 3], 2, 3.0)).contains("at least 3 different"));
    assert!(predict_next_scale(&[1.0, 2.0, 3.0], &[1.0, f64::NAN, 1.0], 2, 4.0).is_err());
    assert!(said(predict_next_scale(&[1.0, 2.0], &[1.0], 1, 4.0)).contains("2 values"));
}

#[test]
fn recorders_refuse_what_does_not_fit() {
    let mut r = Recorder::new(&["a"]);
    assert_eq!(r.take().unwrap(), [("a", vec![])]);
    assert!(said(r.push(&[])).contains("1 ([\"a\"])"));
    assert!(said(r.push(&[Tensor::zeros([2], (Kind::Float, Device::Cpu))])).contains("a scalar"));
}
