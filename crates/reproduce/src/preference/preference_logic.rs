//! The logic of preference losses: do losses have exact programs whose order is that of their values, and do constraints show in training?
//!
//! Everything exact is enumerated over two propositions; and the sixteen losses that rank a pair right are trained on the garland language.

mod exact;
mod judge;

use super::garland::{Base, Evaluation, PairBatch, PairData, PairSettings, PairTraining, Pairs, prompts, spread};
use super::language::LmSize;
use crate::experiment::{Cell, Claim, Experiment, Plan, Scale};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Context as _, Result};
use autodidact_core::error::check_range;
use autodidact_core::{Result as CoreResult, seed};
use autodidact_preference::losses::PairLogProbs;
use autodidact_preference::preference_logic::{
    CompiledLoss, Input, Link, Marks, PreferenceStructure, catalogue, compile, landscape,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

/// The experiment.
pub struct PreferenceLogic;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    base: Base,
    pairs: PairSettings,
    training: PairTraining,
    /// Steps between evaluations.
    every: usize,
    /// Samples of an evaluation.
    samples: usize,
    /// Random probabilities at which formulas are compared.
    points: usize,
    /// Whether the consistent losses that have no name are trained too, on the first seed.
    landscape: bool,
}

const EXACT: &str = "exact";
const CPO: &str = "CPO";
const CCPO: &str = "cCPO";
const DPO: &str = "DPO";
/// Losses that are trained on all seeds.
const COMPARED: [&str; 7] = [CPO, "ORPO", CCPO, "sCPO", "cUNL", "CEunl", DPO];

/// Log-probabilities of a batch so near to 0 that their complements are clamped.
const CLAMPED: &str = "clamped log-probabilities";
/// Rewards of the samples at the last step, prompt by prompt.
const REWARDS: &str = "rewards";

/// The losses over two propositions that rank the pair itself right: names (marks of those that have none) and structures.
fn consistent() -> Result<Vec<(String, PreferenceStructure)>> {
    let known = catalogue();
    let name = |marks: Marks| {
        let found = known
            .iter()
            .find(|n| n.input == Input::Policy && n.link == Link::default() && n.structure.marks() == marks);
        found.map_or_else(|| marks.to_string(), |n| n.name.to_owned())
    };
    let all = landscape(2)?.filter(|marks| marks.consistent());
    Ok(all.map(|marks| (name(marks), marks.structure())).collect())
}

/// A loss with the propositions that it reads.
struct Method {
    loss: CompiledLoss,
    input: Input,
}

impl Method {
    /// Of an arm: `-log sigmoid(rho)` of its structure, on log-probabilities per token.
    fn of(arm: &str) -> Result<Self> {
        let (structure, input) = if arm == DPO {
            let dpo = catalogue().into_iter().find(|n| n.name == DPO).context("the catalogue lacks DPO")?;
            (dpo.structure, dpo.input)
        } else {
            let found = consistent()?.into_iter().find(|(name, _)| name == arm);
            (found.context("an arm that is not there")?.1, Input::Policy)
        };
        Ok(Self { loss: compile(&structure, Link::default())?, input })
    }

    fn columns(&self, batch: &PairBatch) -> CoreResult<Tensor> {
        let per_token = |pairs: &PairLogProbs| pairs.per_token(&batch.chosen_lengths, &batch.rejected_lengths);
        self.input.columns(&per_token(&batch.policy)?, Some(&per_token(&batch.reference)?))
    }
}

impl Config {
    fn check(&self) -> Result<()> {
        self.base.check()?;
        self.training.check(&self.pairs)?;
        check_range("every", self.every as f64, 1.0..=self.training.steps as f64)?;
        check_range("samples", self.samples as f64, 2.0..)?;
        Ok(check_range("points", self.points as f64, 1.0..)?)
    }

