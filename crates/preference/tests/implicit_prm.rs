//! Implicit process rewards against hand-computed values and the paper's propositions on trees that can be enumerated; losses, choices
//! among responses, labels by rollouts.

use autodidact_core::seed::{Rng, rng};
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_core::{Error, Result};
use autodidact_preference::implicit_prm::*;
use autodidact_preference::losses::PairLogProbs;
use rand::RngExt;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

fn close(got: f64, want: f64) {
    assert!((got - want).abs() < 1e-6, "{got} instead of {want}");
}

/// The sheet's example: two tokens a and b; reference and policy give the first token a, and the second a after a and after b.
const REFERENCE: [f64; 3] = [0.5, 0.6, 0.5];
const POLICY: [f64; 3] = [0.8, 0.9, 0.3];

/// Log-probabilities of the tokens of aa, ab, ba, bb.
fn of_tree(p: [f64; 3]) -> Tensor {
    let row = |first: bool, second: bool| {
        let after = if first { p[1] } else { p[2] };
        let of = |is_a: bool, p: f64| if is_a { p } else { 1.0 - p };
        [of(first, p[0]), of(second, after)]
    };
    Tensor::from_slice2(&[row(true, true), row(true, false), row(false, true), row(false, false)]).log()
}

fn ratios() -> Tensor {
    log_ratio(&of_tree(POLICY), &of_tree(REFERENCE), &Tensor::ones([4, 2], (Kind::Bool, Device::Cpu))).unwrap()
}

#[test]
fn two_tokens_give_the_values_computed_by_hand() {
    let q = prefix_q(&ratios(), 0.5).unwrap();
    for (row, want) in
        [[0.235002, 0.437734], [0.235002, -0.458145], [-0.458145, -0.713558], [-0.458145, -0.289909]].iter().enumerate()
    {
        want.iter().enumerate().for_each(|(t, w)| close(q.double_value(&[row as i64, t as i64]), *w));
    }
    let steps = step_rewards(&ratios(), &vec![vec![0, 1]; 4], 0.5).unwrap();
    for (steps, second) in steps.iter().zip([0.202733, -std::f64::consts::LN_2, -0.255413, 0.168236]) {
        close(steps[1], second);
    }
    // Proposition 3.2, and 3.1 with the continuations' probabilities in place of a sample.
    let r: Vec<f64> = q.select(1, 1).try_into().unwrap();
    for (pair, p, mean, q, best) in
        [(&r[..2], 0.6, 0.079382, 0.235002, 0.437734), (&r[2..], 0.5, -0.501734, -0.458145, -0.289909)]
    {
        close(p * pair[0] + (1.0 - p) * pair[1], mean);
        close(0.5 * (p * (2.0 * pair[0]).exp() + (1.0 - p) * (2.0 * pair[1]).exp()).ln(), q);
        close(pair[0].max(pair[1]), best);
        // Ten continuations as frequent as they are probable.
        let often = (10.0 * p) as usize;
        let sample: Vec<f64> = (0..10).map(|i| pair[usize::from(i >= often)]).collect();
        let value = prefix_value(&sample, 0.5).unwrap();
        close(value.mean, mean);
        close(value.q, q);
        close(value.best, best);
        assert!(value.error > 0.0);
    }
}

/// A random distribution over the next of three tokens for each prefix of a tree of depth 4, by place in the tree.
fn random_tree(rng: &mut Rng) -> Vec<[f64; 3]> {
    let one = |_| {
        let e: [f64; 3] = std::array::from_fn(|_| (2.0 * rng.random_range(-1.0..1.0f64)).exp());
        e.map(|x| x / e.iter().sum::<f64>())
    };
    (0..40).map(one).collect()
}

