//! What a model still knows, and what it says instead.

use super::models::{self, Stage};
use super::task::{Set, Task};
use super::{Config, FORGET, KNOWN, RETAINED, WORLD};
use crate::preference::language::{Sampling, sample};
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::metrics::RougeL;
use autodidact_core::nn::Gpt;
use autodidact_core::stats::{self, mean};
use autodidact_unlearning::tofu::{Losses, auc, forget_quality, min_k, model_utility, privacy_leakage};
use autodidact_unlearning::unlearner::{QuestionAnswer, answer_log_probs, value_accuracy};
use serde::{Deserialize, Serialize};

/// Metrics of a set of questions, which stands behind them.
pub(super) const PROBABILITY: &str = "probability";
pub(super) const ROUGE: &str = "ROUGE-L recall";
pub(super) const TRUTH: &str = "truth ratio";
/// Of greedy answers, and given the true words before the value.
pub(super) const VALUE: &str = "value accuracy";
pub(super) const FORCED: &str = "forced value accuracy";
pub(super) const REFUSED: &str = "refusals";

/// Metrics of a model.
pub(super) const UTILITY: &str = "model utility";
pub(super) const UTILITY_OF_VALUES: &str = "model utility, values for ROUGE";
pub(super) const LOG_P: &str = "log10 p of forget quality";
pub(super) const LEAK: &str = "PrivLeak (%)";
/// Array: logarithms of the statistic that forget quality compares.
pub(super) const STATISTIC: &str = "ln s";

/// Share of the least probable tokens that membership is read off.
const LEAST: f64 = 0.4;

pub(super) fn of(measure: &str, set: &str) -> String {
    format!("{measure}, {set}")
}

/// What forget quality and membership compare with: the model of the same seed that never saw what is forgotten.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Retrained {
    /// Losses per token of each question to forget: of the paraphrase, and of the wrong answers.
    losses: Vec<(f64, Vec<f64>)>,
    auc: Option<f64>,
}

impl Retrained {
    pub fn get(config: &Config, task: &Task, context: &mut Context<'_>) -> Result<Self> {
        let weights = models::weights(Stage::Retain, config, task, context)?;
        let mut stored = config.clone();
        // What comes after the model does not matter.
        (stored.unlearning, stored.rates) = Default::default();
        let key = (context.cell_seed(), stored);
        context.shared("the retain model's answers", &key, |context| {
            let policy = models::with(config, task, &weights, context)?;
            let losses = Probabilities::of(&policy.model, &task.forget)?.losses;
            let losses = losses.into_iter().map(|l| (l.paraphrase, l.perturbed)).collect();
            Ok(Self { losses, auc: membership(&policy.model, task)? })
        })
    }

    fn losses(&self) -> Vec<Losses> {
        let of = |(paraphrase, perturbed): &(f64, Vec<f64>)| Losses {
            paraphrase: *paraphrase,
            perturbed: perturbed.clone(),
        };
        self.losses.iter().map(of).collect()
    }
}

/// How probable answers are.
struct Probabilities {
    /// Losses per token, `a`, of the answers.
    answers: Vec<f64>,
    /// Those of paraphrases and wrong answers.
    losses: Vec<Losses>,
}

impl Probabilities {
    fn of(model: &Gpt, set: &Set) -> Result<Self> {
        let mut rows: Vec<(&[i64], &[i64])> = set.exchanges.iter().map(QuestionAnswer::parts).collect();
        for ((e, paraphrase), perturbed) in set.exchanges.iter().zip(&set.paraphrases).zip(&set.perturbed) {
            rows.extend([paraphrase].into_iter().chain(perturbed).map(|answer| (&e.question[..], &answer[..])));
        }
        let losses: Vec<f64> = answer_log_probs(model, &rows)?.iter().map(|l| -mean(l)).collect();
        let (answers, others) = losses.split_at(set.exchanges.len());
        let mut others = others.iter().copied();
        let each = set.perturbed.iter().map(|wrong| {
            let paraphrase = others.next().unwrap_or(f64::NAN);
            Losses { paraphrase, perturbed: others.by_ref().take(wrong.len()).collect() }
        });
        let losses = each.collect();
        Ok(Self { answers: answers.to_vec(), losses })
    }

    /// Mean of `exp(-a)` of the answers.
    fn plain(&self) -> f64 {
        mean(&self.answers.iter().map(|a| (-a).exp()).collect::<Vec<_>>())
    }
}

/// The area under the curve of the membership attack, where there is something that was never seen.
fn membership(model: &Gpt, task: &Task) -> Result<Option<f64>> {
    if task.holdout.is_empty() {
        return Ok(None);
    }
    let scores = |exchanges: &[QuestionAnswer]| -> Result<Vec<f64>> {
        let rows: Vec<_> = exchanges.iter().map(QuestionAnswer::parts).collect();
        answer_log_probs(model, &rows)?.iter().map(|l| Ok(min_k(l, LEAST)?)).collect()
    };
    Ok(Some(auc(&scores(&task.forget.exchanges)?, &scores(&task.holdout)?)?))
}

