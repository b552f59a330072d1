//! Naive Bayes and logistic regression on features: against scikit-learn, their identities, the mixture and the theory.

use autodidact_core::device::Precision;
use autodidact_core::metrics::{LogisticRegression, LogisticRegressionConfig};
use autodidact_core::seed::rng;
use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_ssl::generative_classifiers::mixture::{GaussianMixtureTask, geometric_sizes, sample_complexity};
use autodidact_ssl::generative_classifiers::theory::{
    assumption_stats, excess_log_loss_lower, excess01_upper, naive_bayes_samples, psi,
};
use autodidact_ssl::generative_classifiers::{
    Classifier, GaussianNaiveBayes, Labelled, LinearEvaluation, NaiveBayesConfig, Scaler, VarianceMode, learning_curve,
    random_subset, samples_to_converge,
};
use rand::RngExt;
use tch::{Device, Kind, Tensor};

const SHARED: NaiveBayesConfig = NaiveBayesConfig { variance: VarianceMode::SharedDiagonal, floor: 1e-300 };
const PER_CLASS: NaiveBayesConfig = NaiveBayesConfig { variance: VarianceMode::PerClassDiagonal, floor: 1e-300 };
const LR: Classifier = Classifier::LogisticRegression { c: 1.0 };

fn worked() -> (Tensor, Tensor) {
    let x = Tensor::from_slice2(&[[0f64, 0.], [1., 0.], [0., 1.], [1., 1.], [2., 1.], [1., 2.]]);
    (x, Tensor::from_slice(&[0i64, 0, 1, 1, 2, 2]))
}

/// Three overlapping classes in five dimensions with different variances.
fn clusters(n: i64) -> (Tensor, Tensor) {
    tch::manual_seed(4);
    let y = Tensor::arange(n, (Kind::Int64, Device::Cpu)).remainder(3);
    let (k, noise) = (y.to_kind(Kind::Double).unsqueeze(1), Tensor::randn([n, 5], (Kind::Double, Device::Cpu)));
    (noise * (&k + 0.5) + k * Tensor::from_slice(&[1.0f64, -1.0, 0.5, 0.0, 2.0]), y)
}

fn nb(x: &Tensor, y: &Tensor, classes: i64, config: NaiveBayesConfig) -> GaussianNaiveBayes {
    GaussianNaiveBayes::fit(x, y, classes, &config).unwrap()
}

fn value(t: &Tensor) -> f64 {
    t.double_value(&[])
}

#[test]
fn scores_probabilities_and_predictions_equal_scikit_learn() {
    let golden = fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/generative_classifiers.safetensors"));
    for k in [2i64, 4] {
        let get = |name: &str| &golden[&format!("{k}.{name}")];
        let (x, y, test) = (get("x"), get("y"), get("test"));
        let joint = |config| nb(x, y, k, config).log_joint(test).unwrap();
        assert_close("shared variances", &joint(SHARED), get("shared"), 1e-12);
        assert_close("variances per class", &joint(PER_CLASS), get("per_class"), 1e-12);
        assert_eq!(&nb(x, y, k, SHARED).predict(test).unwrap(), get("shared_predicted"));
        for (c, name) in [(0.1, "lr_0.1"), (10.0, "lr_10")] {
            let config = LogisticRegressionConfig::scikit_learn(c, x.size()[0], k).unwrap();
            let config = LogisticRegressionConfig { tolerance: 1e-10, ..config };
            let fit = LogisticRegression::fit(x, y, k, &config).unwrap();
            let p = fit.logits(test).unwrap().softmax(1, Kind::Double);
            assert!(fit.converged);
            // A line search by values finds the minimum to the square root of their rounding.
            assert_close(name, &p, get(name), 5e-6);
        }
        for (scaler, name) in [(Scaler::MinMax, "min_max"), (Scaler::Standard, "standard")] {
            let fitted = LinearEvaluation { scaler, classifier: LR }.fit(Labelled { x, y, classes: k }).unwrap();
            // The usual tolerance of 1e-4 decides all but ties.
            let (top, class) = get(name).topk(2, 1, true, true);
            let tie = (top.select(1, 0) - top.select(1, 1)).lt(0.005);
            assert!(value(&tie.sum(Kind::Double)) <= 2.0);
            let agrees = fitted.predict(test).unwrap().eq_tensor(&class.select(1, 0));
            assert_eq!(value(&agrees.logical_or(&tie).all().to_kind(Kind::Double)), 1.0, "{name}");
        }
    }
}

