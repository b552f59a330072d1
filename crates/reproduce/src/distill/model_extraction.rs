//! Extracting a sequential recommender through its ranked lists, with a few known histories.
//!
//! By default users shop in a generated world of known Markov structure. A victim is trained on all users' histories; an adversary knows a few
//! of them, may put a fixed number of prefixes to the victim, and trains a surrogate on its lists. Agreement is measured on users whose
//! histories are not known. Every arm trains at each weight of the repair loss, on the same sequences, and is judged at the weight that
//! is best on users set apart for that. Sampler, signal and repair loss are reconstructions, as the paper's formulas are not public.

mod judge;
mod run;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Result, bail, ensure};
use autodidact_core::error::check_range;
use autodidact_distill::model_extraction::{Architecture, Extraction, Fitting, RecommenderConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct ModelExtraction;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    /// Users of the data set that take part, at most, and items of each, at most (the last ones).
    users: usize,
    length: usize,
    /// Size of all models; the number of items is the data set's.
    width: i64,
    blocks: usize,
    heads: i64,
    dropout: f64,
    victim: Architecture,
    victim_fitting: Fitting,
    sampler_fitting: Fitting,
    signal_fitting: Fitting,
    /// The surrogates; arms beside the main ones and small fractions run with the first only.
    surrogates: Vec<Architecture>,
    extraction: Extraction,
    /// Weights of the repair loss; 0 and 1 are among them.
    repairs: Vec<f64>,
    /// Shares of the users whose histories are known, the largest first.
    fractions: Vec<f64>,
    /// Length of the victim's lists.
    list: i64,
    /// Synthetic sequences of arms without known histories; their prefixes are every arm's budget.
    synthetic: usize,
    /// Items of a synthetic sequence.
    synthetic_length: i64,
    /// Users to choose by.
    validation: usize,
}

/// Where an arm's sequences come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Random,
    Autoregressive,
    /// The known histories alone.
    FewShot,
    /// The same, learned by themselves, without the victim.
    Unlabelled,
    /// The known histories and sequences of the sampler.
    Augmented {
        sampler: bool,
        follow: Following,
    },
}

/// When a synthetic sequence follows the victim's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Following {
    Never,
    Always,
    Signal,
}

const RANDOM: &str = "random";
const AUTOREGRESSIVE: &str = "autoregressive";
const FEW_SHOT: &str = "few-shot";
const UNLABELLED: &str = "few-shot-no-victim";
const AUGMENTED: &str = "augmented";
const NEVER: &str = "augmented-never-follows";
const ALWAYS: &str = "augmented-always-follows";
const UNIFORM: &str = "augmented-uniform-draws";

/// Sources by name.
const SOURCES: [(&str, Source); 8] = [
    (RANDOM, Source::Random),
    (AUTOREGRESSIVE, Source::Autoregressive),
    (FEW_SHOT, Source::FewShot),
    (UNLABELLED, Source::Unlabelled),
    (AUGMENTED, Source::Augmented { sampler: true, follow: Following::Signal }),
    (NEVER, Source::Augmented { sampler: true, follow: Following::Never }),
    (ALWAYS, Source::Augmented { sampler: true, follow: Following::Always }),
    (UNIFORM, Source::Augmented { sampler: false, follow: Following::Signal }),
];
/// Those that run with every surrogate.
const MAIN: [&str; 4] = [RANDOM, AUTOREGRESSIVE, FEW_SHOT, AUGMENTED];
/// Those that run at every fraction.
const BY_FRACTION: [&str; 2] = [FEW_SHOT, AUGMENTED];

/// An arm.
#[derive(Debug, Clone, Copy)]
struct Arm {
    source: Source,
    fraction: f64,
    surrogate: Architecture,
}

impl Config {
    fn name(source: &str, fraction: f64, surrogate: Architecture) -> String {
        let surrogate = format!("{surrogate:?}").to_lowercase();
        if source == RANDOM || source == AUTOREGRESSIVE {
            format!("{source}/{surrogate}")
        } else {
            format!("{source}/{surrogate},known={fraction}")
        }
    }

    /// All arms with their names, in the order in which they run.
    fn arms(&self) -> Vec<(String, Arm)> {
        let mut arms = vec![];
        for (i, surrogate) in self.surrogates.iter().copied().enumerate() {
            for (name, source) in SOURCES.into_iter().filter(|(name, _)| i == 0 || MAIN.contains(name)) {
                for (j, fraction) in self.fractions.iter().copied().enumerate() {
                    if j == 0 || (i == 0 && BY_FRACTION.contains(&name)) {
                        let arm = Arm { source, fraction, surrogate };
                        arms.push((Self::name(name, fraction, surrogate), arm));
                    }
                }
            }
        }
        arms
    }

