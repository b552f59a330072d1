//! Pre-training to answer and, rarely, to review; answers in two turns; training on pairs.

use super::super::language::{Sequences, Supervised, minimise};
use super::model::{Quiz, Vlm, texts};
use super::{Arm, Config, Data};
use crate::runner::Context;
use anyhow::{Result, bail};
use autodidact_core::landscape::state_dict;
use autodidact_core::optim::StateDict;
use autodidact_core::schedule::{Schedule, Shape};
use autodidact_core::train::Step;
use autodidact_core::{Result as CoreResult, seed};
use autodidact_datasets::image::{ImageSet, digits};
use autodidact_datasets::synthetic::VisualQuestion;
use autodidact_preference::losses::PairLogProbs;
use autodidact_preference::self_correction_learning::{
    Corrections, DpoWithSft, Judged, ResponsePair, dpo_with_sft, independent_sample_pairs, run_two_turn,
    self_correction_pairs,
};
use rand::RngExt;
use rand::seq::SliceRandom;
use tch::{Device, Kind, Tensor};

/// Reviewed answers of which pre-training may draw between two refreshes.
const POOL: usize = 128;
/// An entry beside the weights: the steps of pre-training.
const STEPS: &str = "steps of pre-training";
/// Most times that as many questions are asked for independent pairs as for pairs with reviews.
const MOST_ROUNDS: usize = 8;

type Pair = ResponsePair<Vec<i64>>;
type Pairs = Vec<Pair>;

/// Images for pre-training, for making pairs, and for tests: no image is in two.
pub(super) struct Splits {
    pub pretraining: ImageSet,
    pub construction: ImageSet,
    pub test: ImageSet,
}

impl Splits {
    pub fn new(data: &Data, seed: u64) -> Result<Self> {
        let (pretraining, rest) = digits().split(data.pretraining, seed)?;
        let (construction, test) = rest.split(data.construction, seed)?;
        Ok(Self { pretraining, construction, test })
    }
}

/// The base: weights, and steps of its pre-training.
pub(super) struct Base {
    pub weights: StateDict,
    pub steps: f64,
}

/// Pre-trains with a share of reviews at a constant rate, until the answers to new questions about its images are good enough; then the
/// rate falls to 0.
pub(super) fn base(share: f64, config: &Config, splits: &Splits, context: &mut Context<'_>) -> Result<Base> {
    let run = context.seed("pre-training");
    let key = (&config.lm, &config.data, &config.pretraining, (share, config.temperature), run);
    let mut weights = context.shared_tensors("pre-trained base", &key, |context| {
        let device = context.plan.device;
        let vlm = Vlm::new(config.lm, seed::derive(run, &["weights"]), device)?;
        let settings = &config.pretraining;
        let mut rng = seed::rng(run, &["check"]);
        let check = Quiz::draw(&splits.pretraining, settings.checked, &mut rng, device)?;
        let mut lessons = Lessons { splits, share, config, pool: None, next: 0, device };
        let Supervised { steps: most, lr, warmup, weight_decay, .. } = settings.training;
        let mut reached = None;
        let trained = minimise(
            &vlm.policy.vs,
            (Schedule::new(lr, most, Shape::Constant).warmup(warmup), weight_decay, run),
            |step| lessons.loss(&vlm, step, run),
            |done, loss| {
                context.progress(done, most, loss);
                if done.is_multiple_of(settings.every) {
                    let answers = vlm.answers(&check.images, &check.prompts(), 0.0, run)?;
                    if check.accuracy(&answers) >= settings.enough {
                        reached = Some(done);
                        bail!("good enough");
                    }
                }
                Ok(())
            },
        );
        // The way out of training before its last step is an error.
        let steps = match (reached, trained) {
            (Some(done), _) => done,
            (None, done) => done.map(|()| most)?,
        };
        // A model whose rate was never lowered would gain from any further training at a lower one.
        let end = seed::derive(run, &["annealing"]);
        let schedule = Schedule::new(lr, settings.anneal, Shape::cosine_to(0.0)).warmup(settings.anneal / 10);
        minimise(
            &vlm.policy.vs,
            (schedule, weight_decay, end),
            |step| lessons.loss(&vlm, step, end),
            |done, loss| {
                context.progress(done, settings.anneal, loss);
                Ok(())
            },
        )?;
        let steps = steps + settings.anneal;
        let mut all = state_dict(&vlm.policy.vs);
        all.insert(STEPS.to_owned(), Tensor::from_slice(&[steps as f64]));
        Ok(all)
    })?;
    let steps = weights.remove(STEPS).map_or(f64::NAN, |t| t.double_value(&[0]));
    Ok(Base { weights, steps })
}

