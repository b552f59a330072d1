//! One experiment per paper, the runner that does their cells, and the report.
//!
//! An [`Experiment`] declares the paper, its claims with criteria fixed beforehand, and its cells;
//! it reads top to bottom in one file. Everything around the cells (scales, seeds, resume, shards, progress, records,
//! verdicts, plots, the report) is the [`runner`]'s.

pub mod catalog;
pub mod cli;
pub mod experiment;
pub mod plot;
pub mod record;
pub mod report;
pub mod results;
pub mod runner;
pub mod verdict;

mod distill;
mod preference;
mod pretrain;
mod pruning;
mod scaling;
mod signals;
mod ssl;
mod unlearning;
mod vision;

/// What the README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

use experiment::Experiment;

/// All experiments, in the order of the catalogue.
pub fn experiments() -> Vec<&'static dyn Experiment> {
    vec![
        &ssl::BarlowTwins,
        &ssl::GenerativeClassifiers,
        &ssl::Isogclr,
        &ssl::LabelAugmentation,
        &ssl::MixedBarlowTwins,
        &ssl::MultiHeadContrastive,
        &ssl::ProjectionHeads,
        &ssl::RankMe,
        &ssl::ScatSimClr,
        &distill::DatasetDistillationSsl,
        &distill::DualHeadDistillation,
        &distill::LearningFromFuture,
        &distill::ModelExtraction,
        &distill::NormalizedDistillation,
        &distill::RandomTeachers,
        &distill::SelfDistilledPretraining,
        &distill::SmoothTrajectories,
        &distill::TeacherGuidance,
        &preference::Cream,
        &preference::ImplicitPrm,
        &preference::OnlineSelfPreferring,
        &preference::PreferenceDegree,
        &preference::PreferenceLogic,
        &preference::RpoExperiment,
        &preference::SelfCorrectionLearning,
        &preference::SelfRationalization,
        &preference::SrpoExperiment,
        &scaling::LrAnnealingLaw,
        &scaling::AutoregressiveScaling,
        &scaling::Grokking,
        &scaling::ImplicitBiasFlatness,
        &scaling::InductiveBias,
        &scaling::InfiniteLr,
        &scaling::LossReweighting,
        &scaling::ScalingLawEstimation,
        &scaling::TrainingInstabilities,
        &scaling::TranslationScaling,
        &unlearning::FlatExperiment,
        &unlearning::Homeostatic,
        &unlearning::LabelAgnosticForgetting,
        &unlearning::ModelSurgery,
        &pruning::EssentialSparsity,
        &pruning::FireTogether,
        &pruning::ThreeRegimes,
    ]
}
