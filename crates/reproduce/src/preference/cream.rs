//! CREAM: does a soft label, as sure as the model's rankings are consistent, keep self-rewarding from collapsing?
//!
//! A language model answers, ranks its answers by its own implicit reward, and is trained on its best and worst ones, for three rounds
//! on the garland language, where the gold reward says what became of it.

mod judge;
mod rounds;

use super::garland::Base;
use super::language::{LmSize, Supervised};
use crate::experiment::{Cell, Claim, Experiment, Plan, Scale};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Result, bail};
use autodidact_core::error::check_range;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct Cream;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    base: Base,
    /// Prompts of the seed data, each with its best of `best_of` answers by gold reward.
    seed_prompts: usize,
    best_of: usize,
    /// Supervised training on them: makes the first model that rewards itself.
    tuning: Supervised,
    /// Step of that training whose model is the one before.
    before: usize,
    rounds: usize,
    /// Prompts of a round, and answers to each.
    prompts: usize,
    answers: usize,
    temperature: f64,
    /// Strength of the reference.
    beta: f64,
    /// Epochs over a round's pairs, pairs in a batch.
    epochs: usize,
    batch: usize,
    lr: f64,
    warmup: usize,
    /// The constant label of the control.
    fixed: f64,
    /// Samples of each held-out prompt in an evaluation.
    samples: usize,
}

/// Where a round's pairs come from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ranking {
    /// The model's log-ratio to the base.
    Own,
    Gold,
    Chance,
}

/// How sure the labels are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Label {
    Hard,
    Fixed(f64),
    /// The round's mean consistency.
    Average,
    /// Each prompt's.
    Dynamic,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Method {
    ranking: Ranking,
    label: Label,
    /// In the first round, compare with the base's mean log-likelihood, as the published code does.
    likelihood: bool,
}

const SRLM: &str = "srlm";
const CREAM: &str = "cream";
const DYNAMIC: &str = "cream/dynamic";
const LIKELIHOOD: &str = "cream/likelihood";
const FIXED: &str = "fixed";
const ORACLE: &str = "oracle";
const RANDOM: &str = "random";

/// All arms.
const ARMS: [&str; 7] = [SRLM, CREAM, DYNAMIC, LIKELIHOOD, FIXED, ORACLE, RANDOM];

/// By the number of rounds done: of the labels that the model would give next.
const LABELS: &str = "labels that agree with the reward (%)";
const RATE: &str = "consistency C";
const TAU: &str = "Kendall's tau";
const SPEARMAN: &str = "Spearman's rho";
const TOP: &str = "same best and worst";
/// Rewards of the last model's samples.
const REWARDS: &str = "rewards";
/// Consistency of each prompt of the first round, and whether its label was right.
const RATES: &str = "consistency by prompt";
const RIGHT: &str = "label right by prompt";

impl Config {
    fn method(&self, arm: &str) -> Result<Method> {
        let own = |label| Method { ranking: Ranking::Own, label, likelihood: false };
        Ok(match arm {
            SRLM => own(Label::Hard),
            CREAM => own(Label::Average),
            DYNAMIC => own(Label::Dynamic),
            LIKELIHOOD => Method { likelihood: true, ..own(Label::Average) },
            FIXED => own(Label::Fixed(self.fixed)),
            ORACLE => Method { ranking: Ranking::Gold, ..own(Label::Hard) },
            RANDOM => Method { ranking: Ranking::Chance, ..own(Label::Hard) },
            _ => bail!("unknown arm {arm}"),
        })
    }

    fn check(&self) -> Result<()> {
        self.base.check()?;
        self.tuning.check("tuning", self.seed_prompts)?;
        let counts = [
            ("best_of", self.best_of, 1),
            ("rounds", self.rounds, 1),
            ("prompts", self.prompts, self.batch),
            ("answers", self.answers, 2),
            ("epochs", self.epochs, 1),
            ("batch", self.batch, 1),
            ("samples", self.samples, 1),
        ];
        for (what, value, low) in counts {
            check_range(what, value as f64, low as f64..)?;
        }
        check_range("before", self.before as f64, 1.0..=self.tuning.steps as f64)?;
        for (what, value) in [("temperature", self.temperature), ("beta", self.beta), ("lr", self.lr)] {
            check_range(what, value, f64::MIN_POSITIVE..)?;
        }
        Ok(check_range("fixed", self.fixed, 0.5..=1.0)?)
    }
}