/// What pre-training shows.
struct Lessons<'a> {
    splits: &'a Splits,
    share: f64,
    config: &'a Config,
    /// Questions with answers of the model of the last refresh.
    pool: Option<(Quiz, Vec<Vec<i64>>)>,
    next: usize,
    device: Device,
}

impl Lessons<'_> {
    /// Mean negative log-probability of what counts in a step's batch.
    fn loss(&mut self, vlm: &Vlm, step: Step, seed: u64) -> CoreResult<Tensor> {
        let settings = &self.config.pretraining;
        if step.index.is_multiple_of(settings.refresh) {
            self.refresh(vlm, seed::derive(seed, &["pool", &step.index.to_string()]))?;
        }
        let (images, text) = self.batch(settings.training.batch, &mut step.rng("lessons"))?;
        Ok(-vlm.token_log_probs(&images, &text)?.sum(Kind::Float) / text.response.sum(Kind::Float))
    }

    fn refresh(&mut self, vlm: &Vlm, seed: u64) -> CoreResult<()> {
        if self.share > 0.0 {
            let quiz = Quiz::draw(&self.splits.pretraining, POOL, &mut seed::rng(seed, &["questions"]), self.device)?;
            let answers = vlm.answers(&quiz.images, &quiz.prompts(), self.config.temperature, seed)?;
            self.pool = Some((quiz, answers));
        }
        Ok(())
    }

    /// Images with single questions, two or three questions about one image, and reviews of the model's own answers, of which only what is true
    /// counts.
    fn batch(&mut self, size: usize, rng: &mut seed::Rng) -> CoreResult<(Tensor, Sequences)> {
        let quiz = Quiz::draw(&self.splits.pretraining, size, rng, self.device)?;
        let mut rows = vec![];
        let mut reviewed = vec![];
        for question in &quiz.questions {
            let kind: f64 = rng.random();
            let mut row = vec![(question.tokens(), false), (question.answer(), true)];
            if let Some((pool, answers)) = self.pool.as_ref().filter(|_| kind < self.share) {
                let at = self.next % POOL;
                self.next += 1;
                let review = VisualQuestion::REVIEW[rng.random_range(0..VisualQuestion::REVIEW.len())];
                let asked = &pool.questions[at];
                row = vec![
                    (asked.tokens(), false),
                    (answers[at].clone(), false),
                    (vec![review], false),
                    (asked.answer(), true),
                ];
                reviewed.push((rows.len() as i64, at as i64));
            } else if kind < self.share + self.config.pretraining.dialogues {
                // Up to three questions, as long as a conversation with three reviews.
                let mut asked = vec![question.operation];
                for _ in 0..rng.random_range(1..=2) {
                    let other = loop {
                        let other = VisualQuestion::draw(question.digits, rng)?;
                        if !asked.contains(&other.operation) {
                            break other;
                        }
                    };
                    asked.push(other.operation);
                    row.extend([(other.tokens(), false), (other.answer(), true)]);
                }
            }
            rows.push(row);
        }
        let mut images = quiz.images;
        if let Some((pool, _)) = self.pool.as_ref().filter(|_| !reviewed.is_empty()) {
            let (to, from): (Vec<i64>, Vec<i64>) = reviewed.into_iter().unzip();
            let [to, from] = [to, from].map(|i| Tensor::from_slice(&i).to_device(self.device));
            images = images.index_copy(0, &to, &pool.images.index_select(0, &from));
        }
        Ok((images, texts(&rows, self.device)?))
    }
}