#[test]
fn the_worked_example_of_naive_bayes() {
    let (x, y) = worked();
    let nb = nb(&x, &y, 3, NaiveBayesConfig { floor: 1e-12, ..Default::default() });
    assert_close("means", nb.means(), &Tensor::from_slice2(&[[0.5, 0.], [0.5, 1.], [1.5, 1.5]]), 1e-15);
    // Class variances (1/4, 0), (1/4, 0), (1/4, 1/4).
    assert_close("variance", &nb.variances().unwrap(), &Tensor::from_slice2(&[[0.25, 1.0 / 12.0]]), 1e-10);
    let at = Tensor::from_slice2(&[[1f64, 1.]]);
    let (w, b) = nb.as_linear().unwrap();
    // log(1/3) + 2 - 1/2, log(1/3) + 14 - 6.5, log(1/3) + 24 - 18.
    let scores = at.matmul(&w.tr()) + b;
    let want = Tensor::from_slice2(&[[1.5f64, 7.5, 6.0]]) - 3f64.ln();
    assert_close("linear scores", &scores, &want, 1e-9);
    let joint = nb.log_joint(&at).unwrap();
    assert_close("posterior", &joint.softmax(1, Kind::Double), &want.softmax(1, Kind::Double), 1e-9);
    assert_close(
        "posterior",
        &joint.softmax(1, Kind::Double),
        &Tensor::from_slice2(&[[0.002022, 0.815921, 0.182057]]),
        1e-6,
    );
    assert_eq!(nb.predict(&at).unwrap().int64_value(&[0]), 1);
}

#[test]
fn the_worked_example_of_logistic_regression_is_a_stationary_point() {
    let (x, y) = worked();
    let config =
        LogisticRegressionConfig { tolerance: 1e-10, ..LogisticRegressionConfig::scikit_learn(1.0, 6, 3).unwrap() };
    let fit = LogisticRegression::fit(&x, &y, 3, &config).unwrap();
    let w = Tensor::from_slice2(&[[-0.252535, -0.902752], [-0.391064, 0.226529], [0.643599, 0.676223]]);
    assert_close("W", &fit.weight, &w, 1e-5);
    assert_close("b", &fit.bias, &Tensor::from_slice(&[0.914975, 0.263547, -1.178523]), 1e-5);
    let p = fit.logits(&Tensor::from_slice2(&[[1f64, 1.]])).unwrap().softmax(1, Kind::Double);
    assert_close("p", &p, &Tensor::from_slice2(&[[0.258489, 0.362918, 0.378594]]), 1e-5);
    // The penalty takes out what adds the same to all classes.
    assert!(value(&fit.weight.sum_dim_intlist([0i64].as_slice(), false, Kind::Double).abs().max()) < 1e-8);
    assert!(value(&fit.bias.sum(Kind::Double)).abs() < 1e-8);
    let objective = |w: &Tensor, b: &Tensor| {
        let log_loss = (x.matmul(&w.tr()) + b).cross_entropy_for_logits(&y) * 6.0;
        w.square().sum(Kind::Double) * 0.5 + log_loss
    };
    let (w, b) = (fit.weight.detach().set_requires_grad(true), fit.bias.detach().set_requires_grad(true));
    objective(&w, &b).backward();
    assert!(value(&w.grad().abs().max()) < 1e-6 && value(&b.grad().abs().max()) < 1e-6);
}

#[test]
fn any_split_into_batches_gives_the_classifier_of_the_whole() {
    let (x, y) = clusters(90);
    for config in [SHARED, PER_CLASS] {
        let whole = nb(&x, &y, 3, config);
        // One batch lacks two of the classes.
        let mut parts = GaussianNaiveBayes::new(5, 3, Device::Cpu, &config).unwrap();
        for (from, len) in [(0, 1), (1, 40), (41, 49)] {
            parts.partial_fit(&x.narrow(0, from, len), &y.narrow(0, from, len)).unwrap();
        }
        assert_close("priors", &parts.priors().unwrap(), &whole.priors().unwrap(), 1e-14);
        assert_close("means", parts.means(), whole.means(), 1e-12);
        assert_close("variances", &parts.variances().unwrap(), &whole.variances().unwrap(), 1e-12);
        assert_close("scores", &parts.log_joint(&x).unwrap(), &whole.log_joint(&x).unwrap(), 1e-10);
    }
}

