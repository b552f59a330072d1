//! The family of preference losses against trl's trainers, the values computed by hand, and its identities.

use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_preference::losses::{
    Kto, PairLogProbs, cpo, dpo, hinge, ipo, kto, log1mexp, nca_pair, orpo, robust_dpo, simpo, slic, soft_label_dpo,
};
use autodidact_preference::rpo::{Rpo, SftReduction};
use tch::{Kind, Tensor};

fn one(x: f64) -> Tensor {
    Tensor::from_slice(&[x])
}

fn pair(w: f64, l: f64) -> PairLogProbs {
    PairLogProbs::new(one(w), one(l)).unwrap()
}

fn near(got: &Tensor, want: f64) {
    let got = got.double_value(&[0]);
    assert!((got - want).abs() < 5e-8, "{got}, expected {want}");
}

/// lw = -12.3, ll = -10.1, references -13.0 and -9.6, of 8 and 6 tokens; beta 0.1; h = 1.2.
#[test]
fn one_pair_has_the_values_computed_by_hand() {
    let (policy, reference) = (pair(-12.3, -10.1), pair(-13.0, -9.6));
    let h = policy.margin(&reference).unwrap();
    near(&h, 1.2);
    near(&dpo(&h, 0.1).unwrap(), 0.6349461);
    near(&soft_label_dpo(&h, &Tensor::from(0.9), 0.1).unwrap(), 0.6469461);
    near(&soft_label_dpo(&h, &Tensor::from(0.8), 0.1).unwrap(), 0.6589461);
    near(&robust_dpo(&h, 0.1, 0.1).unwrap(), 0.6199461);
    near(&ipo(&h, 0.1).unwrap(), 14.44);
    near(&hinge(&h, 0.1).unwrap(), 0.88);
    near(&slic(&policy, 1.0).unwrap(), 3.2);
    near(&cpo(&policy, 0.1).unwrap(), 0.8091850);
    let (nw, nl) = (one(8.0), one(6.0));
    let means = policy.per_token(&nw, &nl).unwrap();
    near(&simpo(&means, 2.0, 1.0).unwrap(), 1.1087620);
    near(&orpo(&means).unwrap(), 0.6061421);
    near(&ipo(&means.margin(&reference.per_token(&nw, &nl).unwrap()).unwrap(), 0.1).unwrap(), 23.3208507);
    let ratios = policy.over(&reference).unwrap();
    near(&nca_pair(&ratios, 0.1).unwrap(), 1.3573692);
    let (yes, no) = (Tensor::from_slice(&[true]), Tensor::from_slice(&[false]));
    let kl = Tensor::from(0.2);
    near(&kto(&ratios.chosen, &yes, &kl, &Kto::default()).unwrap(), 0.4875026);
    near(&kto(&ratios.rejected, &no, &kl, &Kto::default()).unwrap(), 0.4825071);
}