    fn arm(&self, name: &str) -> Result<Arm> {
        match self.arms().into_iter().find(|(known, _)| known == name) {
            Some((_, arm)) => Ok(arm),
            None => bail!("unknown arm {name}"),
        }
    }

    fn model(&self, items: i64) -> RecommenderConfig {
        let &Self { width, blocks, heads, dropout, .. } = self;
        let context = (self.length as i64).max(self.synthetic_length);
        RecommenderConfig { items, context, width, blocks, heads, dropout, attention_dropout: dropout }
    }

    fn check(&self) -> Result<()> {
        check_range("length", self.length as f64, 4.0..)?;
        self.model(self.list.max(2)).check()?;
        for fitting in [&self.victim_fitting, &self.sampler_fitting, &self.signal_fitting, &self.extraction.fitting] {
            fitting.check()?;
        }
        check_range("order_margin", self.extraction.order_margin, 0.0..)?;
        check_range("negative_margin", self.extraction.negative_margin, 0.0..)?;
        check_range("list", self.list as f64, 10.0..)?;
        check_range("top", self.extraction.top as f64, 1.0..=self.list as f64)?;
        check_list("repairs", &self.repairs, 0.0..)?;
        ensure!(
            self.repairs.contains(&0.0) && self.repairs.contains(&1.0),
            "repairs: expected 0 and 1 among them, got {:?}",
            self.repairs
        );
        check_list("fractions", &self.fractions, 1e-6..=0.5)?;
        ensure!(
            self.fractions.is_sorted_by(|a, b| a > b),
            "fractions: expected them from the largest to the smallest, got {:?}",
            self.fractions
        );
        let mut surrogates = self.surrogates.clone();
        surrogates.dedup();
        ensure!(
            !surrogates.is_empty() && surrogates.len() == self.surrogates.len(),
            "surrogates: expected at least one, each once, got {:?}",
            self.surrogates
        );
        check_range("synthetic", self.synthetic as f64, 1.0..)?;
        check_range("synthetic_length", self.synthetic_length as f64, 2.0..)?;
        check_range("validation", self.validation as f64, 1.0..)?;
        let known = (self.users as f64 * self.fractions[0]).round();
        check_range("users", self.users as f64, known + self.validation as f64 + 1.0..)?;
        let least = (self.users as f64 * self.fractions[self.fractions.len() - 1]).round();
        check_range("known users at the smallest fraction", least, 2.0..)?;
        let (budget, cost) = (self.synthetic as f64 * self.synthetic_length as f64, known * self.length as f64);
        ensure!(budget > cost, "synthetic: expected a budget of more than the {cost} queries of the known histories");
        Ok(())
    }
}

/// Names of metrics at a weight of the repair loss.
fn at_repair(metric: &str, repair: f64) -> String {
    format!("{metric}, repair {repair}")
}

/// On test users; on those set apart for choices.
const AGREEMENT: &str = "Agr@10";
const FIRST: &str = "Agr@1";
const CHOICE: &str = "validation Agr@10";
const RECALL: &str = "recall@10";
const NDCG: &str = "NDCG@10";
/// Of the victim, among all items and among the item and 100 others.
const VICTIM_RECALL: &str = "victim's recall@10";
const VICTIM_SAMPLED: &str = "victim's recall@10 among 100 negatives";
const QUERIES: &str = "queries";
/// Mean number of the victim's ten best that the surrogate misses, over training.
const MISSED: &str = "missed items";
/// Of the synthetic sequences.
const FREQUENCY: &str = "KL of item frequencies";
const BIGRAMS: &str = "bigram coverage";
const GENRE_RUN: &str = "mean genre run";