#[test]
fn shared_variances_are_linear_and_blind_to_affine_maps_of_features() {
    let (x, y) = clusters(90);
    let fitted = nb(&x, &y, 3, SHARED);
    let (w, b) = fitted.as_linear().unwrap();
    let (linear, joint) = (x.matmul(&w.tr()) + b, fitted.log_joint(&x).unwrap());
    // Equal up to what all classes of a row share.
    let shared = (&joint - &linear).narrow(1, 0, 1);
    assert_close("linear form", &(linear + shared), &joint, 1e-11);
    assert_eq!(fitted.predict(&x).unwrap(), joint.argmax(1, false));
    let (scale, shift) =
        (Tensor::from_slice(&[0.01f64, 3.0, -2.0, 50.0, 1.0]), Tensor::from_slice(&[5f64, 1e6, 0., -3., 1.]));
    let moved = &x * scale + shift;
    let at_moved = nb(&moved, &y, 3, SHARED).log_joint(&moved).unwrap();
    assert_close("posterior", &at_moved.softmax(1, Kind::Double), &joint.softmax(1, Kind::Double), 1e-8);
    assert!(nb(&x, &y, 3, PER_CLASS).as_linear().unwrap_err().to_string().contains("linear form"));
}

#[test]
fn equal_variances_and_priors_make_it_nearest_mean_and_two_classes_diagonal_lda() {
    let (x, y) = clusters(90);
    // Within-class variances of 1 in every feature.
    let whitened = &x / nb(&x, &y, 3, SHARED).variances().unwrap().sqrt();
    let fitted = nb(&whitened, &y, 3, SHARED);
    let nearest = Tensor::cdist(&whitened, fitted.means(), 2.0, None::<i64>).argmin(1, false);
    assert_eq!(fitted.predict(&whitened).unwrap(), nearest);
    let index = y.lt(2).nonzero().squeeze_dim(1);
    let (x, y) = (x.index_select(0, &index), y.index_select(0, &index));
    let (w, b) = nb(&x, &y, 2, SHARED).as_linear().unwrap();
    let mean =
        |k: i64| x.index_select(0, &y.eq(k).nonzero().squeeze_dim(1)).mean_dim([0i64].as_slice(), false, Kind::Double);
    let (m0, m1) = (mean(0), mean(1));
    let within = &x - Tensor::stack(&[&m0, &m1], 0).index_select(0, &y);
    let v = within.square().mean_dim([0i64].as_slice(), false, Kind::Double);
    let lda = (&m1 - &m0) / v;
    assert_close("W_1 - W_0", &(w.get(1) - w.get(0)), &lda, 1e-12);
    let threshold = -(&lda * (&m0 + &m1)).sum(Kind::Double) / 2.0;
    assert_close("b_1 - b_0", &(b.get(1) - b.get(0)), &threshold, 1e-12);
}

#[test]
fn moments_and_scores_keep_f64_whatever_comes() {
    let (x, y) = clusters(90);
    let narrow = x.to_kind(Kind::BFloat16);
    let want = nb(&narrow.to_kind(Kind::Double), &y, 3, SHARED).log_joint(&x).unwrap();
    let scores = || nb(&narrow, &y, 3, SHARED).log_joint(&x);
    assert_close("of bf16", &scores().unwrap(), &want, 1e-14);
    let autocast = Precision::Bf16.run(Device::Cpu, scores).unwrap();
    assert_close("under autocast", &autocast, &want, 1e-14);
    // Far from 0, sums of squares would lose the variance entirely.
    let far = nb(&(&x + 1e8), &y, 3, SHARED);
    assert_close("variance", &far.variances().unwrap(), &nb(&x, &y, 3, SHARED).variances().unwrap(), 1e-6);
    assert_close("scores", &far.log_joint(&(&x + 1e8)).unwrap(), &nb(&x, &y, 3, SHARED).log_joint(&x).unwrap(), 1e-6);
}

#[test]
fn scores_differentiate_to_the_features() {
    let (x, y) = clusters(30);
    for config in [SHARED, PER_CLASS] {
        let fitted = nb(&x, &y, 3, config);
        check_gradient(&x.narrow(0, 0, 4), 1e-7, |x| {
            fitted.log_joint(x).unwrap().logsumexp([1i64].as_slice(), false).sum(Kind::Double)
        });
    }
}

