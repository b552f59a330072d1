//! Fire together, wire together: does it pay to decide for every image which filters are computed, and is the saving known beforehand?
//!
//! A small convolutional network is trained densely; every arm continues from it for the same number of epochs: gates whose heads learn which
//! filters hold the mass of peaks, gates that a regulariser trains, fixed filters, and no pruning at all.

mod judge;
mod train;

use crate::experiment::{Cell, Claim, Experiment, Plan, Scale, check_list};
use crate::plot::Plot;
use crate::results::Results;
use crate::runner::Context;
use crate::verdict::Finding;
use anyhow::{Context as _, Result};
use autodidact_core::Error;
use autodidact_core::error::check_range;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The experiment.
pub struct FireTogether;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    /// Filters of each convolution; 0 is pooling.
    stages: Vec<i64>,
    /// Images are averaged down to this side.
    side: i64,
    /// Training and test images.
    images: (usize, usize),
    /// Images whose peaks tell what a criterion saves.
    estimated: usize,
    batch: usize,
    weight_decay: f64,
    momentum: f64,
    /// Padding of the random crops.
    padding: usize,
    /// Dense training.
    epochs: usize,
    lr: f64,
    /// What follows, of every arm: the network's rate falls by a cosine, that of heads is constant.
    pruning_epochs: usize,
    pruning_lr: f64,
    head_lr: f64,
    /// Share of these epochs in which heads learn.
    cooldown: f64,
    /// Heads say yes to every filter at first; else their weights are fresh.
    open_heads: bool,
    /// Shares of the peaks that are kept; and those that all arms have.
    shares: Vec<f64>,
    compared: Vec<f64>,
    /// Weights of the regulariser.
    lambdas: Vec<f64>,
}

impl Config {
    fn check(&self) -> Result<()> {
        for (what, value, low) in [
            ("side", self.side as f64, 4.0),
            ("training images", self.images.0 as f64, 20.0),
            ("test images", self.images.1 as f64, 20.0),
            ("estimated", self.estimated as f64, 1.0),
            ("batch", self.batch as f64, 2.0),
            ("weight_decay", self.weight_decay, 0.0),
            ("epochs", self.epochs as f64, 1.0),
            ("lr", self.lr, f64::MIN_POSITIVE),
            ("pruning_epochs", self.pruning_epochs as f64, 1.0),
            ("pruning_lr", self.pruning_lr, f64::MIN_POSITIVE),
            ("head_lr", self.head_lr, f64::MIN_POSITIVE),
        ] {
            check_range(what, value, low..)?;
        }
        check_range("momentum", self.momentum, 0.0..1.0)?;
        check_range("cooldown", self.cooldown, 0.0..=1.0)?;
        check_list("stages", &self.stages.iter().map(|s| *s as f64).collect::<Vec<_>>(), 0.0..)?;
        check_list("shares", &self.shares, f64::MIN_POSITIVE..=1.0)?;
        check_list("compared", &self.compared, f64::MIN_POSITIVE..1.0)?;
        check_list("lambdas", &self.lambdas, f64::MIN_POSITIVE..)?;
        if let Some(r) = self.compared.iter().find(|r| !self.shares.contains(r)) {
            return Err(Error::value("compared", format!("some of shares {:?}", self.shares), r).into());
        }
        Ok(())
    }

    /// Shares below 1, for which the saving is estimated.
    fn estimated_shares(&self) -> impl Iterator<Item = f64> {
        self.shares.iter().copied().filter(|r| *r < 1.0)
    }
}

/// What is trained behind the dense network.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Arm {
    /// The dense network as it is, and trained on.
    Dense,
    Continued,
    /// Heads learn which filters hold a share of the peaks: apart from the network, or with it; and either with the paper's softmax.
    Decoupled(f64),
    Joint(f64),
    Softmax(f64),
    JointSoftmax(f64),
    /// Heads learn a fixed share of filters, whose targets save as much as those of a share of the peaks.
    Uniform(f64),
    /// Fixed filters, as many as the decoupled arm of a share has on average: those most often among the targets, or random ones.
    Static(f64),
    Random(f64),
    /// A regulariser trains the gates.
    Regularised(f64),
    /// The targets themselves, without training.
    Oracle(f64),
}

