//! Self-rationalization: does a judge get better by DPO on its own judgements?
//!
//! Judges of garland responses write four countable facts and a score that follows from them, so that rationales have a ground truth.

mod judge;
mod judging;
mod rounds;

use super::garland::Base;
use super::language::{LmSize, Supervised};
use crate::experiment::{Cell, Claim, Experiment, Plan, Scale};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Context as _, Result, bail};
use autodidact_core::error::check_range;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct SelfRationalization;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    base: Base,
    /// Inputs with judgements to imitate.
    seed_inputs: usize,
    /// Probability that a fact of theirs is wrong.
    noise: f64,
    /// Imitation; it stops at `head_room`.
    imitation: Supervised,
    /// Accuracy of scores on other inputs at which imitation stops, so that there is something to improve.
    head_room: f64,
    /// Inputs of each round of self-judgement.
    rounds: Vec<usize>,
    /// Judgements of an input.
    judgements: usize,
    /// Most pairs of an input.
    pairs_per_input: usize,
    beta: f64,
    lr: f64,
    batch: usize,
    /// Steps of each round, of all arms.
    steps: usize,
    /// Unseen inputs, two responses to each prompt.
    test: usize,
}

/// How a judge learns from its judgements.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Method {
    /// DPO on pairs by the right score and this margin.
    Correct {
        margin: u8,
    },
    /// The same for judgements that are a score only.
    ScoreOnly,
    Majority,
    MetaJudge,
    /// Imitation of the judgements with the right score.
    RejectionSampling,
    /// Not at all: several judgements at test time.
    TestTime,
}

const MARGIN_1: &str = "sre/margin=1";
const MARGIN_2: &str = "sre/margin=2";
const MAJORITY: &str = "sre/majority";
const META: &str = "sre/meta-judge";
const REJECTION: &str = "rejection sampling";
const SCORE_ONLY: &str = "sre/score only";
const TEST_TIME: &str = "test time";

const ARMS: [(&str, Method); 7] = [
    (MARGIN_1, Method::Correct { margin: 1 }),
    (MARGIN_2, Method::Correct { margin: 2 }),
    (MAJORITY, Method::Majority),
    (META, Method::MetaJudge),
    (REJECTION, Method::RejectionSampling),
    (SCORE_ONLY, Method::ScoreOnly),
    (TEST_TIME, Method::TestTime),
];

/// Metrics of a judge on unseen inputs, by round: 0 is imitation.
const ACCURACY: &str = "accuracy of scores (%)";
const WITHIN_ONE: &str = "scores off by at most one (%)";
const ERROR: &str = "mean absolute error of scores";
const PEARSON: &str = "Pearson correlation of scores";
const KAPPA: &str = "quadratic weighted kappa";
const PAIRWISE: &str = "accuracy on pairs of responses (%)";
const FACTS: &str = "accuracy of facts (%)";
const UNREADABLE: &str = "unreadable judgements (%)";
/// Share of judgements whose score is not the one that their own facts give.
const INCONSISTENT: &str = "scores that contradict their rationale (%)";
/// Pairs that a round learns from, and inputs that gave none.
const PAIRS: &str = "pairs";
const DROPPED: &str = "inputs without pair (%)";
/// Accuracy of scores among the judgements of a round.
const SAMPLED: &str = "accuracy of sampled scores (%)";

/// Ways to use several judgements at test time, behind the names of metrics.
const CONSISTENCY: &str = ", self-consistency";
const BY_PROBABILITY: &str = ", best by probability";
const BY_META: &str = ", best by meta-judge";

/// Arrays of a cell at a round: right facts of each test input, shares of right facts, the table of scores (rows true, in percent), and
/// the distribution of the pairs' margins.
fn right_facts(round: usize) -> String {
    format!("right facts, round {round}")
}
fn by_fact(round: usize) -> String {
    format!("accuracy by fact, round {round}")
}
fn confusion(round: usize) -> String {
    format!("scores, round {round}")
}
fn margins(round: usize) -> String {
    format!("margins, round {round}")
}

impl Config {
    fn method(arm: &str) -> Result<Method> {
        Ok(ARMS.iter().find(|(name, _)| *name == arm).context("an arm that is not there")?.1)
    }

    fn check(&self) -> Result<()> {
        self.base.check()?;
        self.imitation.check("imitation", self.seed_inputs)?;
        check_range("noise", self.noise, 0.0..=1.0)?;
        check_range("head_room", self.head_room, 0.0..=1.0)?;
        check_range("length of rounds", self.rounds.len() as f64, 1.0..)?;
        self.rounds.iter().try_for_each(|&n| check_range("rounds", n as f64, 1.0..))?;
        check_range("judgements", self.judgements as f64, 2.0..)?;
        check_range("pairs_per_input", self.pairs_per_input as f64, 1.0..)?;
        check_range("beta", self.beta, f64::MIN_POSITIVE..)?;
        check_range("lr", self.lr, f64::MIN_POSITIVE..)?;
        check_range("batch", self.batch as f64, 1.0..)?;
        check_range("steps", self.steps as f64, 1.0..)?;
        if self.test < 2 || !self.test.is_multiple_of(2) {
            bail!("test: expected an even number of inputs, got {}", self.test);
        }
        Ok(())
    }
}