#[test]
fn a_feature_constant_within_classes_decides_only_as_far_as_the_floor_lets_it() {
    // Feature 0 separates the two samples of each class by 0.1 for sure, feature 1 points the other way at x = (0.04, 1).
    let x = Tensor::from_slice2(&[[0f64, 0.], [0., 0.2], [0.1, 0.9], [0.1, 1.1]]);
    let y = Tensor::from_slice(&[0i64, 0, 1, 1]);
    let at = Tensor::from_slice2(&[[0.04f64, 1.0]]);
    let class =
        |floor| nb(&x, &y, 2, NaiveBayesConfig { floor, ..Default::default() }).predict(&at).unwrap().int64_value(&[0]);
    assert_eq!((class(1e-9), class(1e-2)), (0, 1));
}

#[test]
fn scaling_uses_the_subset_alone_and_survives_constant_features() {
    let (x, y) = clusters(60);
    let x = Tensor::cat(&[&x, &x.narrow(1, 0, 1).full_like(7.0)], 1);
    let train = Labelled { x: &x, y: &y, classes: 3 };
    for scaler in [Scaler::None, Scaler::MinMax, Scaler::Standard] {
        let generative = LinearEvaluation { scaler, ..Default::default() }.fit(train).unwrap();
        assert!(generative.error(train).unwrap() < 0.4, "{scaler:?}");
        assert_eq!(generative.predict(&x.narrow(0, 5, 1)).unwrap(), generative.predict(&x).unwrap().narrow(0, 5, 1));
        assert!(LinearEvaluation { scaler, classifier: LR }.fit(train).unwrap().error(train).unwrap() < 0.3);
    }
    // Logistic regression is not blind to the scale, because its penalty is not.
    let error = |x: &Tensor| {
        let train = Labelled { x, y: &y, classes: 3 };
        LinearEvaluation { scaler: Scaler::None, classifier: LR }.fit(train).unwrap().error(train).unwrap()
    };
    assert!(error(&(&x * 1e-3)) > error(&x));
}

#[test]
fn subsets_have_all_classes_and_curves_are_paired_and_repeat() {
    let labels = Tensor::arange(40, (Kind::Int64, Device::Cpu)).remainder(4);
    for i in 0..50 {
        let index = random_subset(&labels, 5, 4, &mut rng(i, &["subset"])).unwrap();
        let counts = Vec::<i64>::try_from(labels.index_select(0, &index).bincount::<&Tensor>(None, 4)).unwrap();
        assert!(counts.iter().all(|c| *c >= 1) && counts.iter().sum::<i64>() == 5, "{counts:?}");
        assert_eq!(index.unique_consecutive(false, false, 0).0.numel(), 5);
    }
    let (x, y) = clusters(300);
    let all = Labelled { x: &x, y: &y, classes: 3 };
    let evaluations = [LinearEvaluation::default(); 2];
    let curve = |seed| learning_curve(&evaluations, all, all, &[6, 60], 3, &mut rng(seed, &["curve"])).unwrap();
    let curves = curve(1);
    assert_eq!(curves[0], curves[1]);
    assert_eq!(curves, curve(1));
    assert_ne!(curves, curve(2));
    assert!(curves[0][1] < curves[0][0]);
}

#[test]
fn the_bayes_error_is_exact() {
    let error = |k, n| GaussianMixtureTask::new(k, n).unwrap().bayes_error();
    for (k, n, want, digit) in [
        (2, 2, 0.110336, 1e-6),
        (2, 10, 0.009508, 1e-6),
        (2, 100, 5.96e-13, 1e-15),
        (3, 10, 0.086657, 1e-6),
        (3, 20, 0.035462, 1e-6),
        (3, 50, 0.003858, 1e-6),
        (3, 100, 0.000127, 1e-6),
        (5, 10, 0.055798, 1e-6),
        (5, 100, 0.000076, 1e-6),
    ] {
        assert!((error(k, n) - want).abs() <= digit, "K = {k}, n = {n}: {}", error(k, n));
    }
    // Naive Bayes is the right model here: with many samples it comes to the Bayes error.
    let task = GaussianMixtureTask::new(3, 10).unwrap();
    assert_eq!(task.centres(), [-1.0, 1.0, 2.0]);
    let (x, y) = task.sample(60_000, &mut rng(0, &["mixture"]));
    let train = Labelled { x: &x, y: &y, classes: 3 };
    let got = LinearEvaluation { scaler: Scaler::None, ..Default::default() }.fit(train).unwrap().error(train).unwrap();
    assert!((got - task.bayes_error()).abs() < 0.004, "{got}");
}

