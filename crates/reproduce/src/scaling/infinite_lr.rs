//! Infinite learning-rate schedules: does going on at a constant rate forget less than warming up again for every data set?
//!
//! A character-level language model reads a stream of three texts (the first half of a text, word problems, the second half); a masked
//! autoencoder sees images of three groups of classes in turn. Within a seed all arms start from the same weights and see the same
//! batches.

mod images;
mod judge;
mod language;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Context as _, Result};
use autodidact_core::Error;
use autodidact_core::error::check_range;
use autodidact_distill::self_distilled_pretraining::MaeConfig;
use autodidact_scaling::infinite_lr::{InfiniteSchedule, RepeatedCosine, Resume, TaskSchedule};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct InfiniteLr;

/// Tasks of a stream.
const TASKS: usize = 3;

/// Rates of a stream and their marks, as shares of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rates {
    /// Steps of a task.
    steps: usize,
    /// Peaks of the repeated cosine.
    peaks: Vec<f64>,
    /// Peak of the infinite schedule, and its constants.
    peak: f64,
    constants: Vec<f64>,
    /// Rate at the end of a task.
    last: f64,
    /// Steps of the cosine's warm-up.
    warmup: usize,
}

impl Rates {
    fn cosine(&self, peak: f64) -> RepeatedCosine {
        RepeatedCosine { eta_max: peak, eta_min: self.last, warmup: self.warmup, total: self.steps }
    }

    fn infinite(&self, constant: f64) -> InfiniteSchedule {
        InfiniteSchedule { eta_const: constant, eta_min: self.last, ..InfiniteSchedule::new(self.peak, self.steps) }
    }

