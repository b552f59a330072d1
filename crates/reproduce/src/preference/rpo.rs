//! RPO: does the likelihood of chosen answers keep preference optimisation from over-optimising?
//!
//! On a bandit whose optimum is known, and on the garland language with few noisy pairs, where DPO first gains and then loses reward.

mod bandit;
mod judge;

use super::garland::{Base, Evaluation, PairBatch, PairData, PairSettings, PairTraining, Pairs, prompts, spread};
use super::language::LmSize;
use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Context as _, Result, bail};
use autodidact_core::error::check_range;
use autodidact_core::{Result as CoreResult, seed};
use autodidact_preference::losses::{dpo, ipo};
use autodidact_preference::rpo::{Rpo, SftReduction};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::Tensor;

/// The experiment.
pub struct RpoExperiment;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    base: Base,
    /// Steps of pre-training of the second reference, which has other seeds.
    second_steps: usize,
    pairs: PairSettings,
    training: PairTraining,
    /// Strength of the reference in all arms but one.
    beta: f64,
    /// That one's: DPO held closer.
    strong_beta: f64,
    /// RPO's weights, sums over tokens.
    etas: Vec<f64>,
    /// The one that the claims are judged by.
    eta: f64,
    /// RPO's weight with means over tokens.
    mean_eta: f64,
    /// Steps at which policies are evaluated.
    evaluations: Vec<usize>,
    /// Samples of an evaluation.
    samples: usize,
    bandit: bandit::Config,
}

/// What an arm minimises.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Method {
    Dpo {
        beta: f64,
    },
    Rpo(Rpo),
    Ipo {
        beta: f64,
    },
    /// The likelihood of chosen answers, per token.
    Sft,
}

impl Method {
    fn loss(&self, batch: &PairBatch) -> CoreResult<Tensor> {
        match *self {
            Method::Dpo { beta } => dpo(&batch.margin()?, beta),
            Method::Rpo(rpo) => Ok(rpo.forward(&batch.policy, &batch.reference, &batch.chosen_lengths)?.total),
            Method::Ipo { beta } => ipo(&batch.margin()?, beta),
            Method::Sft => Ok(-&batch.policy.chosen / &batch.chosen_lengths),
        }
    }
}

const BANDIT: &str = "bandit";
const DPO: &str = "dpo";
const STRONG: &str = "dpo/strong";
const IPO: &str = "ipo";
const SFT: &str = "sft";
const MEAN: &str = "rpo-mean";
const SECOND_DPO: &str = "second/dpo";
const SECOND_RPO: &str = "second/rpo";

fn rpo_arm(eta: f64) -> String {
    format!("rpo/eta={eta}")
}

/// The implicit reward of the policy's own samples, at the beta that most arms have.
const PROXY: &str = "implicit reward of samples";
/// Gold reward on prompts kept out of the pairs.
const VALIDATION: &str = ", prompts kept out";
/// Rewards of the samples at the last step, prompt by prompt.
const REWARDS: &str = "rewards";

impl Config {
    fn methods(&self) -> Vec<(String, Method)> {
        let sum = |eta: f64| Method::Rpo(Rpo { beta: self.beta, eta, reduction: SftReduction::Sum });
        let mut arms = vec![(DPO.to_owned(), Method::Dpo { beta: self.beta })];
        arms.extend(self.etas.iter().map(|&eta| (rpo_arm(eta), sum(eta))));
        let mean = Rpo { beta: self.beta, eta: self.mean_eta, reduction: SftReduction::Mean };
        let rest = [
            (MEAN, Method::Rpo(mean)),
            (STRONG, Method::Dpo { beta: self.strong_beta }),
            (IPO, Method::Ipo { beta: self.beta }),
            (SFT, Method::Sft),
            (SECOND_DPO, Method::Dpo { beta: self.beta }),
            (SECOND_RPO, sum(self.eta)),
        ];
        arms.extend(rest.map(|(name, method)| (name.to_owned(), method)));
        arms
    }

    fn check(&self) -> Result<()> {
        self.base.check()?;
        self.training.check(&self.pairs)?;
        self.bandit.check()?;
        check_range("second_steps", self.second_steps as f64, self.base.training.warmup as f64..)?;
        check_range("beta", self.beta, f64::MIN_POSITIVE..)?;
        check_range("strong_beta", self.strong_beta, f64::MIN_POSITIVE..)?;
        check_list("etas", &self.etas, f64::MIN_POSITIVE..)?;
        check_range("mean_eta", self.mean_eta, 0.0..)?;
        check_range("samples", self.samples as f64, 2.0..)?;
        if !self.etas.contains(&self.eta) {
            bail!("eta: expected one of etas {:?}, got {}", self.etas, self.eta);
        }
        if self.evaluations.last() != Some(&self.training.steps) {
            bail!("evaluations: expected steps up to the last, {}, got {:?}", self.training.steps, self.evaluations);
        }
        Ok(())
    }