/// Answers of the base in two turns: the questions, and both answers to each.
pub(super) fn records(
    vlm: &Vlm,
    config: &Config,
    splits: &Splits,
    context: &mut Context<'_>,
) -> Result<(Quiz, Vec<Judged<Vec<i64>>>)> {
    let run = context.seed("two turns");
    let quiz = Quiz::draw(
        &splits.construction,
        config.data.questions,
        &mut seed::rng(run, &["questions"]),
        context.plan.device,
    )?;
    let base = (&config.lm, &config.data, &config.pretraining, config.share);
    let key = (base, config.temperature, run);
    let records = context.shared("answers in two turns", &key, |_| {
        let mut turn = 0;
        let said = run_two_turn(&quiz.prompts(), &VisualQuestion::REVIEW[..1], |contexts| {
            turn += 1;
            vlm.answers(&quiz.images, contexts, config.temperature, seed::derive(run, &["turn", &turn.to_string()]))
        })?;
        let judged = said.into_iter().zip(&quiz.questions).map(|(t, q)| {
            let right = (q.is_right(&t.first), q.is_right(&t.second));
            Judged { first: t.first, second: t.second, right }
        });
        Ok(judged.collect::<Vec<_>>())
    })?;
    Ok((quiz, records))
}

/// The pairs of an arm, in random order, of questions of which a quiz is returned where it is not that of the records.
pub(super) fn pairs(
    arm: Arm,
    vlm: &Vlm,
    records: &[Judged<Vec<i64>>],
    splits: &Splits,
    config: &Config,
    context: &Context<'_>,
) -> Result<(Pairs, Option<Quiz>)> {
    let all = self_correction_pairs(records, Corrections::Both);
    let (mut pairs, quiz) = match arm {
        Arm::Scl { which, .. } => (self_correction_pairs(records, which), None),
        Arm::Sft => (all, None),
        Arm::Independent => {
            let (pairs, quiz) = independent(vlm, splits, all.len(), config, context)?;
            (pairs, Some(quiz))
        }
        Arm::Base | Arm::Share(_) => (vec![], None),
    };
    pairs.shuffle(&mut seed::rng(context.seed("order of pairs"), &[]));
    if let Arm::Scl { portion, .. } = arm {
        pairs.truncate((portion * pairs.len() as f64).ceil() as usize);
    }
    Ok((pairs, quiz))
}

/// As many pairs of two samples without a review, from as many questions about the images of the construction set as it takes.
fn independent(
    vlm: &Vlm,
    splits: &Splits,
    count: usize,
    config: &Config,
    context: &Context<'_>,
) -> Result<(Pairs, Quiz)> {
    let run = context.seed("independent pairs");
    let (mut pairs, mut questions, mut images) = (vec![], vec![], vec![]);
    for round in 0..MOST_ROUNDS {
        let of = |what: &str| seed::derive(run, &[what, &round.to_string()]);
        let mut rng = seed::rng(of("questions"), &[]);
        let quiz = Quiz::draw(&splits.construction, config.data.questions, &mut rng, context.plan.device)?;
        let mut samples: Vec<Vec<(Vec<i64>, bool)>> = vec![vec![]; quiz.questions.len()];
        for side in ["first", "second"] {
            let answers = vlm.answers(&quiz.images, &quiz.prompts(), config.temperature, of(side))?;
            for ((all, answer), question) in samples.iter_mut().zip(answers).zip(&quiz.questions) {
                let right = question.is_right(&answer);
                all.push((answer, right));
            }
        }
        let before = questions.len();
        let more = independent_sample_pairs(&samples).into_iter();
        pairs.extend(more.map(|p| ResponsePair { question: p.question + before, ..p }));
        questions.extend(quiz.questions);
        images.push(quiz.images);
        if pairs.len() >= count {
            break;
        }
    }
    pairs.truncate(count);
    Ok((pairs, Quiz { questions, images: Tensor::cat(&images, 0) }))
}

/// Pairs as tensors: direct answers to the questions, chosen ones first; and the reference's log-probabilities.
struct PairTexts {
    images: Tensor,
    chosen: Sequences,
    rejected: Sequences,
    reference: PairLogProbs,
}

/// Chosen, then rejected answers behind their questions alone: whichever turn an answer came from, it is learnt as a first one.
fn direct_answers(pairs: &[Pair], quiz: &Quiz, device: Device) -> CoreResult<Sequences> {
    let row = |p: &Pair, answer: &[i64]| vec![(quiz.questions[p.question].tokens(), false), (answer.to_vec(), true)];
    let chosen = pairs.iter().map(|p| row(p, &p.chosen));
    let rows: Vec<_> = chosen.chain(pairs.iter().map(|p| row(p, &p.rejected))).collect();
    texts(&rows, device)
}