impl Arm {
    fn name(self) -> String {
        match self {
            Arm::Dense => "dense".into(),
            Arm::Continued => "dense, trained on".into(),
            Arm::Decoupled(r) => format!("decoupled/{r}"),
            Arm::Joint(r) => format!("joint/{r}"),
            Arm::Softmax(r) => format!("softmax/{r}"),
            Arm::JointSoftmax(r) => format!("joint softmax/{r}"),
            Arm::Uniform(r) => format!("uniform/{r}"),
            Arm::Static(r) => format!("static/{r}"),
            Arm::Random(r) => format!("random static/{r}"),
            Arm::Regularised(lambda) => format!("regularised/{lambda}"),
            Arm::Oracle(r) => format!("oracle/{r}"),
        }
    }
}

fn arms(c: &Config) -> Vec<Arm> {
    let mut all = vec![Arm::Dense, Arm::Continued];
    all.extend(c.shares.iter().map(|r| Arm::Decoupled(*r)));
    for of in [Arm::Joint, Arm::Softmax, Arm::JointSoftmax, Arm::Uniform, Arm::Static, Arm::Random] {
        all.extend(c.compared.iter().map(|r| of(*r)));
    }
    all.extend(c.lambdas.iter().map(|l| Arm::Regularised(*l)));
    all.extend(c.shares.iter().map(|r| Arm::Oracle(*r)));
    all
}

/// Test accuracy, and the share of multiply-accumulates saved on test images (percent).
const ACCURACY: &str = "test accuracy (%)";
const REDUCTION: &str = "operations saved (%)";
/// What the dense network's peaks on training images say will be saved (percent).
const ESTIMATE: &str = "estimated saving (%)";
/// Decisions of heads that are as the target (percent); filters that are sometimes on and sometimes off; layers that are all off.
const AGREEMENT: &str = "decisions as the target (%)";
const VARIED: &str = "filters that vary (%)";
const EMPTY: &str = "empty masks (%)";
/// How often each filter of each layer is on, and of the last layer for each class, `[C, filters]`.
const FIRING: &str = "firing rates";
const BY_CLASS: &str = "firing rates by class";