#[test]
fn every_loss_has_the_values_and_gradients_of_trl() {
    let golden = fixture("tests/fixtures/losses.safetensors");
    let (beta, lengths) = (0.3, &golden["lengths"]);
    let reference = PairLogProbs::halves(&golden["reference"]).unwrap();
    let halves = |x: &Tensor| (x.narrow(0, 0, 5), x.narrow(0, 5, 5));
    let (nw, nl) = halves(lengths);
    let check = |name: &str, tolerance: f64, loss: &dyn Fn(&PairLogProbs) -> Tensor| {
        let leaf = golden["policy"].copy().set_requires_grad(true);
        let value = loss(&PairLogProbs::halves(&leaf).unwrap()).mean(Kind::Double);
        assert_close(name, &value.view(1), &golden[name], tolerance);
        value.backward();
        assert_close(&format!("{name}, gradient"), &leaf.grad(), &golden[&format!("{name}.gradient")], tolerance);
    };
    let margin = |p: &PairLogProbs| p.margin(&reference).unwrap();
    let means = |p: &PairLogProbs| p.per_token(&nw, &nl).unwrap();
    check("sigmoid", 1e-12, &|p| dpo(&margin(p), beta).unwrap());
    check("hinge", 1e-12, &|p| hinge(&margin(p), beta).unwrap());
    check("ipo", 1e-12, &|p| ipo(&means(p).margin(&means(&reference)).unwrap(), beta).unwrap());
    check("nca_pair", 1e-12, &|p| nca_pair(&p.over(&reference).unwrap(), beta).unwrap());
    check("robust", 1e-12, &|p| robust_dpo(&margin(p), 0.1, beta).unwrap());
    check("cpo", 1e-12, &|p| cpo(p, beta).unwrap());
    check("simpo", 1e-12, &|p| simpo(&means(p), beta, 0.5).unwrap());
    check("orpo", 1e-5, &|p| orpo(&means(p)).unwrap());
    check("slic", 1e-12, &|p| slic(p, 1.0).unwrap());
    check("soft_label", 1e-12, &|p| soft_label_dpo(&margin(p), &golden["target"], beta).unwrap());
    check("kto", 1e-12, &|p| {
        let ratios = p.over(&reference).unwrap();
        let ratio = Tensor::cat(&[ratios.chosen, ratios.rejected], 0);
        let config = Kto { beta, desirable: 1.0, undesirable: 1.5 };
        kto(&ratio, &golden["desirable"], &golden["kl"], &config).unwrap()
    });
}

#[test]
fn losses_meet_where_their_formulas_do() {
    let h = Tensor::from_slice(&[-40.0, -1.0, 0.0, 0.5, 60.0]);
    let exact = |a: Tensor, b: Tensor| assert_close("identity", &a, &b, 1e-12);
    exact(soft_label_dpo(&h, &Tensor::from(1.0), 0.1).unwrap(), dpo(&h, 0.1).unwrap());
    exact(soft_label_dpo(&h, &Tensor::from(0.0), 0.1).unwrap(), dpo(&-&h, 0.1).unwrap());
    exact(robust_dpo(&h, 0.0, 0.1).unwrap(), dpo(&h, 0.1).unwrap());
    // Least where the logistic of beta h is the target.
    for (target, best) in [(0.8, 13.8629436), (0.7, 8.472979), (0.9, 21.972246)] {
        let slope = |at: f64| {
            let h = one(at).set_requires_grad(true);
            soft_label_dpo(&h, &Tensor::from(target), 0.1).unwrap().sum(Kind::Double).backward();
            h.grad().double_value(&[0])
        };
        assert!(slope(best).abs() < 1e-7);
        assert!((slope(1.2) + 0.1 * (target - 1.0 / (1.0 + (-0.12f64).exp()))).abs() < 1e-12);
    }
    // Far margins stay finite, and so do probabilities near 1.
    assert!(dpo(&one(-1e4), 1.0).unwrap().double_value(&[0]) == 1e4);
    let near_one = PairLogProbs::new(Tensor::from_slice(&[-1e-12, -0.5]), Tensor::from_slice(&[-1e3, -1e-12])).unwrap();
    assert!(orpo(&near_one).unwrap().isfinite().all().int64_value(&[]) == 1);
}

#[test]
fn log_of_one_minus_a_probability_is_exact_at_both_ends_with_gradients() {
    let x = Tensor::from_slice(&[-1e-5, -0.1, -0.69, -0.7, -5.0, -50.0, -800.0]).set_requires_grad(true);
    let y = log1mexp(&x);
    let want = [-11.512930465, -2.3521684610, -0.69630429714, -0.68634100281, -0.0067607494495, -1.9287498480e-22, 0.0];
    for (i, want) in want.into_iter().enumerate() {
        let got = y.double_value(&[i as i64]);
        assert!((got - want).abs() <= 1e-9 * want.abs(), "{got}, expected {want}");
    }
    y.sum(Kind::Double).backward();
    assert_eq!(x.grad().isfinite().all().int64_value(&[]), 1);
    check_gradient(&x.detach().narrow(0, 1, 4), 1e-6, |x| log1mexp(x).sum(Kind::Double));
}