#[test]
fn naive_bayes_needs_fewer_samples_of_the_mixture_than_logistic_regression() {
    let task = GaussianMixtureTask::new(2, 40).unwrap();
    let (x, y) = task.sample(2000, &mut rng(0, &["pool"]));
    let (test_x, test_y) = task.sample(2000, &mut rng(0, &["test"]));
    let (pool, test) = (Labelled { x: &x, y: &y, classes: 2 }, Labelled { x: &test_x, y: &test_y, classes: 2 });
    let sizes = geometric_sizes(4, 1000, 1.2).unwrap();
    let m_star = |classifier, target: f64| {
        let evaluation = LinearEvaluation { scaler: Scaler::None, classifier };
        sample_complexity(&evaluation, pool, test, target, &sizes, 3, &mut rng(0, &["draws"])).unwrap()
    };
    let target = task.bayes_error() + 0.01;
    let generative = m_star(LinearEvaluation::default().classifier, target).unwrap();
    let discriminative = m_star(LR, target).unwrap();
    assert!(generative * 3 < discriminative, "{generative} {discriminative}");
    assert_eq!(m_star(LR, 0.0), None);
}

#[test]
fn convergence_is_relative_to_the_curves_own_ends() {
    let curve = [(20.0, 0.5), (50.0, 0.3), (100.0, 0.1)];
    let m = samples_to_converge(&curve, 0.1).unwrap();
    // 0.14 lies four fifths of the way from 0.3 to 0.1.
    assert!((m - 50.0 * 2f64.powf(0.8)).abs() < 1e-9);
    assert!((samples_to_converge(&curve, 0.5).unwrap() - 50.0).abs() < 1e-9);
    assert_eq!(samples_to_converge(&[(1.0, 0.2), (2.0, 0.3)], 0.1).unwrap(), 1.0);
    assert!(samples_to_converge(&curve[..1], 0.1).is_err());
    assert!(samples_to_converge(&[(2.0, 0.2), (1.0, 0.3)], 0.1).is_err());
}

#[test]
fn excess_log_loss_bounds_the_excess_error_of_random_predictions() {
    let mut rng = rng(0, &["simplices"]);
    let mut closest = f64::INFINITY;
    for _ in 0..20_000 {
        let mut simplex = |sharpness: f64| {
            let raw: Vec<f64> = (0..4).map(|_| (sharpness * rng.random::<f64>()).exp()).collect();
            let sum: f64 = raw.iter().sum();
            raw.into_iter().map(|v| v / sum).collect::<Vec<f64>>()
        };
        let (p, q) = (simplex(4.0), simplex(2.0));
        let largest = |v: &[f64]| (0..4).max_by(|&a, &b| v[a].total_cmp(&v[b])).unwrap();
        if largest(&p) == largest(&q) {
            continue;
        }
        let (best, predicted) = (p[largest(&p)], p[largest(&q)]);
        let kl: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
        let (least, gap) = (excess_log_loss_lower(best, predicted).unwrap(), best - predicted);
        assert!(kl >= least - 1e-12 && least >= gap * gap / 2.0 - 1e-12, "{p:?} {q:?}");
        assert!(gap <= excess01_upper(kl).unwrap() + 1e-12);
        if gap > 0.1 {
            closest = closest.min(kl / least);
        }
    }
    assert!(closest < 1.2, "the bound is near its best in some case: {closest}");
    // With equality at q = the mean of the two probabilities: here p = (0.6, 0.4) against (1/2, 1/2).
    let kl = 0.6 * 1.2f64.ln() + 0.4 * 0.8f64.ln();
    assert!((excess_log_loss_lower(0.6, 0.4).unwrap() - kl).abs() < 1e-15);
    for t in [0.0, 1e-6, 9.99e-4, 1.001e-3, 0.3, 0.9, 1.0] {
        assert!(psi(t).unwrap() >= t * t / 2.0 - 1e-18);
    }
    assert!((psi(0.001).unwrap() - psi(0.000_999_999_9).unwrap()).abs() < 1e-12, "the two branches meet");
    assert!(psi(1.1).is_err() && excess_log_loss_lower(0.3, 0.4).is_err() && excess_log_loss_lower(0.9, 0.3).is_err());
    assert!(excess01_upper(-1.0).is_err());
}