#[test]
fn the_propositions_hold_on_random_trees() {
    let mut rng = rng(3, &["trees"]);
    for beta in [0.05, 0.5, 3.0] {
        let (policy, reference) = (random_tree(&mut rng), random_tree(&mut rng));
        // Prefixes are numbered by level: children of i are 3i+1, 3i+2, 3i+3; the 81 responses are below prefixes 13 to 39.
        let mut q = vec![0.0; 121];
        for leaf in 40..121usize {
            let mut path = vec![leaf];
            while path[0] > 0 {
                path.insert(0, (path[0] - 1) / 3);
            }
            let log_probs = |p: &[[f64; 3]]| {
                let each: Vec<f64> = path.windows(2).map(|w| p[w[0]][(w[1] - 1) % 3].ln()).collect();
                Tensor::from_slice(&each).unsqueeze(0)
            };
            let (p, r) = (log_probs(&policy), log_probs(&reference));
            let ratio = log_ratio(&p, &r, &p.ones_like().to_kind(Kind::Bool)).unwrap();
            let along: Vec<f64> = prefix_q(&ratio, beta).unwrap().view(-1).try_into().unwrap();
            path[1..].iter().zip(along).for_each(|(&prefix, value)| q[prefix] = value);
        }
        // Upwards: mean, exponential mean and largest reward of all continuations by the reference.
        let mut mean = q.clone();
        let mut exponential: Vec<f64> = q.iter().map(|q| (q / beta).exp()).collect();
        let mut best = q.clone();
        for i in (0..40).rev() {
            let over = |v: &[f64]| (0..3).map(|c| reference[i][c] * v[3 * i + 1 + c]).sum::<f64>();
            (mean[i], exponential[i]) = (over(&mean), over(&exponential));
            best[i] = (0..3).map(|c| best[3 * i + 1 + c]).fold(f64::NEG_INFINITY, f64::max);
            assert!((beta * exponential[i].ln() - q[i]).abs() < 1e-12, "proposition 3.1");
            assert!(mean[i] <= q[i] + 1e-12 && q[i] <= best[i] + 1e-12, "proposition 3.2");
            // Step rewards: a martingale in exponentials; what reference and policy expect is a divergence.
            let rewards: [f64; 3] = std::array::from_fn(|c| q[3 * i + 1 + c] - q[i]);
            let expect = |p: &[f64; 3], f: &dyn Fn(f64) -> f64| (0..3).map(|c| p[c] * f(rewards[c])).sum::<f64>();
            assert!((expect(&reference[i], &|r| (r / beta).exp()) - 1.0).abs() < 1e-12);
            assert!(expect(&reference[i], &|r| r) <= 0.0 && expect(&policy[i], &|r| r) >= 0.0);
        }
    }
}

#[test]
fn bounds_are_reached_at_the_ends_of_beta() {
    let rewards = [1.0, -0.5, 0.25, 0.0];
    let at = |beta| prefix_value(&rewards, beta).unwrap();
    assert!((at(1e6).q - at(1e6).mean).abs() < 1e-5);
    assert!((at(1e-3).q - 1.0).abs() < 2e-3);
    assert!(at(0.5).mean < at(0.5).q && at(0.5).q < at(0.5).best);
}

#[test]
fn padding_counts_for_nothing_and_steps_sum_to_the_response() {
    tch::manual_seed(1);
    let (policy, reference) =
        (Tensor::randn([3, 6], (Kind::Float, Device::Cpu)), Tensor::randn([3, 6], (Kind::Float, Device::Cpu)));
    let mask = Tensor::from_slice2(&[
        [false, true, true, true, true, true],
        [false, false, true, true, true, false],
        [false, true, false, false, false, false],
    ]);
    let ratio = log_ratio(&policy, &reference, &mask).unwrap();
    assert_eq!(ratio.masked_select(&mask.logical_not()).abs().max().double_value(&[]), 0.0);
    let ends = [vec![2, 3, 5], vec![2, 4], vec![1]];
    let steps = step_rewards(&ratio, &ends, 0.3).unwrap();
    let sums = ratio.sum_dim_intlist([1i64].as_slice(), false, Kind::Double) * 0.3;
    for (row, steps) in steps.iter().enumerate() {
        assert_eq!(steps.len(), ends[row].len());
        close(steps.iter().sum(), sums.double_value(&[row as i64]));
        assert!(
            (score(steps, StepKind::Accumulated, StepAggregate::Last).unwrap() - steps.iter().sum::<f64>()).abs()
                < 1e-12
        );
    }
    // What padding holds does not matter, not even if it is no number.
    let dirty = policy.where_self(&mask, &Tensor::from(f32::NAN));
    assert_close("with NaN in padding", &log_ratio(&dirty, &reference, &mask).unwrap(), &ratio, 1e-12);
    // At the reference there are no rewards.
    let none = log_ratio(&policy, &policy, &mask).unwrap();
    assert!(step_rewards(&none, &ends, 0.3).unwrap().iter().flatten().all(|r| *r == 0.0));
}

