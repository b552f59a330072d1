//! Losses compiled from preference structures against enumerated worlds, direct formulas and tabulated values; the landscape and its order.

mod formulas;
mod order;

use autodidact_core::testing::{assert_close, check_gradient, fixture};
use autodidact_preference::losses::{self, PairLogProbs};
use autodidact_preference::preference_logic::{
    CompiledLoss, Formula, Input, Link, Marks, NamedLoss, PROBABILITIES, Polynomial, PreferenceStructure, SHORT,
    catalogue, compile, decompile, landscape, lattice, log_wmc,
};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);
const PAIR: [&str; 2] = ["p_w", "p_l"];

/// Name, numerator and denominator, marks, P, P_C, P_A; at p_w = 0.3, p_l = 0.2: rho, loss and its gradient.
type Row = (&'static str, &'static str, &'static str, [&'static str; 3], [f64; 4]);

const TABLE: [Row; 10] = [
    ("CE", "p_w / (1-p_w)", "++--", ["w", "true", "false"], [-0.847298, 1.203973, -1.0, 0.0]),
    (
        "CEunl",
        "p_w(1-p_l) / (p_l + (1-p_l)(1-p_w))",
        "-+--",
        ["w and not l", "true", "false"],
        [-1.152680, 1.427116, -1.0, 0.25],
    ),
    ("CPO", "p_w / p_l", "*+-.", ["l -> w", "w or l", "w and l"], [0.405465, 0.510826, -0.4, 0.4]),
    (
        "ORPO",
        "p_w(1-p_l) / (p_l(1-p_w))",
        ".+-.",
        ["l -> w", "w xor l", "false"],
        [0.538997, 0.459532, -0.526316, 0.460526],
    ),
    (
        "sCPO",
        "(p_w p_l + 1-p_l) / (p_l(1-p_w))",
        "++-+",
        ["l -> w", "true", "false"],
        [1.815290, 0.150823, -0.069767, 0.162791],
    ),
    ("cCPO", "p_w / ((1-p_w) p_l)", "++-.", ["l -> w", "w or l", "false"], [0.762140, 0.382992, -0.454545, 0.318182]),
    ("cUNL", "p_w(1-p_l) / p_l", "-+-.", ["not l", "w or l", "false"], [0.182322, 0.606136, -0.454545, 0.568182]),
    ("fUNL", "(1-p_l)/p_l", "-+-+", ["not l", "true", "false"], [1.386294, 0.223144, 0.0, 0.25]),
    (
        "cfUNL",
        "(1-p_l)/((1-p_w) p_l)",
        ".+-+",
        ["l -> w", "not (w and l)", "false"],
        [1.742969, 0.161268, -0.063830, 0.186170],
    ),
    (
        "qfUNL",
        "(1-p_l)/(1-p_w)",
        ".+-*",
        ["l -> w", "not (w and l)", "not w and not l"],
        [0.133531, 0.628609, -0.2, 0.116667],
    ),
];

