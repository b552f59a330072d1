//! SCL: does a model that cannot review its answers learn from its attempts to answer right at once?
//!
//! A small decoder that sees two handwritten digits answers questions about them; asked for reviews, it changes right and wrong answers.
//! Pairs of its answers before and after train it to answer directly, beside pairs without reviews and the likelihood of right answers.

mod judge;
mod model;
mod train;

use super::garland::{CHOSEN, PairTraining, REJECTED};
use super::language::{LmSize, Supervised};
use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Context as _, Result};
use autodidact_core::{error::check_range, seed};
use autodidact_datasets::synthetic::{AnswerFault, VisualQuestion};
use autodidact_preference::self_correction_learning::{Corrections, TransitionCounts, iterate_review};
use model::{Quiz, Vlm, percent};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use train::{Base, Splits};

/// The experiment.
pub struct SelfCorrectionLearning;

/// Images and questions.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Data {
    /// Images for pre-training, and for making pairs; the rest are for tests.
    pretraining: usize,
    construction: usize,
    /// Questions that are answered in two turns.
    questions: usize,
    /// Questions of the test.
    tested: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pretraining {
    #[serde(flatten)]
    training: Supervised,
    /// Share of sequences with two questions about one image.
    dialogues: f64,
    /// Steps between fresh samples of the model for reviews.
    refresh: usize,
    /// Steps between checks of the accuracy, on so many questions about the images trained on, and the percentage at which the rate
    /// begins to fall.
    every: usize,
    checked: usize,
    enough: f64,
    /// Steps in which it falls to 0.
    anneal: usize,
}

/// Training on pairs, the same for all arms.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Tuning {
    epochs: usize,
    /// Pairs of a step.
    batch: usize,
    lr: f64,
    /// Share of the steps in which the rate rises.
    warmup: f64,
    beta: f64,
}

impl Tuning {
    /// Training on so many pairs.
    fn training(&self, pairs: usize) -> PairTraining {
        let batch = self.batch.min(pairs);
        let steps = (self.epochs * pairs).div_ceil(batch);
        let warmup = (self.warmup * steps as f64).round() as usize;
        PairTraining { steps, batch, lr: self.lr, warmup }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    lm: LmSize,
    data: Data,
    pretraining: Pretraining,
    /// Share of pre-training sequences that are reviews; and other shares, beside.
    share: f64,
    other_shares: Vec<f64>,
    /// Temperature of the answers that pairs are made of; tests are greedy.
    temperature: f64,
    /// Most reviews of an answer in tests.
    reviews: usize,
    tuning: Tuning,
    /// Weight of the likelihood in the arm that has it.
    sft_mix: f64,
    /// Portions of the pairs, beside all.
    portions: Vec<f64>,
}

/// What an arm is trained on after pre-training.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Arm {
    /// Nothing.
    Base,
    /// Nothing, after pre-training with another share of reviews.
    Share(f64),
    /// Pairs of answers before and after a review.
    Scl { which: Corrections, sft_mix: f64, portion: f64 },
    /// Pairs of samples without a review.
    Independent,
    /// The likelihood of the chosen answers of SCL's pairs.
    Sft,
}

const BASE: &str = "base";
const SCL: &str = "scl";
const FIX: &str = "scl/fixed only";
const BREAK: &str = "scl/broken only";
const INDEPENDENT: &str = "independent pairs";
const SFT: &str = "likelihood of the right";

fn mixed_arm(mix: f64) -> String {
    format!("scl/sft={mix}")
}

fn portion_arm(portion: f64) -> String {
    format!("scl/p={portion}")
}

fn share_arm(share: f64) -> String {
    format!("base/reviews={share}")
}

/// The requests for reviews, in the order of [`VisualQuestion::REVIEW`].
const PROMPTS: [&str; 4] = ["CP", "VP-1", "VP-2", "VP-3"];

/// Of direct answers to the test questions.
const ACCURACY: &str = "accuracy of direct answers (%)";
const FAILURES: &str = "no letter (%)";
const FAULTS: [(AnswerFault, &str); 4] = [
    (AnswerFault::Form, "first fault: form (%)"),
    (AnswerFault::Digit, "first fault: digit misread (%)"),
    (AnswerFault::Result, "first fault: wrong result (%)"),
    (AnswerFault::Letter, "first fault: wrong letter (%)"),
];
/// Of the answers that pairs are made of.
const PAIRS: &str = "pairs";
const FIXED: &str = "fixed when pairs are made (type 2)";
const BROKEN: &str = "broken when pairs are made (type 3)";
const STEPS: &str = "steps of pre-training";

