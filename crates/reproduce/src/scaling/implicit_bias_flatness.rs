//! Models of one loss: does flatness, and not loss, tell what they are worth downstream?
//!
//! Part A enumerates the XOR-language: from one saturated network, training goes on with and without noise; beside it stand networks of
//! frozen features, of an adversary, and of other widths. Part B trains decoders of three sizes on a hidden Markov language until they
//! reach its entropy, and on.

mod judge;
mod plots;
mod runs;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Result, bail};
use autodidact_core::Error;
use autodidact_core::error::check_range;
use autodidact_scaling::implicit_bias_flatness::{Adversary, OutputScale};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct ImplicitBiasFlatness;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    /// Bits of the XOR-language.
    bits: i64,
    /// `s`.
    strength: f64,
    width: i64,
    /// `ws` and `as`.
    first: f64,
    second: f64,
    /// Descent to the manifold, and before every measurement.
    quiet_lr: f64,
    quiet_steps: usize,
    anneal: usize,
    /// Training on: batch, rate, and the steps after which it is measured, from 0.
    batch: usize,
    lr: f64,
    checkpoints: Vec<usize>,
    frozen_width: i64,
    frozen_lr: f64,
    frozen_steps: usize,
    adversary: Adversary,
    /// Widths of the comparison of output scales.
    widths: Vec<i64>,
    shots: usize,
    draws: usize,
    /// Largest excess of models of one loss.
    band: f64,
    /// Part B: the hidden Markov language.
    states: usize,
    vocab: usize,
    transition: f64,
    emission: f64,
    length: usize,
    /// Widths of the decoders.
    sizes: Vec<i64>,
    depth: usize,
    head_width: i64,
    adam_lr: f64,
    adam_batch: usize,
    adam_steps: usize,
    sgd_lr: f64,
    sgd_batch: usize,
    /// Steps of SGD after which decoders are measured, from 0.
    sgd_checkpoints: Vec<usize>,
    cool_batch: usize,
    cool_steps: usize,
    hmm_shots: usize,
    pool: usize,
    test: usize,
    trace_samples: usize,
    hmm_band: f64,
    /// Seeds of part B, the first of the plan's.
    hmm_seeds: usize,
}

impl Config {
    fn check(&self) -> Result<()> {
        for (name, value) in [
            ("quiet_lr", self.quiet_lr),
            ("lr", self.lr),
            ("frozen_lr", self.frozen_lr),
            ("band", self.band),
            ("hmm_band", self.hmm_band),
            ("adam_lr", self.adam_lr),
            ("sgd_lr", self.sgd_lr),
        ] {
            check_range(name, value, f64::MIN_POSITIVE..)?;
        }
        for (name, value) in [
            ("batch", self.batch),
            ("depth", self.depth),
            ("adam_batch", self.adam_batch),
            ("adam_steps", self.adam_steps),
            ("sgd_batch", self.sgd_batch),
            ("cool_batch", self.cool_batch),
            ("cool_steps", self.cool_steps),
            ("hmm_seeds", self.hmm_seeds),
        ] {
            check_range(name, value as f64, 1.0..)?;
        }
        check_range("length", self.length as f64, (runs::BACK + 1) as f64..)?;
        check_range("test", self.test as f64, 2.0..)?;
        check_range("trace_samples", self.trace_samples as f64, 2.0..=self.test as f64)?;
        check_range("hmm_shots", self.hmm_shots as f64, 2.0..=self.pool as f64)?;
        let sizes: Vec<f64> = self.sizes.iter().map(|s| *s as f64).collect();
        check_list("sizes", &sizes, 1.0..)?;
        check_list("widths", &self.widths.iter().map(|w| *w as f64).collect::<Vec<_>>(), 2.0..)?;
        if sizes.len() < 2 || sizes.windows(2).any(|w| w[0] >= w[1]) {
            return Err(Error::value("sizes", "two or more, ascending", format!("{:?}", self.sizes)).into());
        }
        if let Some(bad) = self.sizes.iter().find(|s| self.head_width < 1 || **s % self.head_width != 0) {
            return Err(Error::value("sizes", format!("multiples of head_width = {}", self.head_width), bad).into());
        }
        for (name, list) in [("checkpoints", &self.checkpoints), ("sgd_checkpoints", &self.sgd_checkpoints)] {
            if list.first() != Some(&0) || list.len() < 2 || list.windows(2).any(|w| w[0] >= w[1]) {
                return Err(Error::value(name, "0 and then ascending steps", format!("{list:?}")).into());
            }
        }
        Ok(())
    }

    fn last(&self) -> usize {
        self.checkpoints[self.checkpoints.len() - 1]
    }
}

/// Arms of part A.
const SGD: &str = "sgd";
const HALF: &str = "sgd, half rate";
const LABELS: &str = "label noise";
const GD: &str = "gd";
const FROZEN: &str = "frozen features";
const ADVERSARIAL: &str = "adversarial";
const PART_A: [&str; 6] = [SGD, HALF, LABELS, GD, FROZEN, ADVERSARIAL];