#[test]
fn values_are_those_that_pytorch_gives_sequence_by_sequence() {
    let golden = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/implicit_prm.safetensors"));
    let policy = golden["policy"].copy().set_requires_grad(true);
    let ratio = log_ratio(&policy, &golden["reference"], &golden["mask"]).unwrap();
    let ends: Vec<Vec<usize>> = (0..6)
        .map(|i| Vec::<i64>::try_from(golden["ends"].get(i)).unwrap())
        .map(|ends| ends.into_iter().filter(|e| *e >= 0).map(|e| e as usize).collect())
        .collect();
    for (i, steps) in step_rewards(&ratio, &ends, 0.3).unwrap().iter().enumerate() {
        for (t, r) in steps.iter().enumerate() {
            assert!((r - golden["steps"].double_value(&[i as i64, t as i64])).abs() < 1e-12);
        }
    }
    let whole = ratio.sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    let loss = cross_entropy(&whole, &golden["correct"], 0.3).unwrap().mean(Kind::Double);
    assert_close("cross entropy", &loss.view([1]), &golden["loss"], 1e-12);
    loss.backward();
    assert_close("its gradient", &policy.grad(), &golden["gradient"], 1e-12);
}

#[test]
fn no_gradient_comes_from_the_reference_or_from_padding() {
    let leaf = |seed| {
        tch::manual_seed(seed);
        Tensor::randn([2, 3], (Kind::Double, Device::Cpu)).set_requires_grad(true)
    };
    let (policy, reference) = (leaf(1), leaf(2));
    let mask = Tensor::from_slice2(&[[false, true, true], [true, true, false]]);
    let ratio = log_ratio(&policy, &reference, &mask).unwrap();
    prefix_q(&ratio, 0.5).unwrap().select(1, 2).sum(Kind::Double).backward();
    assert!(!reference.grad().defined());
    assert_close("the policy's gradient", &policy.grad(), &(mask.to_kind(Kind::Double) * 0.5), 1e-15);
}

#[test]
fn scores_of_responses() {
    let rewards = [0.5, -1.0, 0.25, 0.75];
    for (kind, aggregate, want) in [
        (StepKind::Increment, StepAggregate::Min, -1.0),
        (StepKind::Increment, StepAggregate::Sum, 0.5),
        (StepKind::Increment, StepAggregate::Last, 0.75),
        (StepKind::Increment, StepAggregate::Mean, 0.125),
        (StepKind::Accumulated, StepAggregate::Min, -0.5),
        (StepKind::Accumulated, StepAggregate::Sum, 0.25),
        (StepKind::Accumulated, StepAggregate::Last, 0.5),
    ] {
        close(score(&rewards, kind, aggregate).unwrap(), want);
    }
}

fn single(log_ratios: &[f64], correct: &[bool], loss: ImplicitRewardLoss, beta: f64) -> Vec<f64> {
    let (log_ratio, correct, kl) = (Tensor::from_slice(log_ratios), Tensor::from_slice(correct), Tensor::from(0.2));
    let batch = Responses::Single { log_ratio: &log_ratio, correct: &correct, kl: Some(&kl) };
    loss.forward(&batch, beta).unwrap().try_into().unwrap()
}

fn paired(w: f64, l: f64, loss: ImplicitRewardLoss, beta: f64) -> f64 {
    let pair = PairLogProbs::new(Tensor::from_slice(&[w]), Tensor::from_slice(&[l])).unwrap();
    loss.forward(&Responses::Pairs(&pair), beta).unwrap().double_value(&[0])
}

const KTO: ImplicitRewardLoss = ImplicitRewardLoss::Kto { desirable: 1.0, undesirable: 1.0 };

