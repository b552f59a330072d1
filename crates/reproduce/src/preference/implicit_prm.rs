//! Implicit process rewards: does a model that was trained on outcomes alone know which step is wrong?
//!
//! On programs for a machine with one register, whose solutions a verifier checks step by step, so that both the choice among responses
//! and the values of steps can be judged exactly.

mod judge;
mod measure;
mod stage;
mod train;

use super::language::LmSize;
use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Result, bail};
use autodidact_core::error::check_range;
use autodidact_datasets::synthetic::RegisterMachine;
use autodidact_preference::implicit_prm::{ImplicitRewardLoss, MonteCarlo, TokenCount};
use measure::{Judged, greedy, prefixes, trees, well_formed};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stage::{Generator, Stage};
use train::{Training, steps_of};

/// The experiment.
pub struct ImplicitPrm;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    lm: LmSize,
    generator: Generator,
    /// Training problems, and responses to each.
    problems: usize,
    responses: usize,
    /// Test problems, and responses to each.
    test_problems: usize,
    samples: usize,
    /// Strength of the reference; and others, for cross entropy.
    beta: f64,
    betas: Vec<f64>,
    /// Passes over the responses, which fix the steps of all objectives; responses of a step (two to a pair).
    epochs: usize,
    batch: usize,
    warmup: usize,
    rates: Rates,
    /// Smaller numbers of responses to a problem, for cross entropy and DPO (which needs two).
    fewer: Vec<usize>,
    /// Monte-Carlo labels: rollouts from each step, and problems that are labelled.
    rollouts: usize,
    labelled: usize,
    /// Rollouts from each step of full labelling, which is counted only.
    full_rollouts: usize,
    /// Factor on scores in votes whose weights are nearly equal.
    mild: f64,
    /// Prefixes whose value is compared with that of so many continuations.
    prefixes: usize,
    continuations: usize,
    /// Random trees on which the propositions are checked.
    trees: usize,
}

/// Learning rates, each chosen by the same rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rates {
    ce: f64,
    dpo: f64,
    nca: f64,
    kto: f64,
    orm: f64,
    shepherd_hard: f64,
    shepherd_soft: f64,
    oracle: f64,
    step_ratio: f64,
}

/// Where labels of steps come from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Labels {
    /// The verifier: right up to the first error.
    Exact,
    /// Rollouts; on as many problems as the tokens of the outcome-labelled data allow, or on all that are labelled.
    Rollouts { estimate: MonteCarlo, equal: bool },
}

/// What an arm is trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Objective {
    /// A log-ratio on outcomes.
    Implicit(ImplicitRewardLoss),
    /// A log-ratio on labels of steps.
    ImplicitSteps(Labels),
    /// A head on outcomes.
    Outcome,
    /// A head on labels of steps.
    Steps(Labels),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Method {
    objective: Objective,
    beta: f64,
    /// Responses to each problem.
    responses: usize,
    rate: f64,
}

const TREES: &str = "trees";
const RANDOM: &str = "random";
const LIKELIHOOD: &str = "likelihood";
const CE: &str = "ce";
const DPO: &str = "dpo";
const NCA: &str = "nca";
const KTO: &str = "kto";
const ORM: &str = "orm";
const HARD: &str = "shepherd/hard";
const SOFT: &str = "shepherd/soft";
const HARD_EQUAL: &str = "shepherd/hard, equal tokens";
const SOFT_EQUAL: &str = "shepherd/soft, equal tokens";
const ORACLE: &str = "oracle";
/// Controls: log-ratios on labels of steps, from rollouts at equal tokens and from the verifier.
const HARD_RATIO: &str = "log-ratio/hard, equal tokens";
const ORACLE_RATIO: &str = "log-ratio/oracle";

fn fewer_arm(arm: &str, responses: usize) -> String {
    format!("{arm}/responses={responses}")
}

fn beta_arm(beta: f64) -> String {
    format!("{CE}/beta={beta}")
}

/// Numbers of responses among which one is chosen; the step of a metric.
const SIZES: [usize; 5] = [1, 2, 4, 8, 16];
/// The one that the claims look at.
const JUDGED: usize = 4;

