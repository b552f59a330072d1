//! SPO: does telling how much key content a response has lost help preference optimisation?
//!
//! On the garland language, with few noisy pairs (where DPO over-fits) and with many.

mod degrees;
mod judge;
mod train;

use super::garland::{Base, PairSettings, PairTraining};
use super::language::LmSize;
use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Context as _, Result, bail};
use autodidact_core::error::check_range;
use degrees::Content;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct PreferenceDegree;

/// A number of pairs with the training that goes with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Regime {
    name: String,
    pairs: PairSettings,
    training: PairTraining,
    /// Steps at which policies are evaluated.
    evaluations: Vec<usize>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    base: Base,
    regimes: Vec<Regime>,
    beta: f64,
    /// Degrees of removal, the untouched response included.
    grades: usize,
    /// Weights of the degree loss; the first is the one that claims are judged by.
    gammas: Vec<f64>,
    /// RPO's weight, for reference.
    eta: f64,
    /// Samples of an evaluation.
    samples: usize,
    /// Fresh pairs on which degrees and implicit rewards are measured.
    fresh: usize,
}

/// The loss on the untouched pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Alignment {
    Dpo,
    Ipo,
    /// DPO with this weight of the chosen answers' likelihood.
    Rpo(f64),
}

/// What is done with responses whose content is removed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Use {
    Nothing,
    /// Their degree is told by a head, with this weight of its loss; or a degree drawn at random.
    Degree {
        gamma: f64,
        shuffled: bool,
    },
    /// They are further rejected responses.
    Rejected,
}

/// An arm.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Method {
    alignment: Alignment,
    removed: Use,
    content: Content,
}

const DPO: &str = "dpo";
const IPO: &str = "ipo";
const IPO_SPO: &str = "ipo+spo";
const RANDOM: &str = "dpo+random removal";
const SHUFFLED: &str = "dpo+shuffled degrees";
const ORACLE: &str = "dpo+oracle content";
const REJECTED: &str = "dpo+removed as rejected";
const RPO: &str = "rpo";

fn spo_arm(gamma: f64) -> String {
    format!("dpo+spo/gamma={gamma}")
}

/// Rewards of the samples of an evaluation, prompt by prompt.
fn rewards_at(step: usize) -> String {
    format!("rewards at {step}")
}

/// Gold reward on prompts kept out of the pairs, by which checkpoints are chosen.
const VALIDATION: &str = ", prompts kept out";
const ACCURACY: &str = "accuracy of degrees (%)";
const LENGTH_ACCURACY: &str = "accuracy of degrees from the length alone (%)";
const SPEARMAN: &str = "rank correlation of implicit reward and reward";
const MONOTONE: &str = "implicit reward falls with every degree (%)";
/// Rows are degrees, columns what the head says, in percent.
const CONFUSION: &str = "confusion of degrees";
/// Mean implicit reward, and gold reward, by degree.
const IMPLICIT: &str = "implicit reward by degree";
const GOLD_BY_DEGREE: &str = "gold reward by degree";

impl Config {
    /// The gamma that the claims are judged by.
    fn gamma(&self) -> f64 {
        self.gammas[0]
    }

    /// Arms of a regime, by name.
    fn methods(&self) -> Vec<(String, Method)> {
        let plain = |alignment| Method { alignment, removed: Use::Nothing, content: Content::Key };
        let degree = |alignment, gamma, shuffled, content| Method {
            alignment,
            removed: Use::Degree { gamma, shuffled },
            content,
        };
        let (dpo, gamma) = (Alignment::Dpo, self.gamma());
        let mut arms = vec![(DPO.to_owned(), plain(dpo))];
        arms.extend(self.gammas.iter().map(|&g| (spo_arm(g), degree(dpo, g, false, Content::Key))));
        let rest = [
            (RANDOM, degree(dpo, gamma, false, Content::Random)),
            (SHUFFLED, degree(dpo, gamma, true, Content::Key)),
            (ORACLE, degree(dpo, gamma, false, Content::Oracle)),
            (REJECTED, Method { removed: Use::Rejected, ..plain(dpo) }),
            (IPO, plain(Alignment::Ipo)),
            (IPO_SPO, degree(Alignment::Ipo, gamma, false, Content::Key)),
            (RPO, plain(Alignment::Rpo(self.eta))),
        ];
        arms.extend(rest.map(|(name, method)| (name.to_owned(), method)));
        arms
    }

    fn arm(regime: &Regime, name: &str) -> String {
        format!("{}/{name}", regime.name)
    }

