//! Essential sparsity: how much of a pre-trained encoder can be removed at once before fine-tuning, for free?
//!
//! A small encoder is pre-trained on generated sequences and fine-tuned on four tasks after one-shot magnitude pruning at every sparsity,
//! beside random masks, N:M patterns, lottery tickets, and encoders with less, supervised or no pre-training.

mod arms;
mod corpus;
mod judge;
mod network;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Context as _, Result};
use arms::{
    ACCURACY, Arm, COSINE, LAYERS, LAYERS_AT, Pretraining, Pruner, ROUND_ACCURACY, arms, zeros_arm, zeros_metric,
};
use autodidact_core::error::check_range;
use autodidact_core::masks::{Masks, prune_in_rounds};
use autodidact_core::optim::Snapshot;
use autodidact_core::{Error, seed};
use autodidact_pruning::pruners::{global_magnitude, global_random, n_of_m};
use network::{Classifier, Encoder, Pretrained, TaskData};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct EssentialSparsity;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    width: i64,
    depth: usize,
    heads: i64,
    /// Sequences of the pre-training corpus.
    sequences: usize,
    batch: usize,
    lr: f64,
    warmup: usize,
    weight_decay: f64,
    steps: usize,
    /// Zeros are counted every so many steps, below these shares of the standard deviation of the weights at the start.
    look_every: usize,
    taus: Vec<f64>,
    /// Fine-tuning: examples, test examples, batch, rate and epochs.
    examples: usize,
    test: usize,
    task_batch: usize,
    task_lr: f64,
    task_epochs: usize,
    /// Sparsities of one-shot magnitude pruning, from 0; of the control task; of random masks.
    sparsities: Vec<f64>,
    control: Vec<f64>,
    random: Vec<f64>,
    /// N:M patterns.
    patterns: Vec<(i64, i64)>,
    /// Sparsities of the rounds of lottery tickets.
    rounds: Vec<f64>,
    /// Sparsities at which kinds of pre-training are compared.
    compared: Vec<f64>,
}

impl Config {
    /// What decides a pre-trained network.
    fn network(&self) -> Value {
        json!([
            self.width,
            self.depth,
            self.heads,
            self.sequences,
            self.batch,
            self.lr,
            self.warmup,
            self.weight_decay,
            self.steps,
            self.look_every,
            self.taus,
        ])
    }

    fn check(&self) -> Result<()> {
        for (what, value, low) in [
            ("width", self.width as f64, 1.0),
            ("depth", self.depth as f64, 1.0),
            ("heads", self.heads as f64, 1.0),
            ("batch", self.batch as f64, 1.0),
            ("sequences", self.sequences as f64, 10.0 * self.batch as f64),
            ("lr", self.lr, f64::MIN_POSITIVE),
            ("weight_decay", self.weight_decay, 0.0),
            ("steps", self.steps as f64, (4 * self.look_every) as f64),
            ("look_every", self.look_every as f64, 1.0),
            ("task_batch", self.task_batch as f64, 1.0),
            ("examples", self.examples as f64, self.task_batch as f64),
            ("test", self.test as f64, 1.0),
            ("task_lr", self.task_lr, f64::MIN_POSITIVE),
            ("task_epochs", self.task_epochs as f64, 1.0),
        ] {
            check_range(what, value, low..)?;
        }
        for (what, list) in [
            ("sparsities", &self.sparsities),
            ("control", &self.control),
            ("random", &self.random),
            ("rounds", &self.rounds),
            ("compared", &self.compared),
        ] {
            check_list(what, list, 0.0..1.0)?;
            if list.windows(2).any(|w| w[0] >= w[1]) {
                return Err(Error::value(what, "rising sparsities", format!("{list:?}")).into());
            }
        }
        check_list("taus", &self.taus, f64::MIN_POSITIVE..)?;
        let among = |list: &[f64]| list.iter().all(|s| self.sparsities.contains(s));
        if self.sparsities.len() < 4 || self.sparsities[0] != 0.0 || self.control[0] != 0.0 {
            let got = format!("{:?} and {:?}", self.sparsities, self.control);
            return Err(Error::value("sparsities and control", "from 0, four sparsities or more", got).into());
        }
        if !among(&self.random) || !among(&self.compared) || !among(&self.rounds) || self.rounds.len() < 2 {
            return Err(Error::value(
                "random, compared and rounds",
                "among the sparsities, two rounds or more",
                "others",
            )
            .into());
        }
        if !among(&[0.5]) || ![0.3, 0.5].iter().all(|s| self.random.contains(s)) || self.compared[0] <= 0.0 {
            let expected = "0.5 among the sparsities, 0.3 and 0.5 among random, compared above 0: claims name them";
            return Err(Error::value("sparsities, random and compared", expected, "others").into());
        }
        if let Some((n, m)) = [(3, 4), (2, 4), (1, 4)].into_iter().find(|p| !self.patterns.contains(p)) {
            return Err(Error::value("patterns", format!("{n}:{m} among them: a claim names it"), "others").into());
        }
        if self.width % self.heads != 0 {
            return Err(Error::value("heads", format!("a divisor of width = {}", self.width), self.heads).into());
        }
        for (n, m) in &self.patterns {
            let fits = *m >= 1 && (1..=*m).contains(n) && self.width % m == 0;
            if !fits {
                return Err(Error::value("patterns", "n of m with m dividing the width", format!("{n}:{m}")).into());
            }
        }
        Ok(())
    }
}

