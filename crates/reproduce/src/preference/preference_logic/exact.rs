//! What can be enumerated: programs of all losses over a pair, their order, and losses that are known in closed form.

use crate::runner::Context;
use anyhow::Result;
use autodidact_core::seed;
use autodidact_preference::losses::{PairLogProbs, dpo, simpo};
use autodidact_preference::preference_logic::{Link, NamedLoss};
use autodidact_preference::preference_logic::{
    Marks, Polynomial, PreferenceStructure, catalogue, compile, decompile, landscape,
};
use rand::RngExt;
use tch::Tensor;

/// Names of the arrays of an exact cell.
pub(super) const ROUND_TRIP: &str = "error of compiled against written loss";
pub(super) const PROGRAMS: &str = "programs that changed on the way";
pub(super) const COUNTS: &str = "counts";
pub(super) const ORDER: &str = "comparable pairs, violations";
pub(super) const CORES: &str = "equivalent core, constraint, additive condition of CPO and ORPO";
pub(super) const REFERENCES: &str = "error of DPO, error of SimPO, DPO is CPO with reference";
/// What the counts are of, and what they should be.
pub(super) const COUNTED: [(&str, f64); 5] = [
    ("losses", 256.0),
    ("without additive condition", 81.0),
    ("consistent", 16.0),
    ("consistent, without additive condition", 9.0),
    ("distinct programs", 256.0),
];

/// Probabilities of winner and loser to the core of a loss.
type Core = fn(f64, f64) -> f64;

/// Named losses as people write them: formula, and the core `rho` by hand.
const WRITTEN: [(&str, &str, Core); 10] = [
    ("CE", "p_w / (1 - p_w)", |w, _| (w / (1.0 - w)).ln()),
    ("CEunl", "p_w (1 - p_l) / (p_l + (1 - p_l) (1 - p_w))", |w, l| (w * (1.0 - l) / (l + (1.0 - l) * (1.0 - w))).ln()),
    ("CPO", "p_w / p_l", |w, l| (w / l).ln()),
    ("ORPO", "p_w (1 - p_l) / (p_l (1 - p_w))", |w, l| (w * (1.0 - l) / (l * (1.0 - w))).ln()),
    ("sCPO", "(p_w p_l + 1 - p_l) / (p_l (1 - p_w))", |w, l| ((w * l + 1.0 - l) / (l * (1.0 - w))).ln()),
    ("cCPO", "p_w / ((1 - p_w) p_l)", |w, l| (w / ((1.0 - w) * l)).ln()),
    ("cUNL", "p_w (1 - p_l) / p_l", |w, l| (w * (1.0 - l) / l).ln()),
    ("fUNL", "(1 - p_l) / p_l", |_, l| ((1.0 - l) / l).ln()),
    ("cfUNL", "(1 - p_l) / ((1 - p_w) p_l)", |w, l| ((1.0 - l) / ((1.0 - w) * l)).ln()),
    ("qfUNL", "(1 - p_l) / (1 - p_w)", |w, l| ((1.0 - l) / (1.0 - w)).ln()),
];

/// Random probabilities of a pair.
struct Points {
    /// Winner and loser.
    probabilities: Vec<[f64; 2]>,
    /// Their logarithms, `[N, 2]`.
    log: Tensor,
}

impl Points {
    fn new(count: usize, seed: u64) -> Self {
        let mut rng = seed::rng(seed, &["probabilities"]);
        let probabilities: Vec<[f64; 2]> =
            (0..count).map(|_| [rng.random_range(0.02..0.98), rng.random_range(0.02..0.98)]).collect();
        let log = Tensor::from_slice2(&probabilities).log();
        Self { probabilities, log }
    }

    /// The cores of a loss at the points.
    fn cores(&self, marks: Marks) -> Result<Vec<f64>> {
        Ok(compile(&marks.structure(), Link::default())?.rho(&self.log)?.try_into()?)
    }
}

fn largest_difference(a: &[f64], b: impl IntoIterator<Item = f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |top, d| if d.is_nan() { d } else { f64::max(top, d) })
}

/// Losses from formulas as written, and those of all programs from their polynomials: errors of values, and programs that changed.
fn round_trips(points: &Points, proper: &[Marks]) -> Result<(Vec<f64>, f64)> {
    let known = catalogue();
    let (mut errors, mut changed) = (vec![], 0);
    for (name, formula, core) in WRITTEN {
        let (above, below) = Polynomial::parse_ratio(formula, &["p_w", "p_l"])?;
        let marks = decompile(&above, &below)?.marks();
        changed += usize::from(known.iter().all(|n| n.name != name || n.structure.marks() != marks));
        let written = points.probabilities.iter().map(|&[w, l]| core(w, l));
        errors.push(largest_difference(&points.cores(marks)?, written));
    }
    for &marks in proper {
        let program = marks.structure();
        let [core, cond, add] = [program.core(), program.cond(), program.add()].map(Clone::clone);
        changed += usize::from(PreferenceStructure::new(core, cond, add, 2)?.marks() != marks);
        let (above, below) = program.ratio();
        changed += usize::from(decompile(&above, &below)?.marks() != marks);
        let mut written = vec![];
        for p in &points.probabilities {
            written.push((above.value(p)? / below.value(p)?).ln());
        }
        errors.push(largest_difference(&points.cores(marks)?, written));
    }
    Ok((errors, changed as f64))
}