#[test]
fn losses_are_those_computed_by_hand() {
    // log pi and log pi_ref: -12.3 and -13.0 of the correct response, -10.1 and -9.6 of the other.
    let (ratios, correct) = ([0.7, -0.5], [true, false]);
    let ce = single(&ratios, &correct, ImplicitRewardLoss::Ce, 0.05);
    close(ce[0], 0.6758003);
    close(ce[1], 0.6807253);
    let kto = single(&ratios, &correct, KTO, 0.1);
    close(kto[0], 0.4875026);
    close(kto[1], 0.4825071);
    close(paired(0.7, -0.5, ImplicitRewardLoss::Nca, 0.1), 1.3573692);
    close(paired(0.7, -0.5, ImplicitRewardLoss::Dpo, 0.1), 0.6349461);
    // At the start.
    let start = std::f64::consts::LN_2;
    close(paired(0.0, 0.0, ImplicitRewardLoss::Dpo, 0.5), start);
    assert!(single(&[0.0, 0.0], &correct, ImplicitRewardLoss::Ce, 0.5).iter().all(|l| (l - start).abs() < 1e-12));
    // Far out, where a logistic function in front of a logarithm would be infinite.
    close(single(&[-4000.0], &[true], ImplicitRewardLoss::Ce, 0.5)[0], 2000.0);
}

#[test]
fn cross_entropy_is_torchs_and_its_gradient_is_right() {
    tch::manual_seed(4);
    let x = Tensor::randn([6], (Kind::Double, Device::Cpu)) * 3;
    let correct = Tensor::from_slice(&[true, false, true, true, false, false]);
    let got = cross_entropy(&x, &correct, 0.5).unwrap();
    let want = (&x * 0.5).binary_cross_entropy_with_logits::<Tensor>(
        &correct.to_kind(Kind::Double),
        None,
        None,
        tch::Reduction::None,
    );
    assert_close("cross entropy", &got, &want, 1e-12);
    let labels = Tensor::from_slice(&[0.0, 1.0, 0.25, 0.5, 0.9, 1.0]);
    let want = x.binary_cross_entropy_with_logits::<Tensor>(&labels, None, None, tch::Reduction::None);
    assert_close("soft labels", &label_loss(&x, &labels).unwrap(), &want, 1e-12);
    check_gradient(&x, 1e-8, |x| cross_entropy(x, &correct, 0.5).unwrap().sum(Kind::Double));
    check_gradient(&x, 1e-8, |x| label_loss(x, &labels).unwrap().sum(Kind::Double));
    for loss in [ImplicitRewardLoss::Ce, KTO] {
        let kl = Tensor::from(0.2);
        check_gradient(&x, 1e-8, |x| {
            let batch = Responses::Single { log_ratio: x, correct: &correct, kl: Some(&kl) };
            loss.forward(&batch, 0.5).unwrap().sum(Kind::Double)
        });
    }
    for loss in [ImplicitRewardLoss::Dpo, ImplicitRewardLoss::Nca] {
        check_gradient(&x, 1e-8, |x| {
            let pairs = PairLogProbs::halves(x).unwrap();
            loss.forward(&Responses::Pairs(&pairs), 0.5).unwrap().sum(Kind::Double)
        });
    }
}

#[test]
fn pairs_and_balanced_sets() {
    let correct = [vec![true, false, true, false], vec![false, false, true], vec![true; 3], vec![]];
    let pairs = all_pairs(&correct);
    assert_eq!(pairs.len(), 4 + 2);
    assert!(pairs.iter().all(|p| correct[p.prompt][p.correct] && !correct[p.prompt][p.incorrect]));
    let mut rng = rng(0, &["balance"]);
    let mut count = |balance| {
        let kept = balanced(&correct, balance, &mut rng);
        assert!(kept.is_sorted());
        let right = kept.iter().filter(|&&(i, j)| correct[i][j]).count();
        (right, kept.len() - right, kept)
    };
    assert_eq!(count(Balance::None).2.len(), 10);
    let (right, wrong, _) = count(Balance::Overall);
    assert_eq!((right, wrong), (4, 4));
    let (right, wrong, kept) = count(Balance::PerPrompt);
    assert_eq!((right, wrong), (3, 3));
    assert!(kept.iter().all(|k| k.0 < 2));
}