/// Greedy answers to a set's questions.
fn answers(model: &Gpt, set: &Set, config: &Config, task: &Task, context: &Context<'_>) -> Result<Vec<String>> {
    let end = task.format.end;
    let how = Sampling { temperature: 0.0, most: config.sampled, end, padding: end };
    let prompts: Vec<Vec<i64>> = set.exchanges.iter().map(|e| e.question.clone()).collect();
    let mut all = vec![];
    // A large model's keys and values take room.
    for part in prompts.chunks(64) {
        all.extend(sample(model, part, &how, 0, context.plan.device)?);
    }
    all.iter().map(|s| task.format.said(&s.response)).collect()
}

/// Share of questions whose value is in the answer; a text without a value is known if all of it is said.
fn told(said: &[String], set: &Set) -> f64 {
    let right = said.iter().zip(&set.questions).filter(|(s, q)| contains(s, q.value.as_ref().unwrap_or(&q.answer)));
    right.count() as f64 / said.len() as f64
}

/// What greedy answers tell of the forget set and of retained questions: for a look on the way.
pub(super) fn tells(model: &Gpt, (config, task): (&Config, &Task), context: &Context<'_>) -> Result<[f64; 2]> {
    let of = |set: &Set| Ok::<_, anyhow::Error>(told(&answers(model, set, config, task, context)?, set));
    Ok([of(&task.forget)?, of(&task.retained)?])
}

/// Whether words stand in a text one after the other.
fn contains(text: &str, words: &str) -> bool {
    format!(" {text} ").contains(&format!(" {words} "))
}

/// Measures a model at a step of its way.
pub(super) fn measure(
    model: &Gpt,
    step: usize,
    retrained: &Retrained,
    (config, task): (&Config, &Task),
    context: &mut Context<'_>,
) -> Result<()> {
    let (mut official, mut of_values) = (vec![], vec![]);
    for (name, set) in [(FORGET, &task.forget), (RETAINED, &task.retained), (KNOWN, &task.known), (WORLD, &task.world)]
    {
        let probabilities = Probabilities::of(model, set)?;
        let said = answers(model, set, config, task, context)?;
        let pairs = || said.iter().zip(&set.questions);
        let share = |n: usize| n as f64 / said.len() as f64;
        let rouge = mean(&pairs().map(|(s, q)| RougeL::of(s, &q.answer, true).recall).collect::<Vec<_>>());
        let value = told(&said, set);
        let each = |of: fn(&Losses) -> autodidact_core::Result<f64>| -> Result<f64> {
            Ok(mean(&probabilities.losses.iter().map(of).collect::<Result<Vec<_>, _>>()?))
        };
        let asked_among_wrong = name == KNOWN || name == WORLD;
        let probability = if asked_among_wrong { normalized(&probabilities)? } else { probabilities.plain() };
        let truth = each(if name == FORGET { Losses::undecided } else { Losses::known })?;
        if name == FORGET {
            let quality = forget_quality(&probabilities.losses, &retrained.losses())?;
            context.metric(step, LOG_P, quality.log10_p());
            let ln = probabilities.losses.iter().map(Losses::ln_statistic);
            context.array(STATISTIC, ln.collect::<Result<_, _>>()?);
        } else {
            official.extend([rouge, probability, truth]);
            of_values.extend([value, probability, truth]);
        }
        for (measure, value) in [
            (PROBABILITY, probability),
            (ROUGE, rouge),
            (TRUTH, truth),
            (VALUE, value),
            (FORCED, value_accuracy(model, &set.exchanges)?),
            (REFUSED, share(said.iter().filter(|s| task.refusals.contains(s)).count())),
        ] {
            context.metric(step, &of(measure, name), value);
        }
    }
    context.metric(step, UTILITY, model_utility(&official)?);
    context.metric(step, UTILITY_OF_VALUES, model_utility(&of_values)?);
    if let (Some(now), Some(before)) = (membership(model, task)?, retrained.auc.filter(|a| *a > 0.0)) {
        context.metric(step, LEAK, privacy_leakage(now, before)?);
    }
    Ok(())
}

/// The answers' share among answers and wrong answers (not paraphrases), mean.
fn normalized(probabilities: &Probabilities) -> Result<f64> {
    let of = |(answer, losses): (&f64, &Losses)| -> Result<f64> {
        let asked = Losses { paraphrase: *answer, perturbed: losses.perturbed.clone() };
        Ok(asked.normalised_probability()?)
    };
    let all = probabilities.answers.iter().zip(&probabilities.losses).map(of).collect::<Result<Vec<_>>>()?;
    Ok(mean(&all))
}

/// How probable retained answers are, and what of them is known (given the true words before): cheap enough for a look on the way.
pub(super) fn kept(model: &Gpt, task: &Task) -> Result<[f64; 2]> {
    let rows: Vec<_> = task.retained.exchanges.iter().map(QuestionAnswer::parts).collect();
    let p: Vec<f64> = answer_log_probs(model, &rows)?.iter().map(|l| stats::mean(l).exp()).collect();
    Ok([mean(&p), value_accuracy(model, &task.retained.exchanges)?])
}