#[test]
fn naive_bayes_pays_a_constant_for_every_doubling_of_the_features() {
    let m = |n| naive_bayes_samples(0.1, 0.05, n, 10).unwrap();
    assert!((m(200) - m(100) - 2f64.ln() / 0.02).abs() < 1e-9);
    assert!((m(400) - m(200) - 2f64.ln() / 0.02).abs() < 1e-9);
    assert!(naive_bayes_samples(0.0, 0.05, 1, 1).is_err() && naive_bayes_samples(0.1, 1.0, 1, 1).is_err());
}

#[test]
fn the_diagnostics_are_those_of_the_formula() {
    let (x, y) = clusters(60);
    let stats = assumption_stats(Labelled { x: &x, y: &y, classes: 3 }, 1e-9).unwrap();
    let log_p = nb(&x, &y, 3, NaiveBayesConfig::default()).log_likelihood(&x).unwrap();
    let own = log_p.index_select(0, &y.eq(2).nonzero().squeeze_dim(1));
    let ratio = (own.select(1, 0) - own.select(1, 1)) / 5.0;
    assert_close("mean", &stats.mean_log_ratio.get(2).get(0).get(1), &ratio.mean(Kind::Double), 1e-9);
    let variance = ratio.var(false) * 5.0;
    assert_close("variance", &stats.variance_log_ratio.get(2).get(0).get(1), &variance, 1e-9);
    let off: Vec<f64> = (0..27)
        .filter(|i| i / 3 % 3 != i % 3)
        .map(|i| stats.mean_log_ratio.view(-1).double_value(&[i]).abs())
        .collect();
    assert_eq!(stats.mean_log_ratio_quantile(0.0).unwrap(), off.iter().copied().fold(f64::MAX, f64::min));
    assert!(stats.variance_deciles.is_sorted() && stats.variance_deciles.len() == 11);
}

#[test]
fn bad_input_is_an_error_that_says_so() {
    let (x, y) = worked();
    let config = NaiveBayesConfig::default();
    let error = |x: &Tensor, y: &Tensor| GaussianNaiveBayes::fit(x, y, 3, &config).unwrap_err().to_string();
    assert_eq!(error(&x.view(-1), &y), "features: expected [N, D], got shape [12]");
    assert_eq!(error(&x, &y.narrow(0, 0, 5)), "labels: expected [6], got shape [5]");
    assert_eq!(error(&x, &(&y + 1)), "labels: expected class indices in 0..3, got values from 1 to 3");
    assert_eq!(error(&(&x / 0.0), &y), "features: expected finite values, got NaN or infinity");
    let partial = GaussianNaiveBayes::fit(&x.narrow(0, 0, 4), &y.narrow(0, 0, 4), 3, &config).unwrap();
    let e = partial.predict(&x).unwrap_err().to_string();
    assert_eq!(e, "samples: expected at least one of every class, got none of class 2");
    let fitted = nb(&x, &y, 3, config);
    assert_eq!(
        fitted.log_joint(&x.tr()).unwrap_err().to_string(),
        "features: expected [N, 2] with a row, got shape [2, 6]"
    );
    assert!(GaussianNaiveBayes::fit(&x, &y, 3, &NaiveBayesConfig { floor: 0.0, ..config }).is_err());
    let train = Labelled { x: &x, y: &y, classes: 3 };
    assert!(
        LinearEvaluation { scaler: Scaler::None, classifier: Classifier::LogisticRegression { c: 0.0 } }
            .fit(train)
            .is_err()
    );
    let fitted = LinearEvaluation::default().fit(train).unwrap();
    assert_eq!(fitted.predict(&x.tr()).unwrap_err().to_string(), "features: expected [N, 2], got shape [2, 6]");
    let mut rng = rng(0, &["bad"]);
    assert!(random_subset(&y, 2, 3, &mut rng).is_err() && random_subset(&y, 7, 3, &mut rng).is_err());
    let e = random_subset(&y.narrow(0, 0, 4), 4, 3, &mut rng).unwrap_err().to_string();
    assert!(e.contains("no subset of 4 of 4 samples"), "{e}");
    assert!(learning_curve(&[], train, train, &[6], 0, &mut rng).is_err());
    assert!(GaussianMixtureTask::new(2, 5).is_err() && GaussianMixtureTask::new(1, 4).is_err());
    assert!(geometric_sizes(0, 5, 1.1).is_err() && geometric_sizes(1, 5, 1.0).is_err());
    assert!(assumption_stats(Labelled { x: &x, y: &y.zeros_like(), classes: 1 }, 1e-9).is_err());
}