#[test]
fn best_of_n_is_the_mean_over_all_subsets() {
    let (scores, correct) = ([0.3, 2.0, 0.3, -1.0, 0.7, 2.0], [true, false, false, true, true, true]);
    for n in 1..=6usize {
        let (mut sum, mut count) = (0.0, 0.0);
        for subset in 0u32..64 {
            if subset.count_ones() as usize != n {
                continue;
            }
            let inside: Vec<usize> = (0..6).filter(|i| subset >> i & 1 == 1).collect();
            let top = inside.iter().map(|&i| scores[i]).fold(f64::NEG_INFINITY, f64::max);
            let ties: Vec<_> = inside.iter().filter(|&&i| scores[i] == top).collect();
            sum += ties.iter().filter(|&&&i| correct[i]).count() as f64 / ties.len() as f64;
            count += 1.0;
        }
        close(expected_best_of_n(&scores, &correct, n).unwrap(), sum / count);
        // Scores that say nothing, and scores that say all.
        close(expected_best_of_n(&[1.0; 6], &correct, n).unwrap(), 4.0 / 6.0);
        let oracle = correct.map(|c| f64::from(u8::from(c)));
        close(expected_best_of_n(&oracle, &correct, n).unwrap(), pass_at_n(4, 6, n).unwrap());
    }
    assert_eq!(best_of_n(&scores).unwrap(), 1);
    close(pass_at_n(1, 4, 2).unwrap(), 0.5);
    assert_eq!(pass_at_n(0, 4, 2).unwrap(), 0.0);
}

#[test]
fn votes() {
    let answers = [Some(3), Some(5), None, Some(5), Some(3)];
    assert_eq!(majority_vote(&answers).unwrap(), 0);
    assert_eq!(weighted_majority_vote(&answers, &[0.2, 0.3, 0.9, 0.2, 0.2]).unwrap(), 2);
    assert_eq!(weighted_majority_vote(&answers, &[0.2, 0.3, 0.1, 0.2, 0.2]).unwrap(), 1);
}

#[test]
fn separation_is_the_share_of_ordered_pairs() {
    close(separation(&[3.0, 1.0], &[2.0, 1.0, 0.0]).unwrap(), (3.0 + 1.5) / 6.0);
    close(separation(&[1.0], &[1.0]).unwrap(), 0.5);
    close(separation(&[1.0], &[2.0]).unwrap(), 0.0);
}

#[test]
fn first_errors() {
    let values = [vec![0.9, 0.8], vec![0.9, 0.2], vec![0.1, 0.9], vec![0.6, 0.4]];
    let errors = [None, Some(1), Some(0), Some(0)];
    let at = |threshold| first_error_f1(&values, &errors, threshold).unwrap();
    // At 0.5: the faultless one is recognised; of the others the last is named wrongly.
    let found = at(0.5);
    close(found.correct, 1.0);
    close(found.erroneous, 2.0 / 3.0);
    close(found.f1, 0.8);
    close(at(0.65).f1, 1.0);
    close(at(0.85).f1, 0.0);
    let best = best_threshold(&values, &errors).unwrap();
    assert!(best > 0.6 && best <= 0.8, "{best}");
    // Against all thresholds that differ.
    let mut rng = rng(7, &["thresholds"]);
    for _ in 0..50 {
        let values: Vec<Vec<f64>> =
            (0..8).map(|_| (0..3).map(|_| rng.random_range(0..6i32).into()).collect()).collect();
        let errors: Vec<Option<usize>> = (0..8).map(|i| (i > 2).then(|| rng.random_range(0..3))).collect();
        let of = |threshold| first_error_f1(&values, &errors, threshold).unwrap().f1;
        let highest = (-1..8).map(|t| of(f64::from(t) + 0.5)).fold(0.0, f64::max);
        close(of(best_threshold(&values, &errors).unwrap()), highest);
    }
}

#[test]
fn rollouts_label_steps() {
    for (right, hard, soft) in [(0, 0.0, 0.0), (1, 1.0, 0.25), (4, 1.0, 1.0)] {
        assert_eq!(MonteCarlo::Hard.label(right, 4).unwrap(), hard);
        assert_eq!(MonteCarlo::Soft.label(right, 4).unwrap(), soft);
    }
    let complete = |prefixes: &[i32]| -> Result<Vec<bool>> {
        assert_eq!(prefixes, [5, 5, 5, 6, 6, 6]);
        Ok(vec![true, false, false, false, false, false])
    };
    let labels = monte_carlo_step_labels(&[5, 6], 3, MonteCarlo::Soft, complete).unwrap();
    assert_eq!(labels, [1.0 / 3.0, 0.0]);
    let cost = TokenCount { generated: 100, trained: 30 };
    assert_eq!((cost.total(), cost.flops(2)), (130, 2.0 * (200.0 + 180.0)));
}