impl Experiment for SelfRationalization {
    fn slug(&self) -> &'static str {
        "self-rationalization"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "After two rounds rationales are preferred to those of the first judge",
                "62 % win rate by human raters",
                "Rationales with more right facts win, ties are halves: win rate of the judge after two rounds (margin 1) against imitation, by seed: the 95 % interval is above 50 %. Partly if only the mean is.",
            ),
            Claim::new(
                "C2",
                "Scores beat imitation, self-consistency and best-of-N",
                "3 to 9 % on BiGGen Bench and RewardBench",
                "Pearson correlation of scores with the right ones, the judge after two rounds minus the best (by mean) of imitation, self-consistency and best of 10 by probability and by meta-judge, paired by seed: the 95 % interval is above 0. Partly if the mean is above imitation's only.",
            ),
            Claim::new(
                "C3",
                "Rationales matter",
                "RewardBench 74.0 with, 72.0 without",
                "Accuracy of scores with rationales minus score only, paired by seed, has its 95 % interval above 0 for imitation and after two rounds. Partly if for one.",
            ),
            Claim::new(
                "C4",
                "Larger margins are better; majority pairs work without labels",
                "tables (not available)",
                "Pearson correlation after two rounds: margin 2 is not below margin 1 by more than a standard error of the paired difference, and the majority rule is above imitation in the mean and in all seeds. Partly if one holds.",
            ),
            Claim::new(
                "C5",
                "A second round adds to the first",
                "small gains",
                "Pearson correlation after the second round minus after the first is above 0 in the mean and in all seeds. Partly if the mean is only not below 0 by more than a standard error.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["garland"]
    }

    fn config(&self, scale: Scale) -> Value {
        let mut config = Config {
            base: Base::of(LmSize::S),
            seed_inputs: 6000,
            noise: 0.1,
            imitation: Supervised { steps: 1200, batch: 64, lr: 2e-3, warmup: 30, weight_decay: 0.01 },
            head_room: 0.75,
            rounds: vec![600, 900],
            judgements: 10,
            pairs_per_input: 4,
            beta: 0.1,
            lr: 5e-6,
            batch: 32,
            steps: 110,
            test: 1000,
        };
        match scale {
            Scale::Smoke => {
                config.base = Base::smoke();
                (config.seed_inputs, config.rounds, config.judgements) = (200, vec![32, 32], 4);
                (config.imitation.steps, config.imitation.warmup, config.imitation.batch) = (120, 4, 32);
                (config.batch, config.steps, config.test) = (8, 5, 64);
            }
            Scale::Small => {}
            Scale::Full => {
                config.base = Base::of(LmSize::L);
                (config.seed_inputs, config.rounds, config.test) = (20_000, vec![3000, 5000], 4000);
                (config.imitation.steps, config.imitation.lr, config.lr) = (4000, 6e-4, 2e-6);
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        plan.config::<Config>()?.check()?;
        Ok(plan.cross(&ARMS.map(|arm| arm.0)))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        rounds::cell(Config::method(&cell.arm)?, &config, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, _plan: &Plan) -> String {
        "A judgement names four facts of a response (illegal transitions, repetitions, distance from the length asked for, noun), counted exactly here, and the score that they give under a criterion. The first judge imitates 6,000 judgements of which every tenth fact is wrong while scores are right, from a language model that knows the sentences, and would stop early at 75 % right scores on other inputs. It is one judge for single responses: there is no second, pairwise one to merge it with. Meta-judge: a judgement's rating is the number of facts, plus one for the score, that agree with a second judgement drawn afresh. All arms of a seed share the first judge and the inputs of the rounds; DPO's reference is the judge of the round before, and all arms take 110 steps a round (about two epochs of the pairs with margin 1) at one rate. The number of imitated judgements and that rate were set on a seed that the result does not use: with 1,500 judgements half of the first scores were right; the rate is the best of 5e-6, 1e-5, 2e-5 and 5e-5 by the mean correlation after two rounds of margin 1, the majority rule and rejection sampling (0.755, 0.745, 0.741, 0.688; 0.771 before), and no rate made a judge better. A run of all seeds at 5e-5 was discarded: there every fifth judgement with margin 1 could not be read after two rounds, and four claims were not reproduced, C5 partly. Unreadable judgements count as wrong in accuracies, and as a score of 3 in all else.".to_owned()
    }
}
