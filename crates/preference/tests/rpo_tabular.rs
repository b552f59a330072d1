//! RPO on bandits: optima against independently computed ones, and the exchange of maximum and minimum.

use autodidact_core::fit::Lbfgs;
use autodidact_preference::rpo::{Comparison, TabularRpo, coverage_coefficient, inner_maximum, policy_bracket};

/// Six times arm 0 over 1, twice 1 over 0, once 2 over 1.
fn toy() -> Vec<Comparison> {
    let of = |winner, loser| Comparison { winner, loser };
    [vec![of(0, 1); 6], vec![of(1, 0); 2], vec![of(2, 1)]].concat()
}

fn problem(eta: f64) -> TabularRpo {
    TabularRpo::new(&[1.0 / 3.0; 3], &toy(), 1.0, eta).unwrap()
}

#[test]
fn optima_are_those_of_an_independent_solver() {
    let cases = [
        (0.01, [0.15891, 0.05137, 0.78972], Some(0.526056)),
        (0.05, [0.37287, 0.11357, 0.51355], None),
        (0.1, [0.46610, 0.13722, 0.39668], Some(0.639422)),
        (0.5, [0.61454, 0.17402, 0.21144], None),
        (1.0, [0.64409, 0.18656, 0.16935], Some(1.447682)),
        (1e6, [6.0 / 9.0, 2.0 / 9.0, 1.0 / 9.0], None),
    ];
    for (eta, want, objective) in cases {
        let policy = problem(eta).solve().unwrap();
        for (p, w) in policy.iter().zip(want) {
            assert!((p - w).abs() < 2e-5, "eta {eta}: {policy:?}");
        }
        let logits: Vec<f64> = policy.iter().map(|p| p.ln()).collect();
        let mut gradient = [0.0; 3];
        let value = problem(eta).objective(&logits, &mut gradient);
        if let Some(objective) = objective {
            assert!((value - objective).abs() < 1e-6, "eta {eta}: {value}");
        }
        // Adding a constant to the logits changes nothing.
        assert!(gradient.iter().sum::<f64>().abs() < 1e-12 * eta.max(1.0));
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let (problem, at) = (problem(0.3), [0.3, -0.8, 0.4]);
    let mut gradient = [0.0; 3];
    problem.objective(&at, &mut gradient);
    for i in 0..3 {
        let shifted = |d: f64| {
            let mut x = at;
            x[i] += d;
            problem.objective(&x, &mut [0.0; 3])
        };
        assert!(((shifted(1e-5) - shifted(-1e-5)) / 2e-5 - gradient[i]).abs() < 1e-9);
    }
}

#[test]
fn without_the_regulariser_an_arm_that_always_won_takes_everything() {
    let share = |eta, steps| problem(eta).descend(steps, 1.0).unwrap()[2];
    assert!(share(0.0, 20_000) > 0.99 && share(0.0, 200_000) > share(0.0, 20_000));
    assert!((share(0.5, 20_000) - 0.21144).abs() < 1e-4);
}

/// min over rewards of the inner maximum equals the RPO objective's minimum: with rewards r = beta log(pi/ref), up to the constant of
/// the reward that comparisons do not see.
#[test]
fn the_minimum_over_rewards_is_the_minimum_over_policies() {
    let (beta, eta, reference) = (1.0, 0.1, [1.0 / 3.0; 3]);
    let data = toy();
    let base = [6.0 / 9.0, 2.0 / 9.0, 1.0 / 9.0];
    let objective = |r: &[f64]| {
        let (bracket, _) = inner_maximum(r, &base, &reference, beta).unwrap();
        let fit: f64 = data.iter().map(|c| (1.0 + (r[c.loser] - r[c.winner]).exp()).ln()).sum();
        eta * bracket + fit / data.len() as f64
    };
    let search = Lbfgs { max_iterations: 2_000, ..Lbfgs::default() };
    let found = search
        .minimise(&[0.0; 3], |r, g| {
            for i in 0..3 {
                let shifted = |d: f64| {
                    let mut x = r.to_vec();
                    x[i] += d;
                    objective(&x)
                };
                g[i] = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
            }
            objective(r)
        })
        .unwrap();
    let (_, policy) = inner_maximum(&found.x, &base, &reference, beta).unwrap();
    for (p, w) in policy.iter().zip(problem(eta).solve().unwrap()) {
        assert!((p - w).abs() < 1e-4, "{policy:?}");
    }
    // And no policy does better than the closed form, for any reward.
    for k in 0..20 {
        let r: Vec<f64> = (0..3).map(|i| (1.3 * f64::from(3 * k + i)).sin()).collect();
        let (best, best_policy) = inner_maximum(&r, &base, &reference, 0.5).unwrap();
        let log_z = (r.iter().map(|x| (x / 0.5).exp()).sum::<f64>() / 3.0).ln();
        let mean: f64 = r.iter().zip(base).map(|(r, b)| r * b).sum();
        assert!((best - (0.5 * log_z - mean)).abs() < 1e-12);
        let other: Vec<f64> = best_policy.iter().map(|p| 0.9 * p + 0.1 / 3.0).collect();
        assert!(policy_bracket(&other, &r, &base, &reference, 0.5).unwrap() <= best + 1e-12);
    }
}

#[test]
fn coverage_is_worst_where_data_do_not_look() {
    let truth = vec![1.0, 0.5, 0.0];
    // A class with an error of 1 on one arm.
    let rewards: Vec<Vec<f64>> =
        (0..3).map(|i| truth.iter().enumerate().map(|(j, t)| if i == j { t - 1.0 } else { *t }).collect()).collect();
    let data = [((0, 1), 0.5), ((0, 2), 0.5)];
    let of = |policy: [f64; 3]| coverage_coefficient(&policy, &[1.0, 0.0, 0.0], &truth, &rewards, &data).unwrap();
    assert_eq!(of([1.0, 0.0, 0.0]), 0.0);
    assert!((of([0.0, 1.0, 0.0]) - 2f64.sqrt()).abs() < 1e-12);
    let blind = [((0, 1), 1.0)];
    let unseen = coverage_coefficient(&[0.0, 0.0, 1.0], &[1.0, 0.0, 0.0], &truth, &rewards, &blind).unwrap();
    assert!(unseen.is_infinite());
}

#[test]
fn what_does_not_fit_is_refused() {
    let text = |r: &[f64], data: &[Comparison], beta, eta| TabularRpo::new(r, data, beta, eta).unwrap_err().to_string();
    assert!(text(&[0.5, 0.6], &toy(), 1.0, 0.1).contains("sum of reference"));
    assert!(text(&[0.5, 0.5], &toy(), 1.0, 0.1).contains("two of 2 arms"));
    assert!(text(&[0.5, 0.5], &[], 1.0, 0.1).contains("comparisons"));
    assert!(text(&[0.5, 0.5], &toy()[..1], 0.0, 0.1).contains("beta"));
    assert!(text(&[1.0, 0.0], &toy()[..1], 1.0, 0.1).contains("positive"));
    assert!(problem(0.0).solve().unwrap_err().to_string().contains("eta"));
}