impl PairTexts {
    fn new(pairs: &[Pair], quiz: &Quiz, reference: &Vlm) -> Result<Self> {
        let device = quiz.images.device();
        let index: Vec<i64> = pairs.iter().map(|p| p.question as i64).collect();
        let images = quiz.images.index_select(0, &Tensor::from_slice(&index).to_device(device));
        let both = direct_answers(pairs, quiz, device)?;
        let reference = PairLogProbs::halves(&reference.scores(&Tensor::cat(&[&images, &images], 0), &both)?)?;
        let count = pairs.len() as i64;
        let half = |from: i64| Sequences {
            tokens: both.tokens.narrow(0, from, count),
            response: both.response.narrow(0, from, count),
        };
        Ok(Self { images, chosen: half(0), rejected: half(count), reference })
    }

    /// Mean changes of the log-probabilities of chosen and rejected answers.
    fn changes(&self, vlm: &Vlm) -> Result<[f64; 2]> {
        let change = |text: &Sequences, reference: &Tensor| -> Result<f64> {
            Ok((vlm.scores(&self.images, text)? - reference).mean(Kind::Double).double_value(&[]))
        };
        Ok([change(&self.chosen, &self.reference.chosen)?, change(&self.rejected, &self.reference.rejected)?])
    }

    /// The loss of an arm on some pairs, `[B]`.
    fn loss(&self, arm: Arm, vlm: &Vlm, index: &Tensor, beta: f64) -> CoreResult<Tensor> {
        let images = self.images.index_select(0, index);
        let (w, l) = (self.chosen.rows(index), self.rejected.rows(index));
        let per_token = |log_probs: &Tensor| -(log_probs / w.lengths());
        let sft_mix = match arm {
            Arm::Sft => return Ok(per_token(&vlm.log_probs(&images, &w)?)),
            Arm::Scl { sft_mix, .. } => sft_mix,
            _ => 0.0,
        };
        let cat = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 0);
        let both = Sequences { tokens: cat(&w.tokens, &l.tokens), response: cat(&w.response, &l.response) };
        let policy = PairLogProbs::halves(&vlm.log_probs(&cat(&images, &images), &both)?)?;
        let rows = |t: &Tensor| t.index_select(0, index);
        let reference = PairLogProbs::new(rows(&self.reference.chosen), rows(&self.reference.rejected))?;
        dpo_with_sft(&policy, &reference, &per_token(&policy.chosen), &DpoWithSft { beta, sft_mix })
    }
}

/// Trains the model on pairs; the changes of log-probability of chosen and rejected answers.
pub(super) fn fine_tune(
    arm: Arm,
    vlm: &Vlm,
    pairs: &[Pair],
    quiz: &Quiz,
    config: &Config,
    context: &mut Context<'_>,
) -> Result<[f64; 2]> {
    if pairs.is_empty() {
        bail!("no question has a right and a wrong answer of the base: there are no pairs; more questions give some");
    }
    // The reference is the model as it comes.
    let data = PairTexts::new(pairs, quiz, vlm)?;
    let training = config.tuning.training(pairs.len());
    let total = training.steps;
    let order = context.seed("order of steps");
    training.minimise(
        &vlm.policy,
        (pairs.len(), order),
        |index| data.loss(arm, vlm, index, config.tuning.beta),
        |done, loss| {
            context.progress(done, total, loss);
            Ok(())
        },
    )?;
    data.changes(vlm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_a_second_turn_are_learnt_as_first_ones() {
        let mut rng = seed::rng(0, &["test"]);
        let quiz = Quiz::draw(&digits(), 2, &mut rng, Device::Cpu).unwrap();
        let question = &quiz.questions[1];
        let (right, wrong) = (question.answer(), vec![VisualQuestion::EOS]);
        // The first answer was wrong, the review's right.
        let pairs = [Pair { question: 1, chosen: right.clone(), rejected: wrong.clone() }];
        let rows = direct_answers(&pairs, &quiz, Device::Cpu).unwrap();
        let tokens: Vec<Vec<i64>> = Vec::try_from(&rows.tokens).unwrap();
        let prompt = question.tokens();
        assert_eq!(tokens[0], [&prompt[..], &right[..]].concat());
        assert_eq!(tokens[1][..prompt.len() + 1], [&prompt[..], &wrong[..]].concat());
        assert!(tokens.iter().flatten().all(|t| !VisualQuestion::REVIEW.contains(t)));
        let counted: Vec<i64> =
            Vec::try_from(rows.response.sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)).unwrap();
        assert_eq!(counted, [right.len() as i64, 1]);
    }
}