const BEST: &str = "best of N by the worst step (%)";
const BEST_SUM: &str = "best of N by the sum of steps (%)";
const NO_REFERENCE: &str = "best of N by the worst step, without reference (%)";
const VOTE: &str = "weighted vote of N (%)";
const MILD: &str = "vote of N, weights nearly equal (%)";
const PASS: &str = "one of N right (%)";
const OUTCOME: &str = "right above wrong responses by the sum (AUC)";
const FIRST_ERROR: &str = "right steps above the first wrong one (AUC)";
const ERROR_F1: &str = "first error found (F1)";
const GREEDY: &str = "greedy accuracy (%)";
const WELL_FORMED: &str = "well-formed responses (%)";
const ACCURACY: &str = "right responses of the generator (%)";
const PAIRS: &str = "pairs";
const GENERATED: &str = "tokens generated";
const TRAINED: &str = "tokens trained on";
/// Generated and trained on, of labelling every step of every training response.
const FULL: &str = "tokens of full Monte-Carlo labelling";
const EXACT: &str = "largest violation of the propositions on trees";
const WITHIN: &str = "prefixes within three standard errors of their continuations (%)";
const WITHIN_QUARTER: &str = "prefixes within three standard errors of a quarter of their continuations (%)";
const ORDERED: &str = "prefixes between the mean and the best of their continuations (%)";
/// Mean values of steps by the place of the first error, less those of faultless responses.
const HEAT: &str = "steps by first error";

impl Config {
    fn methods(&self) -> Vec<(String, Method)> {
        let method = |objective, rate| Method { objective, beta: self.beta, responses: self.responses, rate };
        let implicit = |loss, rate| method(Objective::Implicit(loss), rate);
        let rollouts = |estimate, equal, rate| method(Objective::Steps(Labels::Rollouts { estimate, equal }), rate);
        let hard_equal = Labels::Rollouts { estimate: MonteCarlo::Hard, equal: true };
        let kto = ImplicitRewardLoss::Kto { desirable: 1.0, undesirable: 1.0 };
        let rates = &self.rates;
        let (ce, dpo) = (implicit(ImplicitRewardLoss::Ce, rates.ce), implicit(ImplicitRewardLoss::Dpo, rates.dpo));
        let mut arms: Vec<(String, Method)> = [
            (CE, ce),
            (DPO, dpo),
            (NCA, implicit(ImplicitRewardLoss::Nca, rates.nca)),
            (KTO, implicit(kto, rates.kto)),
            (ORM, method(Objective::Outcome, rates.orm)),
            (HARD, rollouts(MonteCarlo::Hard, false, rates.shepherd_hard)),
            (SOFT, rollouts(MonteCarlo::Soft, false, rates.shepherd_soft)),
            (HARD_EQUAL, rollouts(MonteCarlo::Hard, true, rates.shepherd_hard)),
            (SOFT_EQUAL, rollouts(MonteCarlo::Soft, true, rates.shepherd_soft)),
            (ORACLE, method(Objective::Steps(Labels::Exact), rates.oracle)),
            (HARD_RATIO, method(Objective::ImplicitSteps(hard_equal), rates.step_ratio)),
            (ORACLE_RATIO, method(Objective::ImplicitSteps(Labels::Exact), rates.step_ratio)),
        ]
        .map(|(name, m)| (name.to_owned(), m))
        .into();
        for &responses in &self.fewer {
            arms.push((fewer_arm(CE, responses), Method { responses, ..ce }));
            if responses > 1 {
                arms.push((fewer_arm(DPO, responses), Method { responses, ..dpo }));
            }
        }
        arms.extend(self.betas.iter().map(|&beta| (beta_arm(beta), Method { beta, ..ce })));
        arms
    }

    fn check(&self) -> Result<()> {
        self.generator.check()?;
        for (what, value, low, high) in [
            ("problems", self.problems, 1, usize::MAX),
            ("responses", self.responses, 2, usize::MAX),
            ("test_problems", self.test_problems, 2, usize::MAX),
            ("samples", self.samples, JUDGED, usize::MAX),
            ("epochs", self.epochs, 1, usize::MAX),
            ("batch", self.batch, 2, self.problems * self.responses),
            ("rollouts", self.rollouts, 1, usize::MAX),
            ("labelled", self.labelled, 1, self.problems),
            ("full_rollouts", self.full_rollouts, 1, usize::MAX),
            ("prefixes", self.prefixes, 1, usize::MAX),
            ("continuations", self.continuations, 2, usize::MAX),
            ("trees", self.trees, 1, usize::MAX),
        ] {
            check_range(what, value as f64, low as f64..=high as f64)?;
        }
        for &n in &self.fewer {
            check_range("fewer", n as f64, 1.0..=self.responses as f64)?;
        }
        if !self.fewer.contains(&2) {
            bail!("fewer: expected 2 among the numbers of responses, got {:?}", self.fewer);
        }
        check_list("beta", &[&[self.beta][..], &self.betas].concat(), f64::MIN_POSITIVE..)?;
        let r = &self.rates;
        let heads = [r.orm, r.shepherd_hard, r.shepherd_soft, r.oracle];
        let rates = [&[r.ce, r.dpo, r.nca, r.kto, r.step_ratio][..], &heads].concat();
        check_list("rates", &rates, f64::MIN_POSITIVE..)?;
        Ok(check_range("mild", self.mild, 0.0..=1.0)?)
    }