/// By number of reviews.
fn accuracy_after(prompt: &str) -> String {
    format!("accuracy after reviews, {prompt} (%)")
}

fn failures_after(prompt: &str) -> String {
    format!("no letter after reviews, {prompt} (%)")
}

/// What one review did to the test's answers: kept, fixed, broken, failed.
fn transitions(prompt: &str) -> String {
    format!("transitions, {prompt}")
}

impl Config {
    fn arms(&self) -> Vec<(String, Arm)> {
        let scl = |which, sft_mix, portion| Arm::Scl { which, sft_mix, portion };
        let mut arms = vec![
            (BASE.to_owned(), Arm::Base),
            (SCL.to_owned(), scl(Corrections::Both, 0.0, 1.0)),
            (mixed_arm(self.sft_mix), scl(Corrections::Both, self.sft_mix, 1.0)),
            (FIX.to_owned(), scl(Corrections::Fix, 0.0, 1.0)),
            (BREAK.to_owned(), scl(Corrections::Break, 0.0, 1.0)),
            (INDEPENDENT.to_owned(), Arm::Independent),
            (SFT.to_owned(), Arm::Sft),
        ];
        arms.extend(self.portions.iter().map(|&p| (portion_arm(p), scl(Corrections::Both, 0.0, p))));
        arms.extend(self.other_shares.iter().map(|&s| (share_arm(s), Arm::Share(s))));
        arms
    }

    fn check(&self) -> Result<()> {
        self.pretraining.training.check("pretraining", usize::MAX)?;
        let left = 1797usize.saturating_sub(self.data.pretraining + self.data.construction);
        let counts = [
            ("data.pretraining", self.data.pretraining, 1),
            ("data.construction", self.data.construction, 1),
            ("images left for tests (of 1797)", left, 1),
            ("data.questions", self.data.questions, 1),
            ("data.tested", self.data.tested, 2),
            ("pretraining.refresh", self.pretraining.refresh, 1),
            ("pretraining.every", self.pretraining.every, 1),
            ("pretraining.anneal", self.pretraining.anneal, 1),
            ("pretraining.checked", self.pretraining.checked, 1),
            ("tuning.epochs", self.tuning.epochs, 1),
            ("tuning.batch", self.tuning.batch, 1),
            ("reviews", self.reviews, 1),
        ];
        counts.iter().try_for_each(|(what, n, low)| check_range(what, *n as f64, *low as f64..))?;
        check_range("reviews", self.reviews as f64, ..=6.0)?;
        check_range("pretraining.enough", self.pretraining.enough, 0.0..=100.0)?;
        check_list("tuning.lr and tuning.beta", &[self.tuning.lr, self.tuning.beta], f64::MIN_POSITIVE..)?;
        check_list("tuning.warmup and sft_mix", &[self.tuning.warmup, self.sft_mix], 0.0..=1.0)?;
        let shares: Vec<f64> = [&self.other_shares[..], &[self.share]].concat();
        check_list("pretraining.dialogues", &[self.pretraining.dialogues], 0.0..=1.0)?;
        check_list("shares", &shares, 0.0..=1.0 - self.pretraining.dialogues)?;
        check_list("portions", &self.portions, f64::MIN_POSITIVE..=1.0)?;
        Ok(check_range("temperature", self.temperature, f64::MIN_POSITIVE..)?)
    }