    fn check(&self, name: &str) -> Result<()> {
        check_list(&format!("{name}.peaks"), &self.peaks, f64::MIN_POSITIVE..)?;
        check_list(&format!("{name}.constants"), &self.constants, f64::MIN_POSITIVE..)?;
        check_range(&format!("{name}.steps"), self.steps as f64, 20.0..)?;
        for peak in &self.peaks {
            self.cosine(*peak).check()?;
        }
        for constant in &self.constants {
            self.infinite(*constant).check()?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    width: i64,
    depth: usize,
    heads: i64,
    context: usize,
    batch: usize,
    weight_decay: f64,
    clip: f64,
    /// Characters of the generated text.
    characters: usize,
    /// Windows that a loss is measured on.
    windows: usize,
    language: Rates,
    /// Share of a batch that is replayed, and windows that the buffer holds.
    replay: f64,
    buffer: usize,
    /// Length of the annealing from a point of the constant phase, as a share of a task; and the points, as shares of the stream.
    anneal: f64,
    points: Vec<f64>,
    /// The masked autoencoder on images, its batch, training and test images.
    mae: MaeConfig,
    mae_batch: usize,
    images: usize,
    test: usize,
    vision: Rates,
    /// Images, and annealing from points, have this many of the seeds.
    repeated: usize,
}

impl Config {
    fn check(&self) -> Result<()> {
        self.language.check("language")?;
        self.vision.check("vision")?;
        check_list("points", &self.points, f64::MIN_POSITIVE..=1.0)?;
        for (what, value, low) in [
            ("width", self.width as f64, 1.0),
            ("depth", self.depth as f64, 1.0),
            ("heads", self.heads as f64, 1.0),
            ("context", self.context as f64, 1.0),
            ("batch", self.batch as f64, 2.0),
            ("weight_decay", self.weight_decay, 0.0),
            ("clip", self.clip, f64::MIN_POSITIVE),
            ("characters", self.characters as f64, 2000.0),
            ("windows", self.windows as f64, 1.0),
            ("buffer", self.buffer as f64, 1.0),
            ("mae_batch", self.mae_batch as f64, 1.0),
            ("images", self.images as f64, 100.0),
            ("test", self.test as f64, 100.0),
            ("repeated", self.repeated as f64, 1.0),
        ] {
            check_range(what, value, low..)?;
        }
        check_range("replay", self.replay, f64::MIN_POSITIVE..0.9)?;
        if !self.language.peaks.contains(&self.language.peak) {
            let peaks = &self.language.peaks;
            return Err(
                Error::value("language.peak", format!("one of language.peaks {peaks:?}"), self.language.peak).into()
            );
        }
        check_range("anneal", self.anneal, f64::MIN_POSITIVE..=1.0)?;
        // The constant phase has begun where annealing starts.
        let begun = self.language.infinite(self.language.constants[0]).cooldown_end;
        let first = self.points.iter().fold(1.0f64, |m, p| m.min(*p));
        Ok(check_range("first of points, in steps", first * (TASKS * self.language.steps) as f64, begun as f64..)?)
    }

    /// The constant rate of arms that have one only.
    fn middle(&self) -> f64 {
        self.language.constants[self.language.constants.len() / 2]
    }

    /// The peak of arms that have one only: that of the infinite schedule.
    fn peak(&self) -> f64 {
        self.language.peak
    }

    /// Steps before annealing from a point of the stream; and with it.
    fn point(&self, share: f64) -> (usize, usize) {
        let before = (share * (TASKS * self.language.steps) as f64).round() as usize;
        (before, before + (self.anneal * self.language.steps as f64).round() as usize)
    }
}

/// What a stream is trained with.
#[derive(Debug, Clone, Copy)]
enum Training {
    Cosine(f64),
    Infinite(f64, Resume),
    /// All tasks' data mixed, one cosine.
    Joint,
    /// The infinite schedule with the middle constant up to a share of the stream, then annealing.
    AnnealedAt(f64),
    /// One cosine over a share of the stream and the annealing, from a peak.
    FullRun(f64, f64),
}

#[derive(Debug, Clone, Copy)]
struct Arm {
    training: Training,
    replay: bool,
}

fn cosine_arm(peak: f64) -> String {
    format!("cosine/{peak}")
}

fn infinite_arm(constant: f64) -> String {
    format!("infinite/{constant}")
}

const ANNEALED: &str = "infinite/from annealed";
const REPLAY_COSINE: &str = "replay/cosine";
const REPLAY_INFINITE: &str = "replay/infinite";
const JOINT: &str = "joint";

fn annealed_arm(share: f64) -> String {
    format!("annealed at/{share}")
}

fn full_run_arm(share: f64, peak: f64) -> String {
    format!("full run to/{share}/{peak}")
}

fn vision_arm(arm: &str) -> String {
    format!("images/{arm}")
}

/// Arms of the language model that run at all seeds, and those that run at some.
fn language_arms(config: &Config) -> [Vec<(String, Arm)>; 2] {
    let plain = |training| Arm { training, replay: false };
    let rates = &config.language;
    let infinite = Training::Infinite(config.middle(), Resume::PreAnneal);
    let mut all: Vec<(String, Arm)> =
        rates.peaks.iter().map(|p| (cosine_arm(*p), plain(Training::Cosine(*p)))).collect();
    all.extend(rates.constants.iter().map(|c| (infinite_arm(*c), plain(Training::Infinite(*c, Resume::PreAnneal)))));
    all.extend([
        (ANNEALED.to_owned(), plain(Training::Infinite(config.middle(), Resume::Annealed))),
        (REPLAY_COSINE.to_owned(), Arm { training: Training::Cosine(config.peak()), replay: true }),
        (REPLAY_INFINITE.to_owned(), Arm { training: infinite, replay: true }),
        (JOINT.to_owned(), plain(Training::Joint)),
    ]);
    let each = |&share: &f64| {
        let full = rates.peaks.iter().map(move |p| (full_run_arm(share, *p), plain(Training::FullRun(share, *p))));
        std::iter::once((annealed_arm(share), plain(Training::AnnealedAt(share)))).chain(full)
    };
    [all, config.points.iter().flat_map(each).collect()]
}

fn vision_arms(config: &Config) -> Vec<(String, Training)> {
    let cosine = config.vision.peaks.iter().map(|p| (vision_arm(&cosine_arm(*p)), Training::Cosine(*p)));
    let infinite = (config.vision.constants.iter())
        .map(|c| (vision_arm(&infinite_arm(*c)), Training::Infinite(*c, Resume::PreAnneal)));
    cosine.chain(infinite).collect()
}

/// Losses of the language model on its texts (nats per character), by task; and those that settings are chosen by.
const LOSS: [&str; TASKS] = ["loss on A (nats)", "loss on B (nats)", "loss on A' (nats)"];
const HELD_OUT: [&str; TASKS] =
    ["held-out loss on A (nats)", "held-out loss on B (nats)", "held-out loss on A' (nats)"];
/// Loss on A in the first steps of B.
const SWITCH: &str = "loss on A after the switch (nats)";
/// Accuracies of the autoencoder's features (percent).
const PROBE: &str = "linear probe (%)";
const HELD_OUT_PROBE: &str = "held-out linear probe (%)";
const NEIGHBOURS: &str = "nearest neighbours (%)";

impl Experiment for InfiniteLr {
    fn slug(&self) -> &'static str {
        "infinite-lr"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "The infinite schedule beats repeated cosines in continual pre-training",
                "masked autoencoders: less forgetting, better probes; with replay too; figures not seen",
                "Language: final loss, mean over A and B, best cosine minus best infinite (each schedule's rate chosen on held-out text), paired by seed: the 95 % interval is above 0; partly if only at the same peak (the highest). Images: linear probe on all classes after the last task, best infinite minus best cosine, likewise above 0. Reproduced if both, partly if one.",
            ),
            Claim::new(
                "C2",
                "It still does at larger scale and for larger language models",
                "figures not seen",
                "Needs models of hundreds of millions of parameters: not tested.",
            ),
            Claim::new(
                "C3",
                "Warming up again is what makes repeated cosines forget",
                "figure",
                "At the highest peak the largest loss on A in the first tenth of B (looked at six times), cosine minus infinite, paired by seed: the 95 % interval is above 0.",
            ),
            Claim::new(
                "C4",
                "No horizon has to be fixed: annealing from any point of the constant phase gives a good model",
                "figure",
                "Annealing over a fifth of a task from 25, 50, 75 and 100 % of the stream ends at most 0.02 nats (mean over seeds, A and B, of which at 25 % only A has been seen) above a cosine run planned for that length on the same data, at the best of its peaks on held-out text. Partly if at most of the points.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["grammar", "tinyshakespeare"]
    }

    fn further_datasets(&self, dataset: &str) -> &'static [&'static str] {
        if dataset == "grammar" { &["digits"] } else { &["cifar10"] }
    }