impl Experiment for Cream {
    fn slug(&self) -> &'static str {
        "cream"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "Self-rewarding degrades small models",
                "Llama-2, mean of five tasks: 49.25 before, 40.08 after the last round",
                "Mean gold reward on held-out prompts of SRLM after the last round is below its own maximum over the rounds (the start included) by more than one standard error, in at least two of three seeds.",
            ),
            Claim::new(
                "C2",
                "CREAM beats self-rewarding",
                "Llama-3, mean of five tasks: 83.37 against 80.71; Llama-2: 50.51 against 40.08",
                "Mean gold reward after the last round, CREAM minus SRLM, paired by seed: the 95 % interval is above 0. Partly if only the mean is.",
            ),
            Claim::new(
                "C3",
                "CREAM keeps improving over the rounds",
                "means rise from round to round",
                "Mean gold reward of CREAM over seeds never falls from one round to the next by more than one standard error (of the later).",
            ),
            Claim::new(
                "C4",
                "CREAM makes rankings more consistent",
                "Kendall's tau of the last two models: 0.84 against -0.08",
                "Tau between the rankings of the last model and of the one before, CREAM minus SRLM, paired by seed: the 95 % interval is above 0.1.",
            ),
            Claim::new(
                "C5",
                "A model's implicit reward ranks better than its judgement when asked",
                "figure, 7B models",
                "Needs a model that can be asked: not tested. The agreement of labels with the gold reward is reported.",
            ),
            Claim::new(
                "C6",
                "The measured rate beats a fixed one; Kendall's is the best measure",
                "table, not seen",
                "Mean gold reward after the last round: CREAM is at least that of the fixed rate minus one standard error. Other measures are reported only.",
            ),
            Claim::new(
                "C7",
                "CREAM's answers beat self-rewarding's",
                "34 % wins, 45 % ties, 21 % losses",
                "Needs a judging model: not tested. The gold win rate is reported.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["garland"]
    }

    fn seeds(&self, scale: Scale) -> usize {
        if scale == Scale::Smoke { 1 } else { 5 }
    }

    fn config(&self, scale: Scale) -> Value {
        let tuning = Supervised { steps: 60, batch: 64, lr: 1e-3, warmup: 5, weight_decay: 0.01 };
        let mut config = Config {
            base: Base::of(LmSize::S),
            seed_prompts: 300,
            best_of: 4,
            tuning,
            before: 30,
            rounds: 3,
            prompts: 320,
            answers: 5,
            temperature: 0.8,
            beta: 0.5,
            epochs: 2,
            batch: 32,
            lr: 3e-4,
            warmup: 2,
            fixed: 0.9,
            samples: 16,
        };
        match scale {
            Scale::Smoke => {
                config.base = Base::smoke();
                (config.seed_prompts, config.tuning.steps, config.before) = (64, 10, 5);
                (config.rounds, config.prompts, config.batch, config.samples) = (1, 32, 8, 2);
            }
            Scale::Small => {}
            Scale::Full => {
                config.base = Base::of(LmSize::L);
                (config.seed_prompts, config.prompts, config.samples) = (2000, 2000, 64);
                (config.lr, config.warmup) = (1e-4, 12);
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        plan.config::<Config>()?.check()?;
        Ok(plan.cross(&ARMS))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        rounds::cell(config.method(&cell.arm)?, &config, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, _plan: &Plan) -> String {
        "The language and its reward are generated; the model is a decoder of 0.1 million weights. The base is its pre-trained state; the first model that rewards itself was tuned on best-of-four answers by gold reward, so that its log-ratio to the base knows something of it, and the model before it is the one half-way through that tuning (the published code takes the base's mean log-likelihood: an arm of its own). Rewards are log-ratios to the base; DPO's reference is the model that begins the round. Beta is 0.5, since at 0.1 a round is too short for a soft label's optimum to matter. Random is a control: pairs by coin flip.".to_owned()
    }
}
