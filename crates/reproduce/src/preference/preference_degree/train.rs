//! Training and evaluation of an arm.

use super::super::garland::{Answer, Evaluation, PairData, Pairs, prompts, spread};
use super::super::language::{Policy, Sequences};
use super::degrees::{Content, Graded, check_premise, draw};
use super::{
    ACCURACY, Alignment, CONFUSION, Config, GOLD_BY_DEGREE, IMPLICIT, LENGTH_ACCURACY, MONOTONE, Method, Regime,
    SPEARMAN, Use, VALIDATION, rewards_at,
};
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::{Error, Result as CoreResult, seed, stats};
use autodidact_datasets::synthetic::Garland;
use autodidact_preference::losses::{PairLogProbs, dpo, ipo};
use autodidact_preference::preference_degree::{DegreeHead, degree_loss, last_states, monotonicity, with_degree};
use autodidact_preference::rpo::{Rpo, SftReduction};
use std::cell::RefCell;
use tch::{Kind, Tensor};

/// Logits of degrees of sequences, `[N, G]`.
fn logits(policy: &Policy, head: &DegreeHead, sequences: &Sequences) -> CoreResult<Tensor> {
    let hidden = policy.model.hidden(&sequences.tokens, None)?;
    head.forward(&last_states(&hidden, &sequences.tokens.not_equal(Garland::PAD))?)
}

pub(super) fn cell(regime: &Regime, method: Method, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let device = context.plan.device;
    check_premise(config.grades, device)?;
    let weights = config.base.weights(context.cell_seed(), context)?;
    let (policy, reference) = (config.base.policy(&weights, device)?, config.base.policy(&weights, device)?);
    let shared = |what: &str, context: &Context<'_>| seed::derive(context.seed(&regime.name), &[what]);
    let pairs = Pairs::of(&reference.model, &regime.pairs, shared("pairs", context), device)?;
    let data = PairData::new(&pairs, &reference.model, device)?;
    let graded = Graded::new(&pairs.chosen, method.content, config.grades, shared("removal", context), device)?;
    // After the policy's own variables, so that it is no part of what is loaded or saved.
    let head = DegreeHead::new(policy.vs.root() / "degree head", policy.model.config().width, config.grades as i64)?;
    // Of their own, so that the pairs' order is the same with and without.
    let draws = RefCell::new(seed::rng(context.seed("degrees"), &[]));
    let removed_reference = graded.sequences.scores(&reference.model)?;
    let loss = |index: &Tensor| -> CoreResult<Tensor> {
        let batch = data.batch(&policy.model, index)?;
        let each = match method.alignment {
            Alignment::Dpo => dpo(&batch.margin()?, config.beta)?,
            Alignment::Ipo => ipo(&batch.margin()?, config.beta)?,
            Alignment::Rpo(eta) => {
                let rpo = Rpo { beta: config.beta, eta, reduction: SftReduction::Sum };
                return Ok(rpo.forward(&batch.policy, &batch.reference, &batch.chosen_lengths)?.total);
            }
        };
        let alignment = each.mean(Kind::Float);
        let usable = graded.usable.index_select(0, index).to_kind(Kind::Float);
        let mean = |each: Tensor| (each * &usable).sum(Kind::Float) / usable.sum(Kind::Float).clamp_min(1.0);
        let count = index.size()[0];
        let draw = |from| draw(&mut draws.borrow_mut(), count, from, config.grades, device);
        match method.removed {
            Use::Nothing => Ok(alignment),
            Use::Degree { gamma, shuffled } => {
                let degrees = draw(0);
                let told = if shuffled { draw(0) } else { degrees.shallow_clone() };
                let logits = logits(&policy, &head, &graded.rows(index, &degrees))?;
                with_degree(&alignment, &mean(degree_loss(&logits, &told)?), gamma)
            }
            Use::Rejected => {
                let degrees = draw(1);
                let rejected = graded.rows(index, &degrees).log_probs(&policy.model)?;
                let place = index * config.grades as i64 + &degrees;
                let policy = PairLogProbs::new(batch.policy.chosen, rejected)?;
                let reference = PairLogProbs::new(batch.reference.chosen, removed_reference.index_select(0, &place))?;
                Ok((alignment + mean(dpo(&policy.margin(&reference)?, config.beta)?)) * 0.5)
            }
        }
    };
    let [asked, kept_out] = [false, true].map(|held_out| spread(&prompts(held_out), config.samples));
    let (order, samples) = (shared("order", context), context.arm_seed("samples"));
    regime.training.minimise(&policy, (regime.pairs.count, order), loss, |done, loss| {
        context.progress(done, regime.training.steps, loss);
        if !regime.evaluations.contains(&done) {
            return Ok(());
        }
        let at = |what: &str| seed::derive(samples, &[what, &done.to_string()]);
        let (model, reference) = (&policy.model, &reference.model);
        let evaluation = Evaluation::of(model, reference, &asked, at("training prompts"), device)?;
        evaluation.log(done, "", context);
        Evaluation::of(model, reference, &kept_out, at("kept out"), device)?.log(done, VALIDATION, context);
        context.array(&rewards_at(done), evaluation.rewards);
        Ok(())
    })?;
    let fresh = fresh_answers(config, &reference, context)?;
    let trained = Trained { policy, reference, head, method, removed: graded, steps: regime.training.steps };
    trained.measure(&fresh, config, context)
}