#[test]
fn a_head_reads_hidden_states_at_its_places() {
    let vs = VarStore::new(Device::Cpu);
    let head = ValueHead::new(vs.root(), 3).unwrap();
    tch::manual_seed(5);
    let hidden = Tensor::randn([2, 4, 3], (Kind::Float, Device::Cpu));
    let places = Tensor::from_slice2(&[[0i64, 3], [2, 2]]);
    assert_eq!(head.forward(&hidden, &places).unwrap().abs().max().double_value(&[]), 0.0);
    tch::no_grad(|| drop(vs.variables()["weight"].shallow_clone().fill_(1.0)));
    let sums = hidden.sum_dim_intlist([2i64].as_slice(), false, Kind::Float);
    assert_close("places", &head.forward(&hidden, &places).unwrap(), &sums.gather(1, &places, false), 1e-6);
    let text = |r: Result<Tensor>| r.unwrap_err().to_string();
    assert!(text(head.forward(&hidden, &(&places + 1))).contains("0.0..4.0"));
    assert!(text(head.forward(&hidden.narrow(2, 0, 2), &places)).contains("[B, T, 3]"));
    assert!(text(head.forward(&hidden, &places.narrow(0, 0, 1))).contains("Int64 [2, S]"));
}

#[test]
fn what_does_not_fit_is_refused() {
    let text = |e: Error| e.to_string();
    let x = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
    let mask = Tensor::ones([2, 3], (Kind::Bool, Device::Cpu));
    assert!(text(log_ratio(&x, &x.narrow(1, 0, 2), &mask).unwrap_err()).contains("as the policy"));
    assert!(text(log_ratio(&x, &x, &x).unwrap_err()).contains("Bool"));
    assert!(prefix_q(&x, 0.0).is_err() && prefix_q(&x.view(-1), 1.0).is_err());
    for ends in [vec![vec![0, 3], vec![1]], vec![vec![1, 1], vec![1]], vec![vec![1]]] {
        assert!(text(step_rewards(&x, &ends, 1.0).unwrap_err()).contains("step ends"), "{ends:?}");
    }
    assert!(StepAggregate::Min.of(&[]).is_err() && StepAggregate::Min.of(&[f64::NAN]).is_err());
    assert!(prefix_value(&[1.0], 1.0).is_err());
    let (ratio, correct) = (Tensor::from_slice(&[0.0]), Tensor::from_slice(&[true]));
    let batch = Responses::Single { log_ratio: &ratio, correct: &correct, kl: None };
    assert!(text(ImplicitRewardLoss::Dpo.forward(&batch, 1.0).unwrap_err()).contains("pairs"));
    assert!(text(KTO.forward(&batch, 1.0).unwrap_err()).contains("kl"));
    assert!(cross_entropy(&ratio, &ratio, 1.0).is_err() && cross_entropy(&ratio, &correct, -1.0).is_err());
    assert!(label_loss(&ratio, &Tensor::from_slice(&[1.5])).is_err());
    assert!(expected_best_of_n(&[1.0, 2.0], &[true, false], 3).is_err());
    assert!(expected_best_of_n(&[1.0, 2.0], &[true], 1).is_err());
    assert!(best_of_n(&[]).is_err() && best_of_n(&[f64::NAN]).is_err());
    assert!(pass_at_n(3, 2, 1).is_err() && pass_at_n(1, 2, 0).is_err());
    assert!(weighted_majority_vote(&[1, 2], &[1.0]).is_err());
    assert!(separation(&[], &[1.0]).is_err());
    assert!(text(first_error_f1(&[vec![1.0]], &[None], 0.0).unwrap_err()).contains("one kind only"));
    assert!(first_error_f1(&[vec![1.0], vec![1.0]], &[None, Some(1)], 0.0).is_err());
    assert!(MonteCarlo::Hard.label(0, 0).is_err() && MonteCarlo::Soft.label(3, 2).is_err());
    let none = |_: &[i32]| -> Result<Vec<bool>> { Ok(vec![]) };
    assert!(text(monte_carlo_step_labels(&[1], 2, MonteCarlo::Hard, none).unwrap_err()).contains("2 outcomes"));
}