fn by_width(width: i64, scale: OutputScale) -> String {
    let scale = if scale == OutputScale::Root { "root" } else { "mean" };
    format!("width={width}, {scale}")
}

fn by_size(size: i64) -> String {
    format!("hmm/d={size}")
}

/// Metrics.
const EXCESS: &str = "excess loss (nats)";
const TRACE: &str = "trace of the Hessian";
const TRACE_ERROR: &str = "standard error of the trace";
const PROBE: &str = "probe accuracy";
const EARLIER: &str = "probe accuracy, earlier state";
const CEILING: &str = "accuracy of the exact posterior";
const ENTROPY: &str = "entropy rate (nats/token)";

impl Experiment for ImplicitBiasFlatness {
    fn slug(&self) -> &'static str {
        "implicit-bias-flatness"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "Longer training after saturation raises downstream accuracy at equal loss",
                "SST-2 +1.25 % on OpenWebText between 400K and 1,400K steps; 1.6 % and 4.0 % on synthetic sets",
                "Part A: the probe gain of SGD over noise-free descent after equal steps, paired by seed, is above 0 with its 95 % interval.",
            ),
            Claim::new(
                "C2",
                "Larger models of equal, minimal loss transfer better",
                "over all sizes",
                "Part B: slopes over log2 d of the probe accuracy and of minus the trace are both above 0 with their 95 % intervals, at excess below 0.01 throughout. Partly: one of the two. Not judged where decoders are not saturated. Part A's widths are reported under both output scales.",
            ),
            Claim::new(
                "C3",
                "Algorithms of equal loss differ downstream: natural ones beat adversarial and look-up solutions",
                "adversarial and look-up models fall behind on every task",
                "Part A: the probe on frozen features is worse than that of noise-free descent by more than 0.1 with the 95 % interval, and worse than that of descent at the frozen features' own width by more than 0, at excess below 0.003 in every seed. Partly if worse than the first by more than 0.",
            ),
            Claim::new(
                "C4",
                "Among models of one loss the trace of the Hessian goes with downstream accuracy, and the loss does not",
                "losses of 3.204 to 3.208; the trace falls with steps and size",
                "Spearman's correlation of trace and probe is at most -0.7 over all saturated models of part A (excess at most 0.002; within and across arms and widths), and that of excess and probe is smaller in size. Partly if one of the two.",
            ),
            Claim::new(
                "C5",
                "SGD's noise drives the trace down on the manifold of minimisers; descent without noise does not",
                "theory",
                "Part A: the trace falls to at most 0.75 of its start with SGD in every seed and stays within 0.98 to 1.02 without noise, at excess at most 0.002 throughout. Partly if SGD ends below descent in every seed.",
            ),
            Claim::new(
                "C6",
                "In the synthetic language the flattest minimiser transfers",
                "theory",
                "Part A: the probe gain of SGD over noise-free descent, paired by seed, is above 0 with its 95 % interval, and in most seeds the flattest of the saturated models (as in C4) is among the better half of probes. Partly if one of the two.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["hidden-markov"]
    }

    fn seeds(&self, scale: Scale) -> usize {
        if scale == Scale::Smoke { 1 } else { 5 }
    }

    fn config(&self, scale: Scale) -> Value {
        let small = Config {
            bits: 8,
            strength: 2.0,
            width: 64,
            first: 2.0,
            second: 2.0,
            quiet_lr: 0.1,
            quiet_steps: 4000,
            anneal: 1500,
            batch: 8,
            lr: 0.15,
            checkpoints: vec![0, 5000, 10_000, 20_000, 30_000, 40_000],
            frozen_width: 512,
            frozen_lr: 2.0,
            frozen_steps: 40_000,
            // Of 0.1, 0.3, 1 and 3, the largest whose excess stays inside the band on seed 100.
            adversary: Adversary { lambda: 3.0, ..Adversary::default() },
            widths: vec![24, 48, 96, 192],
            shots: 16,
            draws: 200,
            band: 0.002,
            // Half of 12 states and 24 tokens in sequences of 24, in which decoders stay 0.018 to 0.025 above the entropy (seed 100).
            states: 6,
            vocab: 12,
            transition: 0.3,
            emission: 0.1,
            length: 12,
            sizes: vec![16, 32, 64],
            depth: 2,
            head_width: 16,
            adam_lr: 2e-3,
            adam_batch: 64,
            adam_steps: 4000,
            sgd_lr: 0.05,
            sgd_batch: 8,
            sgd_checkpoints: vec![0, 1500, 3000],
            cool_batch: 128,
            cool_steps: 100,
            hmm_shots: 64,
            pool: 1000,
            test: 2000,
            trace_samples: 400,
            hmm_band: 0.01,
            hmm_seeds: 3,
        };
        json!(match scale {
            Scale::Smoke => Config {
                bits: 5,
                width: 16,
                quiet_steps: 300,
                anneal: 50,
                checkpoints: vec![0, 150, 300],
                frozen_width: 32,
                frozen_steps: 300,
                widths: vec![8, 16],
                draws: 20,
                states: 4,
                vocab: 8,
                length: 8,
                sizes: vec![16, 32],
                depth: 1,
                adam_batch: 16,
                adam_steps: 40,
                sgd_checkpoints: vec![0, 20],
                cool_steps: 5,
                hmm_shots: 32,
                pool: 200,
                test: 200,
                trace_samples: 20,
                ..small
            },
            Scale::Small => small,
            Scale::Full => Config {
                checkpoints: vec![0, 5000, 10_000, 20_000, 40_000, 100_000, 200_000, 400_000],
                states: 64,
                vocab: 256,
                length: 128,
                sizes: vec![256, 384, 512, 768],
                depth: 8,
                head_width: 64,
                adam_lr: 3e-4,
                adam_batch: 256,
                adam_steps: 20_000,
                sgd_checkpoints: vec![0, 20_000, 60_000, 200_000],
                cool_batch: 512,
                cool_steps: 1000,
                trace_samples: 512,
                ..small
            },
        })
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let c: Config = plan.config()?;
        c.check()?;
        let scales = [OutputScale::Root, OutputScale::Mean];
        let mut arms: Vec<String> = PART_A.map(String::from).to_vec();
        arms.extend(scales.iter().flat_map(|s| c.widths.iter().map(|w| by_width(*w, *s))));
        // Descent's partner of the frozen features.
        let partner = by_width(c.frozen_width, OutputScale::Root);
        if !arms.contains(&partner) {
            arms.push(partner);
        }
        let (mut cells, hmm) = (vec![], c.sizes.iter().map(|s| by_size(*s)).collect::<Vec<_>>());
        for (i, seed) in plan.seeds.iter().enumerate() {
            let further = if i < c.hmm_seeds { &hmm[..] } else { &[] };
            cells.extend(arms.iter().chain(further).map(|arm| Cell::new(arm, *seed)));
        }
        Ok(cells)
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let c: Config = context.plan.config()?;
        if let Some(size) = c.sizes.iter().find(|s| by_size(**s) == cell.arm) {
            return runs::decoder(*size, &c, context);
        }
        for scale in [OutputScale::Root, OutputScale::Mean] {
            if let Some(width) = c.widths.iter().chain([&c.frozen_width]).find(|w| by_width(**w, scale) == cell.arm) {
                return runs::width(*width, scale, &c, context);
            }
        }
        if PART_A.contains(&cell.arm.as_str()) {
            runs::xor(&cell.arm, &c, context)
        } else {
            bail!("unknown arm {}", cell.arm)
        }
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        plots::plots(results)
    }

    fn note(&self, _plan: &Plan) -> String {
        "Part A is the XOR-language (population loss and entropy exact), part B a hidden Markov language (entropy from the forward algorithm, on the sequences that the loss is measured on). All arms of part A that train on start from the same saturated network of a seed, and SGD, label noise and noise-free descent take the same steps at the same rate. Before every measurement of arms that train on a copy descends without noise. Frozen features have 512 units, the other arms of C3 64; with 1/sqrt m trained nets probe worse the wider they are (C2), so a part of C3's difference is the width's: that descent with 512 units must be better too was asked after the first results, which makes C3 harsher. In part B the excess grows under SGD and the probe does not: C1 is judged on part A. C4 pooled the main width alone at first; that it takes all of part A, as asked, was set right after its results, which makes it harsher. The probe of part A is a ridge regression on 16 labelled inputs (mean of 200 draws, accuracy over all inputs), that of part B on the last position of 64 labelled sequences (labels: the state there, and the state 4 tokens earlier). Frozen features train to the band at their own, larger rate, as descent at the others' would not saturate; the probe does not depend on it. The adversary's weight is the largest of 0.1, 0.3, 1 and 3 that keeps the loss in the band on seed 100, which is not among the recorded ones; nor do decoders reach the entropy of 12 states and 24 tokens there in minutes, so the language has half as many, in sequences of 12. Traces of part B are Fisher traces of labels sampled from the model at one position of each sequence.".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_before_anything_runs() {
        let cells = |changes: &[(&str, Value)]| Plan::trial_cells(&ImplicitBiasFlatness, changes);
        assert_eq!(cells(&[]).unwrap().len(), 11 + 2);
        // The partner of the frozen features may be among the widths.
        assert_eq!(cells(&[("frozen_width", json!(16))]).unwrap().len(), 10 + 2);
        let refused = [
            ("checkpoints", json!([5, 10]), "checkpoints: expected 0 and then"),
            ("sgd_checkpoints", json!([0]), "sgd_checkpoints: "),
            ("sizes", json!([16, 24]), "sizes: expected multiples of head_width"),
            ("sizes", json!([16]), "sizes: expected two or more"),
            ("widths", json!([]), "widths: "),
            ("length", json!(3), "length: "),
            ("hmm_shots", json!(1000), "hmm_shots: "),
            ("lr", json!(0.0), "lr: "),
        ];
        Plan::assert_refused(&ImplicitBiasFlatness, &refused);
    }
}