/// Answers that no training saw.
fn fresh_answers(config: &Config, reference: &Policy, context: &Context<'_>) -> Result<Vec<Answer>> {
    let settings = super::PairSettings { count: config.fresh, tau: 1.0 };
    let pairs = Pairs::of(&reference.model, &settings, context.seed("fresh pairs"), context.plan.device)?;
    Ok(pairs.chosen.into_iter().chain(pairs.rejected).collect())
}

/// What training leaves.
struct Trained {
    policy: Policy,
    reference: Policy,
    head: DegreeHead,
    method: Method,
    /// The training's responses.
    removed: Graded,
    steps: usize,
}

impl Trained {
    /// Degrees and implicit rewards on fresh answers.
    fn measure(&self, answers: &[Answer], config: &Config, context: &mut Context<'_>) -> Result<()> {
        let device = context.plan.device;
        let implicit = |sequences: &Sequences| -> Result<Vec<f64>> {
            let ratio = sequences.scores(&self.policy.model)? - sequences.scores(&self.reference.model)?;
            Ok((ratio * config.beta).to_kind(Kind::Double).try_into()?)
        };
        let plain = Sequences::new(answers.iter().map(|a| &a.sequence), Garland::PAD, device)?;
        let gold: Vec<f64> = answers.iter().map(|a| a.reward).collect();
        context.metric(self.steps, SPEARMAN, stats::spearman(&implicit(&plain)?, &gold)?);
        // The rewards of all arms are measured on the same removals.
        let key = Graded::new(answers, Content::Key, config.grades, 0, device)?;
        let rewards = implicit(&key.sequences)?;
        context.metric(self.steps, MONOTONE, 100.0 * monotonicity(&key.by_response(&rewards)));
        context.array(IMPLICIT, key.by_degree(&rewards));
        context.array(GOLD_BY_DEGREE, key.by_degree(&key.rewards));
        if !matches!(self.method.removed, Use::Degree { .. }) {
            return Ok(());
        }
        // A head is asked about what it was trained on.
        let asked = match self.method.content {
            Content::Key => key,
            other => Graded::new(answers, other, config.grades, context.seed("fresh removal"), device)?,
        };
        let said =
            tch::no_grad(|| Ok::<_, Error>(logits(&self.policy, &self.head, &asked.sequences)?.argmax(-1, false)))?;
        let said: Vec<f64> = said.to_kind(Kind::Double).try_into()?;
        let (grades, all) = (config.grades, asked.by_response(&said));
        let mut confusion = vec![0.0; grades * grades];
        for response in &all {
            for (degree, said) in response.iter().enumerate() {
                confusion[degree * grades + *said as usize] += 100.0 / all.len() as f64;
            }
        }
        let right = (0..grades).map(|d| confusion[d * grades + d]).sum::<f64>() / grades as f64;
        context.metric(self.steps, ACCURACY, right);
        context.metric(self.steps, LENGTH_ACCURACY, 100.0 * asked.accuracy_of_lengths(&self.removed));
        context.array(CONFUSION, confusion);
        Ok(())
    }
}