impl Experiment for ModelExtraction {
    fn slug(&self) -> &'static str {
        "model-extraction"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "With a tenth of the raw data the surrogate agrees more with the victim than data-free extraction and than training on the known histories alone",
                "three data sets, several architectures (figures not verified)",
                "Agr@10 on test users at the largest fraction, first surrogate, paired by seed, each arm at its best weight of the repair loss by validation (the augmented one among weights above 0): augmented minus the better data-free arm, and minus the known histories alone: both 95 % intervals are above 0. Partly if one is.",
            ),
            Claim::new(
                "C2",
                "Sampler, signal and repair loss help, each",
                "ablations (figures not verified)",
                "Agr@10, largest fraction, first surrogate. Repair: mean over all arms with a victim of weight 1 minus weight 0, paired by seed: the 95 % interval is above 0. Sampler: mean of augmented minus the same with uniform draws above 0. Signal: mean of augmented minus the better of always and never following above 0. Partly if some hold.",
            ),
            Claim::new(
                "C3",
                "More raw data help; what the synthetic sequences add is largest at small fractions",
                "2 to 10 % (figures not verified)",
                "Mean Agr@10 of augmented minus the known histories alone at the smallest fraction is at least that at the largest.",
            ),
            Claim::new(
                "C4",
                "Synthetic sequences are closer to raw data than data-free ones",
                "not verified",
                "In all seeds, at the largest fraction, augmented sequences have a lower KL divergence of item frequencies from the unknown users' histories, and cover more of their pairs of neighbours, than random and autoregressive sequences.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["markov", "ml-100k", "ml-1m", "amazon-beauty"]
    }

    fn config(&self, scale: Scale) -> Value {
        let fitting = |steps, lr| Fitting { steps, lr, ..Fitting::default() };
        let brief = |steps, lr| Fitting { batch: 32, ..fitting(steps, lr) };
        let mut config = Config {
            users: 2000,
            length: 22,
            width: 32,
            blocks: 2,
            heads: 2,
            dropout: 0.1,
            victim: Architecture::SasRec,
            victim_fitting: fitting(400, 2e-3),
            sampler_fitting: brief(200, 2e-3),
            signal_fitting: fitting(200, 1e-2),
            surrogates: vec![Architecture::SasRec, Architecture::Narm],
            extraction: Extraction { fitting: brief(300, 2e-3), ..Extraction::default() },
            repairs: vec![0.0, 0.05, 0.2, 1.0],
            fractions: vec![0.1, 0.02],
            list: 50,
            synthetic: 600,
            synthetic_length: 20,
            validation: 200,
        };
        match scale {
            Scale::Smoke => {
                (config.users, config.validation, config.synthetic) = (200, 20, 40);
                config.fractions = vec![0.1, 0.05];
                config.repairs = vec![0.0, 1.0];
                for fitting in [
                    &mut config.victim_fitting,
                    &mut config.sampler_fitting,
                    &mut config.signal_fitting,
                    &mut config.extraction.fitting,
                ] {
                    (fitting.steps, fitting.batch) = (5, 32);
                }
            }
            Scale::Small => config.surrogates.truncate(1),
            Scale::Full => {
                use Architecture::{Bert4Rec, Narm, SasRec};
                (config.users, config.length, config.width) = (6000, 52, 64);
                config.surrogates = vec![SasRec, Narm, Bert4Rec];
                (config.fractions, config.list) = (vec![0.1, 0.05, 0.02, 0.01], 100);
                (config.synthetic, config.synthetic_length, config.validation) = (5000, 50, 500);
                config.victim_fitting = fitting(10_000, 1e-3);
                config.sampler_fitting = fitting(3000, 1e-3);
                config.extraction.fitting = fitting(5000, 1e-3);
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        Ok(plan.cross(&config.arms().into_iter().map(|(name, _)| name).collect::<Vec<_>>()))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        run::cell(config.arm(&cell.arm)?, &config, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, plan: &Plan) -> String {
        let data = if plan.dataset == "markov" {
            "Interactions are generated: a Markov chain on items within genres, tastes, popularity."
        } else {
            "Users and items with fewer than five interactions are left out; of the users the first ones of the files take part, with their last items."
        };
        let architectures = match plan.scale {
            Scale::Small => "Victim and surrogate have one architecture, SASRec.",
            _ => "The victim is a SASRec; surrogates of other architectures are reported and not judged.",
        };
        format!(
            "Reconstructed components: sampler, signal and repair loss follow the paper's description, its formulas are not public; item side information is not used. {data} Of every user the last item is the target and the items before it, as many as models have learned to read, the test context; victims learn from all but the last two. Agreement is full ranking on users whose histories the adversary does not know, other users decide the choices. All arms take the same optimiser steps. The budget of queries is that of the data-free arms; known histories are paid for out of it, and what is left buys synthetic sequences; the arm of known histories alone has nothing to spend the rest on. The third data set of the paper, Steam, has no loader. {architectures}"
        )
    }
}
