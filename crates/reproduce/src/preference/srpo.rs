//! SRPO: do answers get better each time the model revises them, and does what it learns depend on where the pairs came from?
//!
//! On bandits, where the solution of the game is known, and on the garland language with a reference that was taught to edit.

mod bandit;
mod judge;
mod train;

use super::garland::{Base, PairSettings, PairTraining};
use super::language::LmSize;
use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Result, bail};
use autodidact_core::error::check_range;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct SrpoExperiment;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    base: Base,
    pairs: PairSettings,
    training: PairTraining,
    /// Strength of the reference of DPO and IPO, and of SRPO.
    beta: f64,
    srpo_beta: f64,
    alpha: f64,
    /// Revisions of an answer.
    revisions: usize,
    /// Corpus answers that samples are compared with, in each set of prompts.
    compared: usize,
    bandit: bandit::Config,
}

/// What an arm minimises.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Method {
    Reference,
    Dpo,
    Ipo,
    Srpo { alpha: f64 },
}

const BANDIT: &str = "bandit";
const REFERENCE: &str = "reference";
const DPO: &str = "dpo";
const IPO: &str = "ipo";
const SRPO: &str = "srpo";
const JOINT: &str = "srpo/alpha=0";
const DAGGER: &str = "srpo/alpha=1";
/// Arms of the language task.
const ARMS: [&str; 6] = [REFERENCE, DPO, IPO, SRPO, JOINT, DAGGER];

/// Sets of prompts: those of the pairs, other combinations of the same topics, and topics that no pair has.
const SETS: [&str; 3] = ["prompts of the pairs", "new combinations", "new topics"];

/// Metrics by revision (the step), behind which stands the set.
fn wins(set: &str) -> String {
    format!("win rate over the corpus (%), {set}")
}
fn gold(set: &str) -> String {
    format!("gold reward, {set}")
}
fn words(set: &str) -> String {
    format!("words, {set}")
}
/// Share of the reference's revisions that repeat what they revise.
const COPIES: &str = "revisions that change nothing (%)";

impl Config {
    fn method(&self, arm: &str) -> Result<Method> {
        Ok(match arm {
            REFERENCE => Method::Reference,
            DPO => Method::Dpo,
            IPO => Method::Ipo,
            SRPO => Method::Srpo { alpha: self.alpha },
            JOINT => Method::Srpo { alpha: 0.0 },
            DAGGER => Method::Srpo { alpha: 1.0 },
            _ => bail!("unknown arm {arm}"),
        })
    }

    fn check(&self) -> Result<()> {
        self.base.check()?;
        self.training.check(&self.pairs)?;
        check_list("betas", &[self.beta, self.srpo_beta], f64::MIN_POSITIVE..)?;
        check_range("alpha", self.alpha, f64::MIN_POSITIVE..=1.0 - f64::EPSILON)?;
        check_range("revisions", self.revisions as f64, 2.0..=100.0)?;
        check_range("compared", self.compared as f64, 2.0..)?;
        self.bandit.check()
    }
}

impl Experiment for SrpoExperiment {
    fn slug(&self) -> &'static str {
        "srpo"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "SRPO's solution does not depend on the behaviour that pairs come from; DPO's and IPO's do",
                "theorem, and a bandit with balanced and skewed data",
                "Total variation between the policies learnt from a uniform and a skewed behaviour (0.8 on one response), random preferences of 3 and 10 responses. Exact expectations: SRPO's below 1e-3 in every instance, IPO's mean above 0.05. From samples (intransitive preferences): SRPO's mean below half of IPO's and of DPO's, and below each in at least 80 % of the instances. All: reproduced; some: partly.",
            ),
            Claim::new(
                "C2",
                "Answers get better with revisions under SRPO, not under DPO and IPO",
                "figure: win rate against human summaries by revisions",
                "Slope of the win rate over corpus answers on the number of revisions (prompts of the pairs), by seed: the 95 % interval is above 0 for SRPO and not for DPO and IPO. Partly if SRPO's mean slope is above both others'.",
            ),
            Claim::new(
                "C3",
                "Out of distribution SRPO is far ahead after five revisions",
                "XSum: about 90 % win rate, 15 points above DPO",
                "On prompts of topics that no pair has: win rate of SRPO after the last revision minus DPO's best over all revisions, paired by seed: the 95 % interval is above 0; and without revision the means are within 5 points. Partly if the first holds, or its mean alone is above 0.",
            ),
            Claim::new(
                "C4",
                "Ahead without revision, more so after one",
                "Arena-Hard: 4 points over DPO and IPO, 6 after one revision",
                "Needs chat models and a judge: not tested. The differences on this task are reported.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["garland"]
    }

    fn config(&self, scale: Scale) -> Value {
        let base = Base::of(LmSize::S);
        let mut config = Config {
            base,
            pairs: PairSettings { count: 800, tau: 0.5 },
            training: PairTraining { steps: 300, batch: 32, lr: 3e-4, warmup: 20 },
            beta: 0.1,
            srpo_beta: 0.05,
            alpha: 0.25,
            revisions: 5,
            compared: 500,
            bandit: bandit::Config::new(20),
        };
        match scale {
            Scale::Smoke => {
                config.base = Base::smoke();
                (config.pairs.count, config.training.batch) = (64, 8);
                (config.training.steps, config.training.warmup) = (10, 2);
                (config.revisions, config.compared, config.bandit) = (2, 32, bandit::Config::new(2));
            }
            Scale::Small => {}
            Scale::Full => {
                config.base = Base::of(LmSize::L);
                (config.pairs.count, config.compared, config.training.lr) = (5000, 2000, 1e-4);
                config.training.steps = 1500;
                config.bandit = bandit::Config::new(100);
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        plan.config::<Config>()?.check()?;
        Ok(plan.cross(&[&[BANDIT][..], &ARMS].concat()))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        if cell.arm == BANDIT {
            return bandit::run(&config.bandit, context);
        }
        train::cell(config.method(&cell.arm)?, &config, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, _plan: &Plan) -> String {
        "The language, its reward and the preferences are generated; the model is a decoder of 0.1 million weights. Its pre-training mixes sentences with edits (a third of the words in a row drawn anew, with no regard to the reward), so that the reference can revise: with a reference that ignores what it revises, revisions cannot help. Pairs have prompts of two of the four topics; the other two are the prompts out of distribution. DPO and IPO learn from plain answers only and are asked to revise as well. IPO and SRPO use sums over tokens. On bandits all optima are found by L-BFGS; a response that never won puts DPO's at infinity.".to_owned()
    }
}