    /// Tokens of `full_rollouts` rollouts from every step of every training response, and of the same training.
    fn full_labelling(&self, stage: &Stage, cost: &TokenCount) -> f64 {
        let steps = 0..RegisterMachine::STEPS;
        let after: usize = steps.map(|t| RegisterMachine::SOLUTION - 3 * (t + 1)).sum();
        let labels = (self.problems * self.responses * self.full_rollouts * after) as u64;
        (stage.train.tokens(self.problems) + labels + cost.trained) as f64
    }

    fn cell(&self, arm: &str, context: &mut Context<'_>) -> Result<()> {
        if arm == TREES {
            trees(self.trees, context)?;
            return Ok(());
        }
        let stage = Stage::new(self, context)?;
        let test = &stage.test;
        let rows = well_formed(test);
        if rows.is_empty() {
            bail!("no response of the generator has the form of a solution: it needs more training");
        }
        let judged = |values| Judged { test, rows: &rows, values };
        if arm == RANDOM {
            let right = test.checks.iter().filter(|c| c.outcome).count();
            let percent = |count: usize| 100.0 * count as f64 / test.checks.len() as f64;
            context.metric(0, ACCURACY, percent(right));
            context.metric(0, WELL_FORMED, percent(rows.len()));
            greedy(&stage.policy()?, test, context)?;
            let nothing = vec![vec![0.0]; rows.len()];
            judged(&nothing).log_pass(context)?;
            return judged(&nothing).log(self.mild, context);
        }
        if arm == LIKELIHOOD {
            let index: Vec<i64> = rows.iter().map(|&r| r as i64).collect();
            let index = tch::Tensor::from_slice(&index).to_device(test.device());
            let values = steps_of(&test.reference.index_select(0, &index), 1.0)?;
            return judged(&values).log(self.mild, context);
        }
        let Some((_, method)) = self.methods().into_iter().find(|(name, _)| name == arm) else {
            bail!("unknown arm {arm}")
        };
        let trained = Training { stage: &stage, config: self, method, rows: &rows }.run(context)?;
        context.metric(0, GENERATED, trained.cost.generated as f64);
        context.metric(0, TRAINED, trained.cost.trained as f64);
        judged(&trained.values).log(self.mild, context)?;
        if let Some(values) = &trained.without_reference {
            judged(values).log_without_reference(context)?;
            greedy(&trained.policy, test, context)?;
        }
        if arm == CE {
            context.metric(0, FULL, self.full_labelling(&stage, &trained.cost));
            prefixes(&trained.policy, &stage, &rows, self, context)?;
        }
        Ok(())
    }
}