    fn train(&self, arm: &str, context: &mut Context<'_>) -> Result<()> {
        let method = Method::of(arm)?;
        let device = context.plan.device;
        let run = context.cell_seed();
        let weights = self.base.weights(run, context)?;
        let (policy, reference) = (self.base.policy(&weights, device)?, self.base.policy(&weights, device)?);
        let pairs = Pairs::of(&reference.model, &self.pairs, context.seed("pairs"), device)?;
        context.metric(0, "agreement of labels with the reward (%)", 100.0 * pairs.agreement());
        let data = PairData::new(&pairs, &reference.model, device)?;
        let asked = spread(&prompts(false), self.samples);
        let (order, samples) = (context.seed("order"), context.arm_seed("samples"));
        let total = self.training.steps;
        let all = Tensor::arange(self.pairs.count as i64, (Kind::Int64, device));
        self.training.run(
            &policy,
            &data,
            order,
            |batch| method.loss.forward(&method.columns(batch)?),
            |done, loss| {
                context.progress(done, total, loss);
                if !done.is_multiple_of(self.every) && done != total {
                    return Ok(());
                }
                let at = seed::derive(samples, &[&done.to_string()]);
                let evaluation = Evaluation::of(&policy.model, &reference.model, &asked, at, device)?;
                evaluation.log(done, "", context);
                data.log_changes(&policy.model, done, context)?;
                if done == total {
                    let columns = tch::no_grad(|| method.columns(&data.batch(&policy.model, &all)?))?;
                    context.metric(done, CLAMPED, method.loss.clamped(&columns)?.double_value(&[]));
                    context.array(REWARDS, evaluation.rewards);
                }
                Ok(())
            },
        )
    }
}

impl Experiment for PreferenceLogic {
    fn slug(&self) -> &'static str {
        "preference-logic"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "Losses have exact symbolic programs: compiling the program of a loss gives the loss",
                "theorem",
                "Ten named losses and all 225 losses over two propositions whose polynomials are not zero: formula to program to loss keeps the program and, at random probabilities, the value to 1e-12.",
            ),
            Claim::new(
                "C2",
                "There are 4^(2^n) preference losses over n predictions",
                "theorem: 256 for a pair without reference",
                "Enumeration: 256, of which 81 without additive condition, 16 consistent and 9 both; distinct programs all.",
            ),
            Claim::new(
                "C3",
                "Entailment between programs orders losses; CPO and ORPO share their core",
                "theorem, and the lattice of losses",
                "No violation over all comparable pairs of losses at random probabilities; cores of CPO and ORPO are equivalent, and their constraints are not.",
            ),
            Claim::new(
                "C4",
                "DPO is the reference form of CPO, SimPO that of a manual reference",
                "derivation",
                "Loss compiled from the program over four propositions against the direct formula at random log-probabilities: both differ by at most 1e-10, and DPO's program is that of CPO with a reference.",
            ),
            Claim::new(
                "C5",
                "Losses with other constraints train otherwise, and a new one, cCPO, competes with CPO",
                "Qwen of 0.5 billion weights: win rate of cCPO against CPO about 50 to 52 % (from memory)",
                "Equal steps on the same pairs. (i) The variance of the change of chosen answers' log-probability between losses is above 4 times that between seeds; (ii) the gold win rate of cCPO's samples against CPO's, by seed, is at least 45 % with the 95 % interval above 40 %. Partly if one holds.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["garland"]
    }

    fn config(&self, scale: Scale) -> Value {
        let mut config = Config {
            base: Base::of(LmSize::S),
            pairs: PairSettings { count: 1200, tau: 1.0 },
            training: PairTraining { steps: 200, batch: 32, lr: 5e-4, warmup: 20 },
            every: 50,
            samples: 400,
            points: 1000,
            landscape: true,
        };
        match scale {
            Scale::Smoke => {
                config.base = Base::smoke();
                (config.pairs.count, config.samples, config.points) = (64, 48, 20);
                (config.training.steps, config.training.warmup, config.every) = (20, 2, 10);
                config.landscape = false;
            }
            Scale::Small => {}
            Scale::Full => {
                config.base = Base::of(LmSize::L);
                (config.pairs.count, config.samples, config.points) = (5000, 2000, 10_000);
                (config.training.steps, config.training.lr) = (600, 2e-4);
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        let mut cells = plan.cross(&[&[EXACT][..], &COMPARED].concat());
        if config.landscape {
            let others = consistent()?.into_iter().filter(|(name, _)| !COMPARED.contains(&name.as_str()));
            cells.extend(others.flat_map(|(name, _)| plan.seeds.first().map(|&seed| Cell::new(&name, seed))));
        }
        Ok(cells)
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        if cell.arm == EXACT {
            return exact::run(config.points, context);
        }
        config.train(&cell.arm, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, _plan: &Plan) -> String {
        "Probabilities of responses are means over tokens (geometric): with sums every complement is 1 and losses that differ in it are the same. All trained losses are -log sigmoid(rho), DPO too (beta 1 on means over tokens), without a term for the likelihood of chosen answers, on the same 1,200 noisy pairs in the same order. The language, its reward and the preferences are generated; the model is a decoder of 0.1 million weights.".to_owned()
    }
}
