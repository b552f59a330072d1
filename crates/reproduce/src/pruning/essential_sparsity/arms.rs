//! The arms, and the names of what they measure.

use super::Config;
use super::corpus::Task;

/// How an encoder was pre-trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pretraining {
    /// Masked tokens of the whole corpus.
    Full,
    /// Of a tenth of it, for as many steps.
    Tenth,
    /// The state of the first symbol, for as many steps.
    Supervised,
    /// As full, without weight decay: only its zeros are looked at.
    NoDecay,
    /// Not at all.
    None,
}

impl Pretraining {
    pub(super) const ALL: [Self; 5] = [Self::Full, Self::Tenth, Self::Supervised, Self::NoDecay, Self::None];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Full => "pretrained",
            Self::Tenth => "a tenth of the data",
            Self::Supervised => "supervised",
            Self::NoDecay => "no decay",
            Self::None => "not pretrained",
        }
    }
}

/// What is removed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pruner {
    Magnitude(f64),
    Random(f64),
    Pattern(i64, i64),
    /// All rounds in one cell.
    Lottery,
}

impl Pruner {
    pub(super) fn name(self) -> String {
        match self {
            Self::Magnitude(s) => format!("magnitude {s}"),
            Self::Random(s) => format!("random {s}"),
            Self::Pattern(n, m) => format!("{n}:{m}"),
            Self::Lottery => "lottery".into(),
        }
    }
}

/// One fine-tuning, or those of a lottery ticket's rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Arm {
    pub(super) pretraining: Pretraining,
    pub(super) task: Task,
    pub(super) pruner: Pruner,
}

impl Arm {
    pub(super) fn name(self) -> String {
        format!("{}/{}/{}", self.pretraining.name(), self.task.name(), self.pruner.name())
    }
}

pub(super) fn arms(config: &Config) -> Vec<Arm> {
    let mut all = vec![];
    let mut push = |pretraining, task, pruner| all.push(Arm { pretraining, task, pruner });
    for task in Task::COPY {
        config.sparsities.iter().for_each(|s| push(Pretraining::Full, task, Pruner::Magnitude(*s)));
        config.random.iter().for_each(|s| push(Pretraining::Full, task, Pruner::Random(*s)));
        config.patterns.iter().for_each(|(n, m)| push(Pretraining::Full, task, Pruner::Pattern(*n, *m)));
        for pretraining in [Pretraining::Tenth, Pretraining::Supervised] {
            let sparsities = [0.0].iter().chain(&config.compared);
            sparsities.for_each(|s| push(pretraining, task, Pruner::Magnitude(*s)));
        }
        [0.0, config.compared[0]].iter().for_each(|s| push(Pretraining::None, task, Pruner::Magnitude(*s)));
    }
    config.control.iter().for_each(|s| push(Pretraining::Full, Task::State, Pruner::Magnitude(*s)));
    config.random.iter().for_each(|s| push(Pretraining::Full, Task::State, Pruner::Random(*s)));
    push(Pretraining::None, Task::State, Pruner::Magnitude(0.0));
    push(Pretraining::Full, Task::Medium, Pruner::Lottery);
    all
}

pub(super) fn zeros_arm(pretraining: Pretraining) -> String {
    format!("zeros/{}", pretraining.name())
}

pub(super) const ACCURACY: &str = "accuracy (%)";
/// Of lottery tickets, by round.
pub(super) const ROUND_ACCURACY: &str = "accuracy by round (%)";
pub(super) const COSINE: &str = "cosine with one-shot masks";

pub(super) fn zeros_metric(tau: f64) -> String {
    format!("share of weights below {tau} initial deviations")
}

/// Array: densities of the matrices, a value each, at this sparsity.
pub(super) const LAYERS: &str = "densities";
pub(super) const LAYERS_AT: f64 = 0.215;