impl Experiment for ImplicitPrm {
    fn slug(&self) -> &'static str {
        "implicit-prm"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "Prefix log-ratios are soft maxima of the outcome reward over continuations (propositions 3.1 and 3.2)",
                "theorems",
                "On random trees no prefix violates either proposition by more than 1e-9; and with the trained model q_t is within 3 standard errors of beta log of the mean of exp(r/beta) over 256 continuations by the reference for 95 % of 100 prefixes. Partly if one of the two holds.",
            ),
            Claim::new(
                "C2",
                "Trained on outcomes alone, log-ratios choose among responses and know wrong steps",
                "best of N, mean of three generators and N of 4, 16, 64: DPO 50.4, NCA 49.4, CE 48.4, KTO 45.7",
                "Best-of-4 accuracy (worst step) of CE and of DPO is above chance (the generator's accuracy among well-formed responses) by more than 5 points with the 95 % interval above 0, and the AUC of their r_t between the first wrong step and the right ones before it is above 0.65. Partly if only some of this holds.",
            ),
            Claim::new(
                "C2b",
                "The free process reward beats one trained on Monte-Carlo labels at equal tokens",
                "DPO 50.4 against 47.8 of Math-Shepherd (with 38 times the cost)",
                "Best-of-4 accuracy (worst step) of CE minus that of the process model with Monte-Carlo labels (the better of hard and soft ones) whose data and labels cost as many tokens, paired by seed: the 95 % interval is above 0. Partly if only the mean is.",
            ),
            Claim::new(
                "C3",
                "Monte-Carlo labels cost many times as much",
                "38.6 to 38.8 times the operations of CE",
                "Tokens generated and trained on with full Monte-Carlo labelling (8 rollouts at each of the 5 steps of every response; counted, not run) over those of CE: more than 10.",
            ),
            Claim::new(
                "C4",
                "Majority voting with the rewards as weights improves on both",
                "CE: 48.4 as best of N, 51.9 as vote; majority vote alone about 49.1",
                "Mean accuracy over 4 and 16 responses: the vote weighted by CE is at least the larger of majority vote and best of N, minus 0.5 points.",
            ),
            Claim::new(
                "C5",
                "More responses to a problem help, and DPO needs them more",
                "DPO at 64: 12.6 with 2 responses, 28.8 with 8; CE works even with 1",
                "Spearman's correlation between the number of responses (1, 2, 4, 8) and mean best-of-4 accuracy is above 0 for CE and for DPO, and the gap between 8 and 2 responses is larger for DPO in all seeds. Partly if some of this holds.",
            ),
            Claim::new(
                "C6",
                "Labels of steps, instructions of other tasks and diverse responses add nothing",
                "49.3 without, 49.2 with labels of steps",
                "Not tested: no arm of this experiment adds them.",
            ),
            Claim::new(
                "C7",
                "A good process reward is not a good policy",
                "greedy accuracy 45.2 before; DPO 25.8, NCA 35.6, CE 28.6, KTO 46.6 after",
                "Changes of greedy accuracy are reported; a verdict only if one is larger than 5 points: reproduced if then the greedy accuracy of an arm that chooses better than chance (best of 4) falls by more than 5 points.",
            ),
            Claim::new(
                "C8",
                "The reference can be dropped when scoring",
                "50.4 with, 50.6 without",
                "Best-of-4 accuracy (worst step) of CE without reference differs from that with it by at most 3 points in the mean over seeds. Expected to fail here: the reference is a weak verifier.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["registers"]
    }

    fn config(&self, scale: Scale) -> Value {
        let generator =
            Generator { lr: 2e-3, warmup: 50, batch: 64, every: 10, probes: 300, accuracy: 0.45, limit: 6000 };
        // Of 3e-5, 1e-4, 3e-4 and 1e-3 the one with the highest best-of-4 accuracy on a trial seed.
        let rates = Rates {
            ce: 3e-4,
            dpo: 1e-4,
            nca: 1e-4,
            kto: 3e-4,
            orm: 1e-3,
            shepherd_hard: 3e-5,
            shepherd_soft: 3e-5,
            oracle: 3e-5,
            step_ratio: 1e-3,
        };
        let mut config = Config {
            lm: LmSize::S,
            generator,
            problems: 600,
            responses: 8,
            test_problems: 200,
            samples: 16,
            beta: 0.5,
            betas: vec![0.05, 2.0],
            epochs: 3,
            batch: 64,
            warmup: 10,
            rates,
            fewer: vec![1, 2, 4],
            rollouts: 4,
            labelled: 150,
            full_rollouts: 8,
            mild: 0.02,
            prefixes: 100,
            continuations: 256,
            trees: 100,
        };
        match scale {
            Scale::Smoke => {
                config.generator.limit = 120;
                (config.problems, config.responses, config.test_problems, config.samples) = (20, 4, 20, 4);
                (config.epochs, config.batch, config.warmup) = (1, 16, 1);
                (config.fewer, config.betas) = (vec![2], vec![2.0]);
                (config.labelled, config.rollouts) = (10, 2);
                (config.prefixes, config.continuations, config.trees) = (4, 8, 3);
            }
            Scale::Small => {}
            Scale::Full => {
                config.lm = LmSize::M;
                (config.generator.lr, config.generator.limit) = (1e-3, 20_000);
                (config.problems, config.labelled, config.test_problems) = (4000, 1000, 1000);
                (config.prefixes, config.continuations, config.trees) = (500, 4096, 1000);
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        let mut arms = [TREES, RANDOM, LIKELIHOOD].map(str::to_owned).to_vec();
        arms.extend(config.methods().into_iter().map(|(name, _)| name));
        Ok(plan.cross(&arms))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        config.cell(&cell.arm, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, _plan: &Plan) -> String {
        "The problems are generated: five operations on one register modulo 11, with a verifier of steps and outcomes. Generator, reference and start of all reward models are one decoder of 0.1 million weights, whose training on right solutions was stopped when it was right in 45 % of samples to 300 problems (checked every 10 steps, since accuracy climbs fast; on the test problems it may be right more often). Responses that do not repeat the program are left out of every choice. All arms but those with fewer responses take the same number of steps; rates were chosen for each objective from the same four, by best-of-4 accuracy on a seed that the result does not use (no rate lifted a head above chance there, nor did 15 epochs). Best-of-N accuracies are exact means over all subsets of the 16 responses. Values of heads are logits. Monte-Carlo labels are those of Math-Shepherd: rollouts from each step; the last step's is the outcome.".to_owned()
    }
}