fn golden() -> BTreeMap<String, Tensor> {
    fixture(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/preference_logic.safetensors"))
}

fn lines(text: &Tensor) -> Vec<String> {
    let bytes = Vec::<u8>::try_from(text).unwrap();
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

fn named(name: &str) -> NamedLoss {
    catalogue().into_iter().find(|loss| loss.name == name).unwrap()
}

fn compiled(marks: &str) -> CompiledLoss {
    compile(&PreferenceStructure::from_marks(marks).unwrap(), Link::default()).unwrap()
}

fn near(got: &Tensor, want: f64, tolerance: f64) {
    let got = got.double_value(&[0]);
    assert!((got - want).abs() < tolerance, "{got}, expected {want}");
}

fn one(chosen: f64, rejected: f64) -> PairLogProbs {
    PairLogProbs::new(Tensor::from_slice(&[chosen]), Tensor::from_slice(&[rejected])).unwrap()
}

/// Log-probabilities of random numbers in (0, 1).
fn random(rows: i64, n: i64) -> Tensor {
    (Tensor::rand([rows, n], F64) * 0.98 + 0.01).log()
}

fn proper(n: usize) -> Vec<Marks> {
    landscape(n).unwrap().filter(|m| !m.is_degenerate()).collect()
}

#[test]
fn the_named_losses_have_the_papers_formulas_values_and_gradients() {
    for (name, formula, marks, formulas, [rho, loss, d_w, d_l]) in TABLE {
        let known = named(name);
        assert_eq!(known.structure.marks().to_string(), marks, "{name}");
        let (above, below) = Polynomial::parse_ratio(formula, &PAIR).unwrap();
        let structure = decompile(&above, &below).unwrap();
        assert_eq!(structure, known.structure, "{name}");
        assert_eq!((above, below), structure.ratio(), "{name}");
        let [p, c, a] = formulas;
        assert_eq!(structure.to_string(), format!("P = {p}; P_C = {c}; P_A = {a}"), "{name}");
        let log_probs = Tensor::from_slice2(&[[0.3f64, 0.2]]).log().set_requires_grad(true);
        let compiled = known.compile().unwrap();
        near(&compiled.rho(&log_probs).unwrap(), rho, 5e-7);
        let value = compiled.forward(&log_probs).unwrap();
        near(&value, loss, 5e-7);
        value.sum(Kind::Double).backward();
        let gradient = log_probs.grad().get(0);
        near(&gradient, d_w, 5e-7);
        near(&gradient.narrow(0, 1, 1), d_l, 5e-7);
    }
}

#[test]
fn losses_and_gradients_are_those_of_enumerated_worlds() {
    let g = golden();
    for name in ["two", "three", "four"] {
        let (mut losses, mut gradients) = (Vec::new(), Vec::new());
        for marks in lines(&g[&format!("{name}.marks")]) {
            let log_probs = g[&format!("{name}.log_probs")].copy().set_requires_grad(true);
            let loss = compiled(&marks).forward(&log_probs).unwrap();
            loss.sum(Kind::Double).backward();
            // Where nothing depends on the input (CE of one proposition, say), there is a gradient of zero.
            gradients.push(log_probs.grad());
            losses.push(loss.detach());
        }
        assert_close(name, &Tensor::stack(&losses, 0), &g[&format!("{name}.losses")], 1e-12);
        assert_close(name, &Tensor::stack(&gradients, 0), &g[&format!("{name}.gradients")], 1e-11);
    }
    let rows: Vec<Tensor> =
        (lines(&g["two.marks"]).iter()).map(|marks| compiled(marks).rho(&g["extreme.log_probs"]).unwrap()).collect();
    let (got, want) = (Tensor::stack(&rows, 0), &g["extreme.rho"]);
    let error = (got - want).abs() / want.abs().clamp_min(1.0);
    assert!(error.max().double_value(&[]) < 1e-9, "{error}");
}

#[test]
fn references_make_dpo_of_cpo_and_the_others_of_the_family() {
    tch::manual_seed(3);
    // Sums over tokens of long responses: far too small for probabilities of their contrary.
    let draw = || PairLogProbs::new(Tensor::rand([20], F64) * -300.0, Tensor::rand([20], F64) * -300.0).unwrap();
    let (policy, reference) = (draw(), draw());
    let margin = policy.margin(&reference).unwrap();
    let check = |name: &str, want: Tensor| {
        let got = named(name).forward(&policy, Some(&reference)).unwrap();
        assert_close(name, &got, &want, 1e-12);
    };
    check("DPO", losses::dpo(&margin, 0.1).unwrap());
    check("IPO", losses::ipo(&margin, 0.1).unwrap());
    check("CPO", losses::cpo(&policy, 1.0).unwrap());
    check("SLiC", losses::slic(&policy, 1.0).unwrap());
    check("SimPO", losses::simpo(&policy, 2.0, 1.0).unwrap());
    check("RRHF", (-policy.gap()).relu());
    let penalty = (&reference.chosen - &policy.chosen).relu() * 50.0;
    check("DPOP", losses::dpo(&(&margin - penalty), 0.1).unwrap());
    let per_token = PairLogProbs::new(random(20, 1).squeeze(), random(20, 1).squeeze()).unwrap();
    let orpo = named("ORPO").forward(&per_token, None).unwrap();
    assert_close("ORPO", &orpo, &losses::orpo(&per_token).unwrap(), 1e-12);
    // Any structure with a reference: the difference of the log-ratios.
    for (name, ..) in TABLE {
        let structure = named(name).structure;
        let both = random(7, 4);
        let rho = |s: &PreferenceStructure, x: &Tensor| compile(s, Link::Rrhf).unwrap().rho(x).unwrap();
        let want = rho(&structure, &both.narrow(1, 0, 2)) - rho(&structure, &both.narrow(1, 2, 2));
        assert_close(name, &rho(&structure.with_reference().unwrap(), &both), &want, 1e-12);
    }
    let dpo = &named("DPO").structure;
    let (above, below) = Polynomial::parse_ratio("p_w * q_l / (q_w * p_l)", &PROBABILITIES).unwrap();
    assert_eq!(decompile(&above, &below).unwrap(), *dpo);
    assert_eq!(dpo.core().to_string(), "(w_ref and l) -> (l_ref and w)");
    assert_eq!(dpo.cond().to_string(), "(w_ref and l) or (l_ref and w)");
    assert_eq!(dpo.add().to_string(), "w_ref and l_ref and w and l");
    let dpop = named("DPOP");
    let text = "p_w p_w2 q_l / (q_w q_w2 p_l)";
    let (above, below) = Polynomial::parse_ratio(text, dpop.input.probabilities()).unwrap();
    assert_eq!(decompile(&above, &below).unwrap(), dpop.structure);
    // One pair with known values.
    let (policy, reference) = (one(-12.3, -10.1), one(-13.0, -9.6));
    let value = |name: &str, policy: &PairLogProbs| named(name).forward(policy, Some(&reference)).unwrap();
    near(&value("DPO", &policy), 0.6349461, 5e-8);
    near(&value("IPO", &policy), 14.44, 1e-9);
    near(&value("SLiC", &policy), 3.2, 1e-12);
    let per_token = one(-12.3 / 8.0, -10.1 / 6.0);
    near(
        &value("SimPO", &one(-12.3 / 8.0, -10.1 / 6.0)),
        losses::simpo(&per_token, 2.0, 1.0).unwrap().double_value(&[0]),
        1e-12,
    );
    near(&value("ORPO", &per_token), 0.6061421, 5e-8);
    let cpo = compile(&named("CPO").structure, Link::LogSigmoid { beta: 0.1 }).unwrap();
    near(&cpo.forward(&Tensor::from_slice2(&[[-12.3, -10.1]])).unwrap(), 0.8091850, 5e-8);
}

#[test]
fn gradients_are_right_and_no_reference_gets_one() {
    tch::manual_seed(4);
    let (two, four, six) = (random(3, 2), random(3, 4), random(3, 6));
    for loss in catalogue() {
        let input = [&two, &four, &six][loss.structure.propositions() / 2 - 1];
        check_gradient(input, 1e-7, |x| loss.compile().unwrap().forward(x).unwrap().sum(Kind::Double));
    }
    check_gradient(&two, 1e-7, |x| log_wmc(&"w -> l".parse().unwrap(), x).unwrap().sum(Kind::Double));
    let leaf = || random(3, 1).squeeze_dim(1).set_requires_grad(true);
    for name in ["DPO", "DPOP"] {
        let policy = PairLogProbs::new(leaf(), leaf()).unwrap();
        let reference = PairLogProbs::new(leaf(), leaf()).unwrap();
        named(name).forward(&policy, Some(&reference)).unwrap().sum(Kind::Double).backward();
        assert!(policy.chosen.grad().defined() && !reference.chosen.grad().defined(), "{name}");
    }
    // Equal and opposite where the loss sees the gap alone.
    let gradient = |name: &str| {
        let x = two.copy().set_requires_grad(true);
        named(name).compile().unwrap().forward(&x).unwrap().sum(Kind::Double).backward();
        x.grad().sum_dim_intlist([1i64].as_slice(), false, Kind::Double).abs().max().double_value(&[])
    };
    assert!(gradient("CPO") < 1e-15 && gradient("ORPO") > 1e-3);
}

#[test]
fn certainty_is_clamped_and_counted() {
    let x = Tensor::from_slice2(&[[0.0f64, -0.5], [-1e-7, 0.0], [-1.0, -2.0]]);
    let count = |name: &str| named(name).compile().unwrap().clamped(&x).unwrap().int64_value(&[]);
    // CPO needs no probability that a response is invalid; CE the winner's alone.
    assert_eq!(["CPO", "CE", "fUNL", "ORPO"].map(count), [0, 2, 1, 3]);
    let leaf = x.copy().set_requires_grad(true);
    let loss = named("ORPO").compile().unwrap().forward(&leaf).unwrap();
    loss.sum(Kind::Double).backward();
    assert!(loss.isfinite().all().int64_value(&[]) == 1 && leaf.grad().isfinite().all().int64_value(&[]) == 1);
    // Impossible responses and half precision.
    let impossible = Tensor::from_slice2(&[[f64::NEG_INFINITY, -0.5], [-0.5, f64::NEG_INFINITY]]);
    let ce = named("CEunl").compile().unwrap().forward(&impossible).unwrap();
    assert!(ce.double_value(&[0]) > 1e20 && (ce.double_value(&[1]) - 0.5).abs() < 1e-12);
    let half = x.to_kind(Kind::BFloat16);
    let got = named("ORPO").compile().unwrap().to_device(Device::Cpu).forward(&half).unwrap();
    assert_eq!(got.kind(), Kind::Float);
    assert_close("bf16", &got, &named("ORPO").compile().unwrap().forward(&half.to_kind(Kind::Double)).unwrap(), 1e-5);
}

#[test]
fn links_have_their_formulas() {
    let rho = Tensor::from_slice(&[-1.5f64, 0.0, 2.0]);
    let values = |link: Link| Vec::<f64>::try_from(link.apply(&rho).unwrap()).unwrap();
    assert_eq!(values(Link::Hinge { delta: 1.0 }), [2.5, 1.0, 0.0]);
    assert_eq!(values(Link::Rrhf), [1.5, 0.0, 0.0]);
    assert_eq!(values(Link::Ipo { beta: 0.25 }), [12.25, 4.0, 0.0]);
    assert!((values(Link::LogSigmoid { beta: 2.0 })[2] - 0.0181499279).abs() < 1e-10);
    let cpo = PreferenceStructure::from_marks("*+-.").unwrap();
    for link in [Link::LogSigmoid { beta: 0.0 }, Link::Ipo { beta: f64::NAN }, Link::Hinge { delta: -1.0 }] {
        assert!(compile(&cpo, link).is_err() && link.apply(&rho).is_err());
    }
}

#[test]
fn bad_input_is_refused() {
    for bad in ["", "+", "+-+", "+-x.", "+-.", &"+".repeat(128)] {
        assert!(bad.parse::<Marks>().is_err(), "{bad}");
    }
    for degenerate in ["++++", "....", "--.."] {
        let structure = PreferenceStructure::from_marks(degenerate).unwrap();
        assert!(compile(&structure, Link::default()).is_err(), "{degenerate}");
        let (above, below) = structure.ratio();
        assert!(decompile(&above, &below).is_err());
    }
    let message = |text: &str| {
        let (above, below) = Polynomial::parse_ratio(text, &PAIR).unwrap();
        decompile(&above, &below).unwrap_err().to_string()
    };
    assert_eq!(
        message("(p_w + p_l) / p_l"),
        "polynomial: expected disjoint terms: each world with coefficient 0 or 1, got 2 times world 11"
    );
    assert!(message("p_w / (p_l - p_w)").ends_with("-1 times world 10"));
    assert_eq!(message("p_w / (p_l - p_l)"), "denominator: expected a polynomial other than zero, got 0");
    let parse = |text: &str| Polynomial::parse(text, &PAIR);
    assert_eq!(
        parse("p_w (1 - p_l) p_w").unwrap_err().to_string(),
        "polynomial: expected a multilinear one, got a square of the probability of proposition 0"
    );
    for bad in
        ["", "p_w +", "p_w * ", "(p_w", "p_x", "p_w)", "p_w / p_l", "99999999999999999999", "9223372036854775807 2"]
    {
        assert!(parse(bad).is_err(), "{bad}");
    }
    assert_eq!(parse("-p_w + 2*p_w·1 − 0").unwrap(), Polynomial::probability(2, 0).unwrap());
    assert!(Polynomial::parse_ratio("p_w", &PAIR).is_err() && Polynomial::parse_ratio("p_w/p_l/p_l", &PAIR).is_err());
    assert!(Polynomial::probability(2, 2).is_err() && Polynomial::constant(7, 1).is_err());
    let three = Polynomial::probability(3, 0).unwrap();
    assert!(parse("p_w").unwrap().plus(&three).is_err() && decompile(&parse("p_w").unwrap(), &three).is_err());
    let new = |core: &str, cond: &str, add: &str, n| {
        PreferenceStructure::new(core.parse().unwrap(), cond.parse().unwrap(), add.parse().unwrap(), n)
    };
    assert!(new("l -> w", "w or l", "w and l", 2).is_ok());
    assert_eq!(
        new("l -> w", "w", "l", 2).unwrap_err().to_string(),
        "additive condition: expected a formula that entails w, got l"
    );
    assert!(new("l_ref", "true", "false", 2).is_err() && new("w", "true", "false", 7).is_err());
    assert!(named("DPO").structure.with_reference().is_err());
    let cpo = named("CPO").compile().unwrap();
    for shape in [&[3i64, 3][..], &[2], &[0, 2]] {
        assert!(cpo.forward(&Tensor::zeros(shape, F64)).is_err());
    }
    assert!(cpo.forward(&Tensor::zeros([3, 2], (Kind::Int64, Device::Cpu))).is_err());
    assert!(log_wmc(&Formula::Bottom, &Tensor::zeros([3, 2], F64)).is_err());
    assert!(log_wmc(&Formula::Var(2), &Tensor::zeros([3, 2], F64)).is_err());
    let (policy, two) = (one(-1.0, -2.0), PairLogProbs::halves(&Tensor::zeros([4], F64)).unwrap());
    assert!(named("DPO").forward(&policy, None).is_err() && named("DPO").forward(&policy, Some(&two)).is_err());
    for input in [Input::ManualReference { margin: -1.0 }, Input::PenalisedWinner { lambda: f64::NAN }] {
        assert!(input.columns(&policy, Some(&policy)).is_err());
    }
}