impl Experiment for FireTogether {
    fn slug(&self) -> &'static str {
        "fire-together"
    }

    fn version(&self) -> u32 {
        1
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new(
                "C1",
                "At a similar saving dynamic pruning loses less accuracy than static pruning",
                "ResNet-34 at about 50 %: drop 1.59 against 3.54 of ResNet-18",
                "Test accuracy of decoupled minus static (filters most often among the targets, as many of each layer), mean of the compared shares, paired by seed: the 95 % interval is above 0, with savings within 2 points of each other at each share. Partly if the mean is above 0 only, or if that over random static filters has its interval above 0.",
            ),
            Claim::new(
                "C2",
                "The share of peaks that is kept sets the saving, which is known before training",
                "reductions of a table of shares",
                "The saving falls strictly with the share in every seed, and for each share below 1 the mean estimate and the mean saving differ by at most 10 points.",
            ),
            Claim::new(
                "C3",
                "Training heads apart from the network is enough",
                "VGG-16 at about 73 %: 93.19 apart, 92.65 jointly",
                "Test accuracy of joint minus decoupled, mean of the compared shares, paired by seed: the 95 % interval lies within 1.5 points of 0. Not judged if one of these saves less than 5 %, or is right on less than twice as many images as guessing.",
            ),
            Claim::new(
                "C4",
                "Dropping what does not fire on an image (a share of 1) saves without loss",
                "MobileNetV1 on CIFAR-10: 78 % saved, accuracy 91.06 of 90.89",
                "At a share of 1 the mean accuracy is at most 0.5 points below that of the dense network, and of the dense network trained on; something is saved in every seed.",
            ),
            Claim::new(
                "C5",
                "Filters by the mass of their peaks beat a fixed share of filters in every layer",
                "ablation, figures not seen",
                "Test accuracy of decoupled minus uniform, mean of the compared shares, paired by seed: the 95 % interval is above 0, with mean savings within 5 points of each other. Not judged if they are not.",
            ),
            Claim::new(
                "C6",
                "Similar accuracy as other methods at 15 and 24 % higher savings on CIFAR, up to 13 % on ImageNet",
                "table",
                "Needs the paper's networks and those of the other methods: not tested.",
            ),
        ]
    }

    fn datasets(&self) -> &'static [&'static str] {
        &["stroke-glyphs", "cifar10", "digits"]
    }

    fn config(&self, scale: Scale) -> Value {
        let small = Config {
            stages: vec![16, 16, 0, 32, 32, 0, 64, 64],
            side: 16,
            images: (5000, 1000),
            estimated: 1000,
            batch: 64,
            weight_decay: 5e-4,
            momentum: 0.9,
            padding: 2,
            epochs: 20,
            lr: 0.1,
            pruning_epochs: 10,
            pruning_lr: 0.01,
            head_lr: 0.1,
            cooldown: 0.5,
            open_heads: true,
            shares: vec![1.0, 0.95, 0.9, 0.8],
            compared: vec![0.9, 0.8],
            lambdas: vec![0.1, 0.3, 1.0, 3.0],
        };
        json!(match scale {
            Scale::Smoke => Config {
                stages: vec![8, 0, 12],
                side: 8,
                images: (200, 60),
                estimated: 100,
                batch: 32,
                epochs: 2,
                pruning_epochs: 2,
                shares: vec![1.0, 0.8],
                compared: vec![0.8],
                lambdas: vec![1.0],
                ..small
            },
            Scale::Small => small,
            // VGG-16, the official schedule.
            Scale::Full => Config {
                stages: vec![64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0],
                side: 32,
                images: (50_000, 10_000),
                estimated: 5000,
                batch: 128,
                padding: 4,
                epochs: 200,
                pruning_epochs: 200,
                shares: vec![1.0, 0.92, 0.88, 0.85],
                compared: vec![0.92, 0.85],
                ..small
            },
        })
    }

    fn cells(&self, plan: &Plan) -> Result<Vec<Cell>> {
        let c: Config = plan.config()?;
        c.check()?;
        train::check(&c)?;
        Ok(plan.cross(&arms(&c).into_iter().map(Arm::name).collect::<Vec<_>>()))
    }

    fn run(&self, cell: &Cell, context: &mut Context<'_>) -> Result<()> {
        let c: Config = context.plan.config()?;
        let arm = arms(&c).into_iter().find(|a| a.name() == cell.arm).context("an arm that is not there")?;
        train::run(arm, &c, context)
    }

    fn judge(&self, results: &Results) -> Result<Vec<Finding>> {
        judge::findings(results)
    }

    fn plots(&self, results: &Results) -> Result<Vec<Plot>> {
        judge::plots(results)
    }

    fn note(&self, plan: &Plan) -> String {
        let images = match plan.dataset.as_str() {
            "stroke-glyphs" => "Images are generated characters of twenty classes. ",
            _ => "",
        };
        format!(
            "{images}Convolutions of one chain, as VGG's; blocks with a residual path and depthwise convolutions are not built. Heads read the largest value of each channel (as the paper's figure; its code takes the mean), standardised by running statistics in place of the softmax, because in so few epochs a head behind a softmax hardly learns: arms at each compared share have it, apart and joint, with a rate that is as many times larger as there are channels. Heads say yes to every filter at first, as the paper offers: chosen on seed 100 by the mean accuracy of all arms with heads. Every arm continues from the same dense network for the same epochs. Operations are those of convolutions, as in the paper; savings are measured on test images with the heads' own masks, channels that the layer before did not compute count as saved. That joint training is run with the paper's softmax too, beside the criterion's arms, was added when the other had been seen to collapse: behind standardised values its loss outweighs the network's. An empty mask is left empty; the share of these is told. Targets without training use the dense network's batch-norm statistics as they are. The full scale is VGG-16 by the same criteria."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_before_anything_runs() {
        let cells = |changes: &[(&str, Value)]| Plan::trial_cells(&FireTogether, changes);
        let names: Vec<String> = cells(&[]).unwrap().into_iter().map(|c| c.arm).collect();
        let expected = [
            "dense",
            "dense, trained on",
            "decoupled/1",
            "decoupled/0.8",
            "joint/0.8",
            "softmax/0.8",
            "joint softmax/0.8",
            "uniform/0.8",
            "static/0.8",
            "random static/0.8",
            "regularised/1",
            "oracle/1",
            "oracle/0.8",
        ];
        assert_eq!(names, expected);
        let refused = [
            ("stages", json!([]), "stages: expected at least one value"),
            ("stages", json!([0, 8]), "pooling: "),
            ("stages", json!([8, 0, 8, 0, 8, 0, 8, 0]), "side of the images: "),
            ("batch", json!(1), "batch: "),
            ("shares", json!([0.8, 1.5]), "shares: "),
            ("compared", json!([0.9]), "compared: expected some of shares"),
            ("lambdas", json!([]), "lambdas: "),
            ("momentum", json!(1.0), "momentum: "),
            ("cooldown", json!(2.0), "cooldown: "),
        ];
        Plan::assert_refused(&FireTogether, &refused);
    }
}