#[test]
fn references_and_labels_get_no_gradient() {
    let leaf = |x: f64| one(x).set_requires_grad(true);
    let (policy, reference) = (pair(-2.0, -3.0), PairLogProbs::new(leaf(-1.0), leaf(-1.5)).unwrap());
    assert!(!policy.margin(&reference).unwrap().requires_grad());
    let label = leaf(0.8);
    soft_label_dpo(&leaf(0.5), &label, 0.1).unwrap().sum(Kind::Double).backward();
    assert!(!label.grad().defined());
    let kl = leaf(0.3);
    let loss = kto(&leaf(0.5), &Tensor::from_slice(&[true]), &kl, &Kto::default()).unwrap();
    loss.sum(Kind::Double).backward();
    assert!(!kl.grad().defined());
}

#[test]
fn rpo_is_dpo_and_a_weighted_likelihood() {
    let (policy, reference) = (pair(-12.3, -10.1), pair(-13.0, -9.6));
    let lengths = one(8.0);
    let total = |config: Rpo| config.forward(&policy, &reference, &lengths).unwrap().total.view(1);
    near(&total(Rpo { beta: 0.1, eta: 0.005, reduction: SftReduction::Sum }), 0.6410961);
    near(&total(Rpo { beta: 0.1, eta: 0.2, reduction: SftReduction::Mean }), 0.9424461);
    // Bit for bit DPO without the term.
    let h = policy.margin(&reference).unwrap();
    let dpo = dpo(&h, 0.1).unwrap().mean(Kind::Double);
    assert_eq!(total(Rpo { beta: 0.1, eta: 0.0, reduction: SftReduction::Sum }), dpo.view(1));
    // At the reference, the likelihood's part of the gradient is that of eta beta per nat.
    let leaf = one(-13.0).set_requires_grad(true);
    let at = PairLogProbs::new(leaf.shallow_clone(), one(-9.6)).unwrap();
    let out = Rpo { beta: 0.1, eta: 0.5, reduction: SftReduction::Sum }.forward(&at, &reference, &lengths).unwrap();
    assert!((out.dpo.double_value(&[]) - std::f64::consts::LN_2).abs() < 1e-12);
    out.total.backward();
    assert!((leaf.grad().double_value(&[0]) - (-0.1 * 0.5 - 0.1 * 0.5)).abs() < 1e-12);
}

#[test]
fn what_does_not_fit_is_refused() {
    let text = |e: autodidact_core::Error| e.to_string();
    let two = Tensor::from_slice(&[0.0, 1.0]);
    assert!(text(PairLogProbs::new(one(0.0), two.copy()).unwrap_err()).contains("rejected: expected [1]"));
    assert!(text(PairLogProbs::new(Tensor::from(1.0), Tensor::from(1.0)).unwrap_err()).contains("chosen"));
    assert!(text(PairLogProbs::halves(&Tensor::zeros([3], tch::kind::DOUBLE_CPU)).unwrap_err()).contains("even"));
    assert!(
        text(pair(1.0, 2.0).margin(&PairLogProbs::new(two.copy(), two.copy()).unwrap()).unwrap_err())
            .contains("reference")
    );
    assert!(text(pair(1.0, 2.0).per_token(&one(0.0), &one(1.0)).unwrap_err()).contains("1.0.."));
    assert!(text(dpo(&one(1.0), 0.0).unwrap_err()).contains("beta"));
    assert!(text(soft_label_dpo(&one(1.0), &Tensor::from(1.2), 0.1).unwrap_err()).contains("target"));
    assert!(text(soft_label_dpo(&one(1.0), &Tensor::from(f64::NAN), 0.1).unwrap_err()).contains("target"));
    assert!(text(robust_dpo(&one(1.0), 0.5, 0.1).unwrap_err()).contains("flip"));
    assert!(text(kto(&one(1.0), &one(1.0), &Tensor::from(0.0), &Kto::default()).unwrap_err()).contains("desirable"));
}