    fn train(&self, arm: &str, context: &mut Context<'_>) -> Result<()> {
        let method = self.methods().into_iter().find(|(name, _)| name == arm).context("an arm that is not there")?.1;
        let device = context.plan.device;
        let second = [SECOND_DPO, SECOND_RPO].contains(&arm);
        let mut base = self.base.clone();
        let mut run = context.cell_seed();
        if second {
            base.training.steps = self.second_steps;
            run = seed::derive(run, &["second reference"]);
        }
        let weights = base.weights(run, context)?;
        let (policy, reference) = (base.policy(&weights, device)?, base.policy(&weights, device)?);
        let pairs = Pairs::of(&reference.model, &self.pairs, seed::derive(run, &["rpo", "pairs"]), device)?;
        context.metric(0, "agreement of labels with the reward (%)", 100.0 * pairs.agreement());
        let data = PairData::new(&pairs, &reference.model, device)?;
        let [asked, kept_out] = [false, true].map(|held_out| spread(&prompts(held_out), self.samples));
        let order = seed::derive(run, &["rpo", "order"]);
        let samples = context.arm_seed("samples");
        let total = self.training.steps;
        self.training.run(
            &policy,
            &data,
            order,
            |batch| method.loss(batch),
            |done, loss| {
                context.progress(done, total, loss);
                if !self.evaluations.contains(&done) {
                    return Ok(());
                }
                let at = |what: &str| seed::derive(samples, &[what, &done.to_string()]);
                let (model, reference) = (&policy.model, &reference.model);
                let evaluation = Evaluation::of(model, reference, &asked, at("training prompts"), device)?;
                evaluation.log(done, "", context);
                context.metric(done, PROXY, self.beta * evaluation.kl);
                Evaluation::of(model, reference, &kept_out, at("kept out"), device)?.log(done, VALIDATION, context);
                data.log_changes(model, done, context)?;
                if done == total {
                    context.array(REWARDS, evaluation.rewards);
                }
                Ok(())
            },
        )
    }
}

impl Experiment for RpoExperiment {
    fn slug(&self) -> &'static str {
        "rpo"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "Under partial coverage RPO is near the best covered policy, with an error of order 1/sqrt(N)",
                "theorem",
                "Bandits with 8 arms, 3 of them seen in one comparison each. Expected gold reward of RPO's policy (the judged eta) minus that of DPO's, over all instances: the 95 % interval is above 0; and the mean gap to the best well-covered arm falls with the number of comparisons, with a slope of its logarithm on that of N (eta and beta of order 1/sqrt(N)) of at most -0.3. Partly if one of the two holds.",
            ),
            Claim::new(
                "C2",
                "RPO keeps the log-probability of chosen responses above DPO's",
                "figure: notably higher, both series",
                "Mean change of the log-probability of chosen answers at the last step, RPO minus DPO, paired by seed: the 95 % interval is above 0. Judged only if DPO's own change is below -2 nats (else nothing is over-optimised).",
            ),
            Claim::new(
                "C3",
                "RPO's responses beat DPO's",
                "win rate 56.0 % (beta series), 54.0 % (gemma series)",
                "Gold win rate of RPO's samples against DPO's on the same prompts at the last step, by seed: the 95 % interval is above 50 %. Partly if only the mean is.",
            ),
            Claim::new(
                "C3b",
                "DPO over-optimises where RPO does not",
                "the paper's motivation",
                "Mean gold reward over seeds at the last step against its maximum over the evaluations: DPO's is lower by more than 2 standard errors of that difference (over seeds), RPO's is not. Partly if RPO's is too, but less so than DPO's.",
            ),
            Claim::new(
                "C4",
                "Benchmarks judged by a large model rise",
                "MT-Bench 7.381 against 7.278 (beta), 7.916 against 7.688 (gemma); AlpacaEval 2 LC 23.28 against 21.15, 15.51 against 15.36",
                "Needs chat models and a judge: not tested.",
            ),
            Claim::new(
                "C5",
                "RPO plugs into other references without tuning",
                "two series of models and data, eta 0.005 in both",
                "With a second reference (other seeds, longer pre-training, its own pairs) and the same settings, the mean differences of C2 and C3 (win rate minus 50 %) are above 0. Partly if one is.",
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
        let mut config = Config {
            base: Base::of(LmSize::S),
            second_steps: 700,
            pairs: PairSettings { count: 300, tau: 1.0 },
            training: PairTraining { steps: 300, batch: 32, lr: 5e-4, warmup: 20 },
            beta: 0.1,
            strong_beta: 0.5,
            etas: vec![0.1, 0.2, 0.6],
            eta: 0.1,
            mean_eta: 0.2,
            evaluations: vec![0, 25, 50, 100, 150, 200, 300],
            samples: 400,
            bandit: bandit::Config::new(200),
        };
        match scale {
            Scale::Smoke => {
                (config.base, config.second_steps) = (Base::smoke(), 60);
                (config.pairs.count, config.samples) = (64, 48);
                (config.training.steps, config.training.warmup) = (10, 2);
                config.evaluations = vec![0, 5, 10];
                config.bandit = bandit::Config::new(10);
            }
            Scale::Small => {}
            Scale::Full => {
                config.base = Base::of(LmSize::L);
                (config.second_steps, config.samples) = (6000, 2000);
                config.training.lr = 2e-4;
                config.bandit = bandit::Config::new(1000);
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        let mut arms = vec![BANDIT.to_owned()];
        arms.extend(config.methods().into_iter().map(|(name, _)| name));
        Ok(plan.cross(&arms))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        if cell.arm == BANDIT {
            return bandit::run(&config.bandit, context);
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
        "The language, its reward and the preferences (labels drawn from the reward's differences) are generated; the model is a decoder of 0.1 million weights, and the pairs are few and noisy, a regime in which DPO over-optimises. All arms of a reference share pairs and order, and all arms rate and steps; the eta that the claims are judged by was chosen on a seed that the result does not use, by gold reward on prompts kept out of the pairs. On the bandits DPO takes 2,000 gradient steps (its optimum can lie at infinity), RPO's unique optimum is found by L-BFGS.".to_owned()
    }
}