/// Pairs of losses of which one entails the other, and values that are in the other order.
fn order(points: &Points, proper: &[Marks]) -> Result<[f64; 2]> {
    let cores = proper.iter().map(|&m| points.cores(m)).collect::<Result<Vec<_>>>()?;
    let (mut pairs, mut violations) = (0, 0);
    for (i, a) in proper.iter().enumerate() {
        for (j, b) in proper.iter().enumerate() {
            if i != j && a.stronger_than(*b) {
                pairs += 1;
                // Cores that are equal but for rounding are in order.
                violations += cores[i].iter().zip(&cores[j]).filter(|(a, b)| **a > **b + 1e-12).count();
            }
        }
    }
    Ok([f64::from(pairs), violations as f64])
}

fn named(name: &str) -> Result<NamedLoss> {
    let found = catalogue().into_iter().find(|n| n.name == name);
    found.ok_or_else(|| anyhow::anyhow!("the catalogue lacks {name}"))
}

/// Whether the parts of the programs of CPO and ORPO are equivalent.
fn shared_core() -> Result<Vec<f64>> {
    let (cpo, orpo) = (named("CPO")?.structure, named("ORPO")?.structure);
    let parts = [(cpo.core(), orpo.core()), (cpo.cond(), orpo.cond()), (cpo.add(), orpo.add())];
    parts.iter().map(|(a, b)| Ok(f64::from(u8::from(a.truth_table(2)?.equivalent(b.truth_table(2)?))))).collect()
}

/// Largest errors of DPO and SimPO from their programs, and whether DPO's is CPO's with a reference.
fn references(count: usize, seed: u64) -> Result<Vec<f64>> {
    let mut rng = seed::rng(seed, &["log-probabilities"]);
    let mut draw = || Tensor::from_slice(&(0..count).map(|_| rng.random_range(-40.0..-0.01)).collect::<Vec<f64>>());
    let (policy, reference) = (PairLogProbs::new(draw(), draw())?, PairLogProbs::new(draw(), draw())?);
    let error = |name: &str, direct: Tensor| -> Result<f64> {
        let compiled = named(name)?.forward(&policy, Some(&reference))?;
        Ok((compiled - direct).abs().max().double_value(&[]))
    };
    // The catalogue's settings: beta 0.1; beta 2 and gamma 1.
    let dpo_error = error("DPO", dpo(&policy.margin(&reference)?, 0.1)?)?;
    let simpo_error = error("SimPO", simpo(&policy, 2.0, 1.0)?)?;
    let same = named("CPO")?.structure.with_reference()? == named("DPO")?.structure;
    Ok(vec![dpo_error, simpo_error, f64::from(u8::from(same))])
}

pub(super) fn run(count: usize, context: &mut Context<'_>) -> Result<()> {
    let seed = context.seed("points");
    let points = Points::new(count, seed);
    let all: Vec<Marks> = landscape(2)?.collect();
    let proper: Vec<Marks> = all.iter().copied().filter(|m| !m.is_degenerate()).collect();
    let (errors, changed) = round_trips(&points, &proper)?;
    context.array(ROUND_TRIP, errors);
    context.array(PROGRAMS, vec![changed]);
    let of = |keep: &dyn Fn(Marks) -> bool| all.iter().filter(|m| keep(**m)).count() as f64;
    // Programs from their formulas alone: marks that came out the same would be one.
    let mut rebuilt = std::collections::HashSet::new();
    for marks in &all {
        let program = marks.structure();
        let [core, cond, add] = [program.core(), program.cond(), program.add()].map(Clone::clone);
        rebuilt.insert(PreferenceStructure::new(core, cond, add, 2)?.marks().to_string());
    }
    let distinct = rebuilt.len();
    let counts = [
        all.len() as f64,
        of(&|m| !m.has_additive()),
        of(&|m| m.consistent()),
        of(&|m| m.consistent() && !m.has_additive()),
        distinct as f64,
    ];
    context.array(COUNTS, counts.to_vec());
    context.array(ORDER, order(&points, &proper)?.to_vec());
    context.array(CORES, shared_core()?);
    context.array(REFERENCES, references(count, seed)?);
    Ok(())
}