    fn cell(&self, name: &str, context: &mut Context<'_>) -> Result<()> {
        let arm = self.arms().into_iter().find(|(n, _)| n == name).context("an arm that is not there")?.1;
        let device = context.plan.device;
        let splits = Splits::new(&self.data, context.seed("split"))?;
        let share = if let Arm::Share(share) = arm { share } else { self.share };
        let Base { weights, steps } = train::base(share, self, &splits, context)?;
        let vlm = Vlm::with(self.lm, &weights, device)?;
        if matches!(arm, Arm::Base | Arm::Share(_)) {
            context.metric(0, STEPS, steps);
        }
        if !matches!(arm, Arm::Share(_)) {
            let (quiz, records) = train::records(&vlm, self, &splits, context)?;
            if arm == Arm::Base {
                let counts = TransitionCounts::of(&records);
                context.metric(0, FIXED, counts.fix as f64);
                context.metric(0, BROKEN, counts.broken as f64);
            } else {
                let (pairs, own) = train::pairs(arm, &vlm, &records, &splits, self, context)?;
                let quiz = own.unwrap_or(quiz);
                context.metric(0, PAIRS, pairs.len() as f64);
                let [chosen, rejected] = train::fine_tune(arm, &vlm, &pairs, &quiz, self, context)?;
                context.metric(0, CHOSEN, chosen);
                context.metric(0, REJECTED, rejected);
            }
        }
        let mut rng = seed::rng(context.seed("test"), &["questions"]);
        let test = Quiz::draw(&splits.test, self.data.tested, &mut rng, device)?;
        let direct = vlm.answers(&test.images, &test.prompts(), 0.0, 0)?;
        self.log_direct(&test, &direct, context);
        if matches!(arm, Arm::Base | Arm::Share(_)) || name == SCL {
            self.log_reviews(&vlm, &test, &direct, context)?;
        }
        Ok(())
    }

    fn log_direct(&self, test: &Quiz, direct: &[Vec<i64>], context: &mut Context<'_>) {
        let share = |is: &dyn Fn(&VisualQuestion, &Vec<i64>) -> bool| {
            percent(&test.questions.iter().zip(direct).map(|(q, a)| is(q, a)).collect::<Vec<_>>())
        };
        context.metric(0, ACCURACY, test.accuracy(direct));
        context.metric(0, FAILURES, share(&|_, a| VisualQuestion::choice(a).is_none()));
        for (fault, name) in FAULTS {
            context.metric(0, name, share(&|q, a| q.fault(a) == Some(fault)));
        }
    }

    fn log_reviews(&self, vlm: &Vlm, test: &Quiz, direct: &[Vec<i64>], context: &mut Context<'_>) -> Result<()> {
        let first = test.right(direct);
        for (prompt, review) in PROMPTS.into_iter().zip(VisualQuestion::REVIEW) {
            let mut said = Some(direct.to_vec());
            let turns = iterate_review(&test.prompts(), &[review], self.reviews, |contexts| match said.take() {
                Some(direct) => Ok(direct),
                None => vlm.answers(&test.images, contexts, 0.0, 0),
            })?;
            for (turn, answers) in turns.iter().enumerate() {
                let silent: Vec<bool> = answers.iter().map(|a| VisualQuestion::choice(a).is_none()).collect();
                context.metric(turn, &accuracy_after(prompt), test.accuracy(answers));
                context.metric(turn, &failures_after(prompt), percent(&silent));
            }
            let both = first.iter().copied().zip(test.right(&turns[1]));
            let TransitionCounts { keep, fix, broken, fail } = both.collect();
            context.array(&transitions(prompt), [keep, fix, broken, fail].map(|n| n as f64).to_vec());
        }
        Ok(())
    }
}