    /// The regime and the method of an arm.
    fn find(&self, arm: &str) -> Result<(&Regime, Method)> {
        let (regime, name) = arm.split_once('/').context("an arm without a regime")?;
        let regime = self.regimes.iter().find(|r| r.name == regime).context("a regime that is not there")?;
        let method = self.methods().into_iter().find(|(n, _)| n == name).context("an arm that is not there")?.1;
        Ok((regime, method))
    }

    fn check(&self) -> Result<()> {
        self.base.check()?;
        check_range("length of regimes", self.regimes.len() as f64, 1.0..)?;
        for regime in &self.regimes {
            regime.training.check(&regime.pairs)?;
            if regime.name.contains('/') || regime.evaluations.last() != Some(&regime.training.steps) {
                bail!(
                    "regime {}: expected a name without / and evaluations up to the last step, {}",
                    regime.name,
                    regime.training.steps
                );
            }
        }
        check_range("beta", self.beta, f64::MIN_POSITIVE..)?;
        check_range("grades", self.grades as f64, 2.0..)?;
        check_list("gammas", &self.gammas, f64::MIN_POSITIVE..)?;
        check_range("eta", self.eta, 0.0..)?;
        check_range("samples", self.samples as f64, 2.0..)?;
        Ok(check_range("fresh", self.fresh as f64, 2.0..)?)
    }
}

impl Experiment for PreferenceDegree {
    fn slug(&self) -> &'static str {
        "preference-degree"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "On top of existing preference methods SPO improves them",
                "win rates on two data sets (tables not available)",
                "Gold reward of the best checkpoint (chosen by gold reward on prompts kept out, the same rule for all arms), mean over the two numbers of pairs, paired by seed: DPO with SPO minus DPO has its 95 % interval above 0, and IPO with SPO minus IPO its mean. Partly if one holds.",
            ),
            Claim::new(
                "C2",
                "Best among the compared methods",
                "claimed for its time",
                "Needs the methods and data of the paper: not tested. RPO is reported beside C1.",
            ),
            Claim::new(
                "C3",
                "The gain comes from key content: removing other words is worse",
                "ablation (named in digests only)",
                "As C1, SPO with key content minus SPO with as many random words removed: the 95 % interval is above 0.",
            ),
            Claim::new(
                "C4",
                "The model tells degrees after training",
                "analysis",
                "Accuracy of the degree on unseen responses above 60 % (the whole interval; chance 33 %), and the rank correlation of the implicit reward with the gold reward on fresh answers is in the mean not below DPO's. Partly if one holds.",
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
        let regime = |name: &str, count, lr, steps, evaluations| Regime {
            name: name.to_owned(),
            pairs: PairSettings { count, tau: 1.0 },
            training: PairTraining { steps, batch: 32, lr, warmup: 20 },
            evaluations,
        };
        let mut config = Config {
            base: Base::of(LmSize::S),
            regimes: vec![
                regime("few", 300, 5e-4, 200, vec![0, 50, 100, 200]),
                regime("many", 1200, 2e-4, 300, vec![0, 50, 100, 200, 300]),
            ],
            beta: 0.1,
            grades: 3,
            gammas: vec![0.1, 0.5],
            eta: 0.2,
            samples: 400,
            fresh: 500,
        };
        match scale {
            Scale::Smoke => {
                config.base = Base::smoke();
                config.regimes = vec![regime("few", 64, 5e-4, 10, vec![0, 5, 10])];
                config.regimes[0].training.warmup = 2;
                (config.samples, config.fresh) = (48, 32);
            }
            Scale::Small => {}
            Scale::Full => {
                config.base = Base::of(LmSize::L);
                config.regimes.push(regime("most", 10_000, 1e-4, 1500, vec![0, 300, 600, 1000, 1500]));
                (config.samples, config.fresh) = (2000, 2000);
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        let arms = config.regimes.iter().flat_map(|regime| {
            config.methods().into_iter().map(|(name, _)| Config::arm(regime, &name)).collect::<Vec<_>>()
        });
        Ok(plan.cross(&arms.collect::<Vec<_>>()))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        let (regime, method) = config.find(&cell.arm)?;
        train::cell(regime, method, &config, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, _plan: &Plan) -> String {
        "The paper's number of degrees, head and weight are not public; here three degrees (none, half, all of the key words), layer norm and a linear head at the last token, weight 0.1. Garland sentences have about two key phrases, so their words are removed one by one, in the order of the phrases' scores; determiners, verbs and adverbs are the stop-words, chosen responses with fewer than two key words take no part in the degree loss. Key content hardly knows what is liked here (the hidden utilities of words), so a gain can only come from what else removal spoils: grammar, noun, length. 'Oracle content' removes the best liked words first. All arms of a number of pairs share pairs and order, and gamma is the same for DPO and IPO.".to_owned()
    }
}