    fn seeds(&self, scale: Scale) -> usize {
        if scale == Scale::Smoke { 1 } else { 5 }
    }

    fn config(&self, scale: Scale) -> Value {
        let mut config = Config {
            width: 64,
            depth: 2,
            heads: 4,
            context: 32,
            batch: 16,
            weight_decay: 0.05,
            clip: 1.0,
            characters: 500_000,
            windows: 384,
            language: Rates {
                steps: 600,
                peaks: vec![3e-3, 4e-3, 1e-2],
                peak: 1e-2,
                constants: vec![1.5e-3, 3e-3, 5e-3],
                last: 4e-5,
                warmup: 25,
            },
            replay: 0.1,
            buffer: 500,
            anneal: 0.2,
            points: vec![0.25, 0.5, 0.75, 1.0],
            mae: MaeConfig {
                side: 32,
                patch: 4,
                channels: 3,
                encoder: (64, 4, 4),
                decoder: (32, 1, 4),
                ..MaeConfig::default()
            },
            mae_batch: 64,
            images: 5000,
            test: 2000,
            vision: Rates {
                steps: 260,
                peaks: vec![1e-3, 3e-3],
                peak: 3e-3,
                constants: vec![1e-3, 1.5e-3],
                last: 3e-5,
                warmup: 13,
            },
            repeated: 3,
        };
        match scale {
            Scale::Smoke => {
                (config.width, config.depth, config.characters, config.windows) = (16, 1, 20_000, 16);
                (config.language.steps, config.language.warmup, config.language.peaks) = (30, 2, vec![4e-3, 1e-2]);
                (config.language.constants, config.points) = (vec![3e-3], vec![0.5]);
                config.mae.encoder = (16, 1, 2);
                config.mae.decoder = (16, 1, 2);
                (config.mae_batch, config.images, config.test) = (16, 200, 100);
                (config.vision.steps, config.vision.warmup) = (20, 2);
                (config.vision.peaks, config.vision.constants) = (vec![3e-3], vec![1e-3]);
                config.repeated = 1;
            }
            Scale::Small => {}
            Scale::Full => {
                (config.width, config.depth, config.heads, config.context, config.batch) = (384, 6, 6, 256, 64);
                (config.language.steps, config.language.warmup) = (10_000, 500);
                config.characters = 5_000_000;
                (config.language.peaks, config.language.peak) = (vec![3e-4, 6e-4, 1e-3], 1e-3);
                (config.language.constants, config.language.last) = (vec![1e-4, 3e-4, 5e-4], 1e-5);
                config.mae.encoder = (192, 12, 3);
                config.mae.decoder = (96, 4, 3);
                (config.mae_batch, config.images, config.test) = (256, 50_000, 10_000);
                (config.vision.steps, config.vision.warmup) = (6500, 325);
            }
        }
        json!(config)
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let config: Config = plan.config()?;
        config.check()?;
        let [always, sometimes] = language_arms(&config);
        let names = |arms: &[(String, Arm)]| arms.iter().map(|a| a.0.clone()).collect::<Vec<_>>();
        let mut cells = plan.cross(&names(&always));
        let mut further = names(&sometimes);
        further.extend(vision_arms(&config).into_iter().map(|a| a.0));
        for &seed in plan.seeds.iter().take(config.repeated) {
            cells.extend(further.iter().map(|a| Cell::new(a.as_str(), seed)));
        }
        Ok(cells)
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let config: Config = context.plan.config()?;
        if let Some((_, training)) = vision_arms(&config).into_iter().find(|a| a.0 == cell.arm) {
            return images::run(training, &config, context);
        }
        let arm = language_arms(&config).into_iter().flatten().find(|a| a.0 == cell.arm);
        language::run(&arm.context("an arm that is not there")?.1, &config, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, _plan: &Plan) -> String {
        "The second text is generated word problems. All arms take the same number of steps in a task, the infinite ones' annealing included, though their next task does not inherit it. Each schedule's rate (three peaks of the cosine, three constants of the infinite schedule) is chosen on held-out text or images that the reported numbers do not use. Baselines of continual learning other than replay are in the library, not run here. Replay takes two of the sixteen windows of a batch. Annealing from points of the stream, and images, have the first three seeds.".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_before_anything_runs() {
        let cells = Plan::trial_cells(&InfiniteLr, &[]).unwrap();
        let names: std::collections::BTreeSet<_> = cells.iter().map(|c| &c.arm).collect();
        assert_eq!(names.len(), cells.len(), "every arm comes once");
        let refused = [
            ("language.peaks", json!([]), "language.peaks: expected at least one value"),
            ("language.constants", json!([0.0]), "language.constants: "),
            ("language.steps", json!(3), "language.steps: "),
            ("language.warmup", json!(31), "warm-up: "),
            ("vision.last", json!(0.0), "eta_min: "),
            ("points", json!([1.5]), "points: "),
            ("points", json!([0.01]), "first of points, in steps: "),
            ("replay", json!(1.0), "replay: "),
            ("language.peak", json!(0.5), "language.peak: expected one of language.peaks"),
            ("characters", json!(10), "characters: "),
            ("images", json!(10), "images: "),
        ];
        Plan::assert_refused(&InfiniteLr, &refused);
    }
}