impl Experiment for SelfCorrectionLearning {
    fn slug(&self) -> &'static str {
        "self-correction-learning"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "Intrinsic self-correction at inference hurts",
                "MiniCPM on RealWorldQA 61.70 -> 38.56 (CP), 48.50, 47.32, 43.00 (VP-1 to VP-3); LLaVA-1.5-7B on MMBench 68.40 -> 54.00, 57.20, 45.40, 54.00; more right answers broken (type 3) than wrong ones fixed (type 2)",
                "Accuracy after one review minus that of direct answers, the mean over the four prompts and the seeds, is below 0 with McNemar's p < 0.05 (counts are means over the prompts, added over the seeds), and when pairs are made type 3 outnumbers type 2. Partly if the difference is within 1 point of 0.",
            ),
            Claim::new(
                "C2",
                "More turns degrade further",
                "MiniCPM on RealWorldQA 61.70 -> 48.50 -> 39.22 -> 42.61",
                "Mean over prompts and seeds: accuracy after three reviews is at most that after one.",
            ),
            Claim::new(
                "C3",
                "SCL improves direct answers",
                "LLaVA-1.5-7B: RealWorldQA 50.90 -> 52.71, MMStar 32.97 -> 36.11, MMBench 70.24 -> 71.00, SEEDBench 66.64 -> 67.84; best mean rank on four models",
                "Accuracy of direct answers, SCL (the paper's equation, no likelihood mixed in) minus base, paired by seed: the 95 % interval is above 0 and the mean above 1 point; and it exceeds the base's accuracy after one review with the best of the prompts. Partly if only the first.",
            ),
            Claim::new(
                "C3b",
                "Beside pairs of independent samples and the likelihood of right answers",
                "not compared in the paper",
                "Reported with intervals; not judged, as the paper claims nothing.",
            ),
            Claim::new(
                "C4",
                "More pairs help, but 40 % suffices",
                "SEEDBench 66.88, 67.80, 67.84, 67.84 and AI2D 52.90, 53.60, 54.20, 54.81 with 20, 40, 60 and 100 %",
                "Accuracy of direct answers does not fall from one portion of the pairs to the next by more than the standard error of that difference over seeds, and 40 % of the pairs reach more than 70 % of the gain of all. Partly if one of the two; not reproduced if all pairs gain nothing.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["digits"]
    }

    fn config(&self, scale: Scale) -> Value {
        let training = Supervised { steps: 3000, batch: 64, lr: 2e-3, warmup: 50, weight_decay: 0.01 };
        let mut config = Config {
            lm: LmSize::S,
            data: Data { pretraining: 160, construction: 400, questions: 3000, tested: 2000 },
            pretraining: Pretraining {
                training,
                dialogues: 0.3,
                refresh: 50,
                every: 25,
                checked: 500,
                enough: 60.0,
                anneal: 100,
            },
            share: 0.03,
            other_shares: vec![0.1],
            temperature: 0.7,
            reviews: 3,
            tuning: Tuning { epochs: 3, batch: 16, lr: 1e-5, warmup: 0.03, beta: 0.1 },
            sft_mix: 0.1,
            portions: vec![0.2, 0.4, 0.6],
        };
        match scale {
            Scale::Smoke => {
                let steps = &mut config.pretraining;
                steps.anneal = 10;
                (steps.training.steps, steps.training.warmup, steps.refresh, steps.every) = (50, 5, 25, 25);
                (steps.checked, config.data.questions, config.data.tested) = (32, 32, 64);
                (config.tuning.epochs, config.other_shares) = (1, vec![0.1]);
            }
            Scale::Small => {}
            Scale::Full => {
                config.lm = LmSize::L;
                (config.data.questions, config.data.tested) = (10_000, 10_000);
                (config.pretraining.training.steps, config.pretraining.training.lr) = (10_000, 6e-4);
                config.pretraining.checked = 2000;
                (config.pretraining.anneal, config.other_shares) = (1000, vec![0.0, 0.01, 0.1]);
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        Ok(plan.cross(&config.arms().into_iter().map(|a| a.0).collect::<Vec<_>>()))
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
        "At small, a decoder of 0.1 million weights with eight patches of two handwritten digits in front of its text stands for the vision-language models, and generated questions with four options for the benchmarks; images of the pairs are kept out of pre-training, and those of the tests out of both. Which answers are right is known when pairs are made, and not to the model. That reviews are rare in pre-training (3 % of the sequences; the model's own answer, then the right one) was fixed beforehand. Settings chosen on a seed that the result does not use: embeddings start wider than usual (else the search for the option is not learned in 3,000 steps); 160 images for pre-training, so that what a trained model gets wrong is what it sees badly (with 900, to stop at 60 to 75 % of right answers is to stop in the middle of learning to search, and a falling rate alone makes them 93 %); the rate of training on pairs, the same for all arms, by the mean accuracy of SCL with and without likelihood, independent pairs and likelihood alone (60.6, 63.2, 65.1, 68.0 % at 2e-4, 1e-4, 5e-5, 1e-5; 68.9 % before: no rate helped). Dialogues have up to three questions, so that the places of a third review are trained. Whether the base is good enough to stop is measured on new questions about its own images. All weights are trained, at a constant rate after warm-up. All arms have the same rate, batch and epochs; arms with fewer pairs make fewer steps; pairs of independent samples are drawn from as many new questions as it takes for as many pairs. C4 counts as not reproduced where all pairs gain nothing, and as partly where one of its halves holds, which the criterion's source leaves open.".to_owned()
    }
}