impl Experiment for EssentialSparsity {
    fn slug(&self) -> &'static str {
        "essential-sparsity"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "A sizeable share of the smallest weights goes for free, up to a sharp knee",
                "30 to 50 % within 1 % in all models; 21.5 % of BERT-base without any drop",
                "Means over seeds, eps = 1 point, of the copy tasks whose dense score beats no pre-training by 5 points. One-shot pruning keeps the score up to 0.2 or more on at least two of them; and on each scores fall at least 3 times as steeply after the knee as before it, and one-shot masks beat random ones at 0.3 and 0.5 by 5 points or more. Partly if all but the first. Not judged with fewer than two such tasks.",
            ),
            Claim::new(
                "C2",
                "The knee depends on the task: harder tasks break earlier",
                "MAWPS after ASDiv-A after SVAMP",
                "Of the easy, medium and hard copy task: the essential sparsity falls in this order by 0.2 or more in all, or where it is equal the drop at 0.5 rises in this order by 5 points or more in all. Not judged unless pre-training adds 5 points on each.",
            ),
            Claim::new(
                "C3",
                "The knee is sharper in vision than in language",
                "figure",
                "Needs both kinds of models: not tested.",
            ),
            Claim::new(
                "C4",
                "It holds for N:M patterns too",
                "OPT-350M on four tasks",
                "Mean over the copy tasks that count (C1), paired by seed: 2:4 is within 2 points of unstructured 50 % in the mean, and the interval of 3:4 minus 1:4 is above 0.",
            ),
            Claim::new(
                "C5",
                "Below the knee lottery tickets are no better than one-shot masks, and nearly the same",
                "cosine above 0.96 at 10 to 40 %",
                "Medium copy task at 40 %: the interval of lottery minus one-shot accuracy contains 0 and is at most 2 points to a side, the masks' cosine is at least 0.96 (chance 0.60), and it is smaller at 80 %. Partly if the cosines are so. Not judged unless pre-training adds 5 points to the task.",
            ),
            Claim::new(
                "C6",
                "Zeros emerge abruptly in pre-training",
                "at 22,000 to 25,000 of 50,000 iterations",
                "In every seed and for thresholds of 0.01, 0.05 and 0.1 of the initial deviation: the share of weights below rises at least 5 times as fast after the break of the best two-line fit as before it, and by a tenth of itself or more over the run.",
            ),
            Claim::new(
                "C7",
                "More pre-training data give better scores at every sparsity",
                "figure, MNLI",
                "Mean over the copy tasks on which both encoders' dense scores beat no pre-training by 5 points, paired by seed: the whole corpus minus a tenth of it (as many steps) is above 0 with its interval at 0.5 and at 0.7. Partly if at one. Not judged without such tasks.",
            ),
            Claim::new(
                "C8",
                "Self-supervised pre-training keeps more essential sparsity than supervised",
                "DINO above ViT, 14 % more near-zero weights",
                "As C7, masked tokens minus supervised pre-training for as many steps.",
            ),
            Claim::new(
                "C9",
                "Large language models show the same curve without fine-tuning",
                "figure",
                "Needs a large language model: not tested.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["hidden-markov"]
    }

    fn seeds(&self, scale: Scale) -> usize {
        if scale == Scale::Smoke { 1 } else { 3 }
    }

    fn config(&self, scale: Scale) -> Value {
        let small = Config {
            width: 64,
            depth: 4,
            heads: 4,
            sequences: 20_000,
            batch: 64,
            lr: 1e-3,
            warmup: 100,
            weight_decay: 0.01,
            steps: 1000,
            look_every: 50,
            taus: vec![0.01, 0.05, 0.1],
            examples: 2000,
            test: 1000,
            task_batch: 32,
            task_lr: 5e-4,
            task_epochs: 4,
            sparsities: vec![0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
            control: vec![0.0, 0.3, 0.5, 0.7, 0.9],
            random: vec![0.3, 0.5, 0.7],
            patterns: vec![(3, 4), (2, 4), (1, 4)],
            rounds: vec![0.2, 0.4, 0.6, 0.8],
            compared: vec![0.5, 0.7],
        };
        json!(match scale {
            Scale::Smoke => Config {
                width: 32,
                depth: 1,
                sequences: 640,
                steps: 60,
                warmup: 10,
                look_every: 10,
                examples: 128,
                test: 64,
                task_epochs: 1,
                sparsities: vec![0.0, 0.3, 0.5, 0.9],
                control: vec![0.0],
                random: vec![0.3, 0.5],
                rounds: vec![0.5, 0.9],
                compared: vec![0.5, 0.9],
                ..small
            },
            Scale::Small => small,
            Scale::Full => Config {
                width: 512,
                depth: 8,
                heads: 8,
                sequences: 1_000_000,
                batch: 256,
                lr: 5e-4,
                steps: 50_000,
                look_every: 1000,
                examples: 20_000,
                test: 10_000,
                task_lr: 5e-5,
                ..small
            },
        })
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        let zeros = [Pretraining::Full, Pretraining::NoDecay].map(zeros_arm);
        Ok(plan.cross(&zeros.into_iter().chain(arms(&config).into_iter().map(Arm::name)).collect::<Vec<_>>()))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        if let Some(p) = Pretraining::ALL.into_iter().find(|p| zeros_arm(*p) == cell.arm) {
            return zeros(p, &config, context);
        }
        let arm = arms(&config).into_iter().find(|a| a.name() == cell.arm);
        fine_tune(arm.context("an arm that is not there")?, &config, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, plan: &Plan) -> String {
        let config = plan.config::<Config>().ok();
        let (test, rounds) = config.map_or((0, 0), |c| (c.test, c.rounds.len()));
        format!(
            "Sequences of 32 tokens from a hidden Markov chain, half of which repeat a stretch of eight symbols; the copy tasks ask whether a stretch is repeated. The matrices of the blocks are pruned, all in one ranking; the head is drawn once per seed and fine-tuning is the same at every sparsity. Five places of every sequence are predicted in pre-training (16 %). Scores are averaged over the seeds before eps of 1 point is applied, as {test} test sequences have a standard error of {:.1} points. Lottery tickets are fine-tuned, pruned and rewound in {rounds} rounds. That only tasks count which need pre-training, in all claims, and that zeros must rise in all was added when part of the results had been seen, which makes claims harder or leaves them open. That C1 asks for a lead over random masks on each task was fixed before; on the easy task random masks do nearly as well, so that it cannot be met there.",
            100.0 * (0.25 / (test.max(1)) as f64).sqrt()
        )
    }
}

fn zeros(pretraining: Pretraining, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let pretrained = Pretrained::get(pretraining, config, context)?;
    for (tau, curve) in config.taus.iter().zip(&pretrained.zeros) {
        for (step, share) in curve {
            context.metric(*step as usize, &zeros_metric(*tau), *share);
        }
    }
    let encoder = pretrained.encoder(config, context.plan.device)?;
    let masks = global_magnitude(&encoder.masks()?, LAYERS_AT)?;
    context.array(LAYERS, masks.densities().into_iter().map(|d| d.1).collect());
    Ok(())
}

fn fine_tune(arm: Arm, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let device = context.plan.device;
    let encoder = match arm.pretraining {
        Pretraining::None => Encoder::new(config, context.seed("init"), device)?,
        pretraining => Pretrained::get(pretraining, config, context)?.encoder(config, device)?,
    };
    let data = TaskData::new(arm.task, config, context)?;
    let classifier = Classifier::new(encoder, arm.task, context);
    let dense = classifier.encoder.masks()?;
    let masks = match arm.pruner {
        Pruner::Magnitude(s) => global_magnitude(&dense, s)?,
        Pruner::Random(s) => global_random(&dense, s, &mut seed::rng(context.seed("random masks"), &[&s.to_string()]))?,
        Pruner::Pattern(n, m) => n_of_m(&dense, n, m)?,
        Pruner::Lottery => return lottery(&classifier, dense, &data, config, context),
    };
    let accuracy = classifier.fine_tune(&data, &masks, config, context)?;
    context.metric(0, ACCURACY, accuracy);
    Ok(())
}

/// Metrics by round, at the sparsity in percent.
fn lottery(
    classifier: &Classifier,
    dense: Masks,
    data: &TaskData,
    config: &Config,
    context: &mut Context<'_>,
) -> Result<()> {
    let start = Snapshot::of_parameters(&classifier.encoder.vs);
    let one_shot = config.rounds.iter().map(|s| global_magnitude(&dense, *s)).collect::<Result<Vec<_>, _>>()?;
    let densities: Vec<f64> = config.rounds.iter().map(|s| 1.0 - s).collect();
    let (_, rounds) = prune_in_rounds(dense, &start, &densities, |round, masks| -> Result<(f64, Option<f64>)> {
        let cosine = round.checked_sub(1).map(|i| masks.cosine(&one_shot[i])).transpose()?;
        Ok((classifier.fine_tune(data, masks, config, context)?, cosine))
    })?;
    for (sparsity, (_, (accuracy, cosine))) in [0.0].iter().chain(&config.rounds).zip(rounds) {
        let step = (100.0 * sparsity).round() as usize;
        context.metric(step, ROUND_ACCURACY, accuracy);
        if let Some(cosine) = cosine {
            context.metric(step, COSINE, cosine);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_before_anything_runs() {
        let cells = |changes: &[(&str, Value)]| Plan::trial_cells(&EssentialSparsity, changes);
        let all = cells(&[]).unwrap();
        let names: std::collections::BTreeSet<_> = all.iter().map(|c| &c.arm).collect();
        assert_eq!(names.len(), all.len(), "every arm comes once");
        let refused = [
            ("width", json!(0), "width: "),
            ("sequences", json!(100), "sequences: "),
            ("steps", json!(10), "steps: "),
            ("sparsities", json!([0.1, 0.5, 0.7, 0.9]), "sparsities and control: "),
            ("sparsities", json!([0.0, 0.9, 0.5]), "sparsities: expected rising"),
            ("random", json!([0.2]), "random, compared and rounds: "),
            ("rounds", json!([0.5]), "random, compared and rounds: "),
            ("random", json!([0.3]), "sparsities, random and compared: "),
            ("heads", json!(5), "heads: "),
            ("patterns", json!([[2, 4]]), "patterns: expected 3:4 among them"),
            ("patterns", json!([[3, 4], [2, 4], [1, 4], [5, 4]]), "patterns: expected n of m"),
            ("patterns", json!([[3, 4], [2, 4], [1, 4], [1, 3]]), "patterns: expected n of m"),
            ("taus", json!([]), "taus: "),
        ];
        Plan::assert_refused(&EssentialSparsity, &refused);
    }
}
