//! The trainings and what is measured on them.

use super::{
    ADVERSARIAL, CEILING, Config, EARLIER, ENTROPY, EXCESS, FROZEN, GD, HALF, LABELS, PROBE, TRACE, TRACE_ERROR,
};
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::nn::{Gpt, GptConfig};
use autodidact_core::optim::{Adam, Group, Optimizer, Rule, Sgd, Snapshot};
use autodidact_core::schedule::{Decay, Schedule, Shape};
use autodidact_core::seed;
use autodidact_core::train::{TrainConfig, Trainer};
use autodidact_datasets::synthetic::HiddenMarkov;
use autodidact_scaling::implicit_bias_flatness::trace::{fisher_sampled, sampled_log_prob};
use autodidact_scaling::implicit_bias_flatness::{
    BinaryLanguage, Init, Noise, OutputScale, RidgeShots, Training, TwoLayer, adversarial_pretrain, anneal_to_manifold,
    continue_training, frozen_random_features,
};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

/// The earlier state is so many tokens before the last.
pub const BACK: usize = 4;

struct Xor<'a> {
    c: &'a Config,
    language: BinaryLanguage,
    labels: Tensor,
}

impl<'a> Xor<'a> {
    fn new(c: &'a Config, context: &Context<'_>) -> Result<Self> {
        let on = BinaryLanguage::xor(c.bits, c.strength)?;
        let device = context.plan.device;
        let language = BinaryLanguage::new(&on.inputs.to_device(device), &on.probabilities.to_device(device))?;
        let labels = language.xor_labels();
        Ok(Self { c, language, labels })
    }

    fn network(&self, width: i64, scale: OutputScale, context: &Context<'_>) -> Result<TwoLayer> {
        let init = Init { first: self.c.first, second: self.c.second, scale };
        let net = TwoLayer::new(self.c.bits, width, &init, context.seed("init"))?;
        Ok(net.to_device(context.plan.device))
    }

    fn quiet(&self, net: &mut TwoLayer) -> Result<()> {
        let (lr, steps) = (self.c.quiet_lr, self.c.quiet_steps);
        Ok(continue_training(
            net,
            &self.language,
            &Training { noise: Noise::FullBatch, lr, steps, ..Default::default() },
        )?)
    }

    fn anneal(&self, net: &TwoLayer) -> Result<TwoLayer> {
        Ok(anneal_to_manifold(net, &self.language, self.c.quiet_lr, self.c.anneal)?)
    }

    fn measure(&self, net: &TwoLayer, step: usize, context: &mut Context<'_>) -> Result<()> {
        let features = net.features(&self.language.inputs)?;
        let shots = RidgeShots { shots: self.c.shots, draws: self.c.draws, ..Default::default() };
        let all = (&features, &self.labels);
        context.metric(step, EXCESS, net.excess(&self.language)?);
        context.metric(step, TRACE, net.trace(&self.language)?);
        context.metric(step, PROBE, shots.accuracy(all, all, 2, context.seed("probe"))?);
        Ok(())
    }
}

/// An arm of part A.
pub fn xor(arm: &str, c: &Config, context: &mut Context<'_>) -> Result<()> {
    let xor = Xor::new(c, context)?;
    let width = if arm == FROZEN { c.frozen_width } else { c.width };
    let mut net = xor.network(width, OutputScale::Root, context)?;
    if arm == FROZEN {
        let steps = frozen_random_features(&mut net, &xor.language, c.frozen_lr, c.frozen_steps, c.band, 500)?;
        return xor.measure(&net, steps, context);
    }
    if arm == ADVERSARIAL {
        adversarial_pretrain(&mut net, &xor.language, &xor.labels, &c.adversary, c.quiet_lr, c.quiet_steps)?;
        return xor.measure(&xor.anneal(&net)?, 0, context);
    }
    xor.quiet(&mut net)?;
    let (noise, lr) = match arm {
        GD => (Noise::FullBatch, c.lr),
        LABELS => (Noise::Labels, c.lr),
        HALF => (Noise::Minibatch(c.batch), c.lr / 2.0),
        _ => (Noise::Minibatch(c.batch), c.lr),
    };
    let mut done = 0;
    for &step in &c.checkpoints {
        let seed = seed::derive(context.arm_seed("noise"), &[&step.to_string()]);
        let training = Training { noise, lr, steps: step - done, output_only: false, seed };
        continue_training(&mut net, &xor.language, &training)?;
        done = step;
        xor.measure(&xor.anneal(&net)?, step, context)?;
        context.progress(done, c.last(), None);
    }
    Ok(())
}

/// A width of part A under an output scale, after the descent to the manifold.
pub fn width(width: i64, scale: OutputScale, c: &Config, context: &mut Context<'_>) -> Result<()> {
    let xor = Xor::new(c, context)?;
    let mut net = xor.network(width, scale, context)?;
    xor.quiet(&mut net)?;
    xor.measure(&xor.anneal(&net)?, 0, context)
}

struct Decoder<'a> {
    c: &'a Config,
    hmm: HiddenMarkov,
    vs: VarStore,
    model: Gpt,
    pool: Sequences,
    test: Sequences,
}

/// Sequences of one token more than the decoder reads.
struct Sequences {
    inputs: Tensor,
    targets: Tensor,
    /// Mean log-probability of the targets under the language.
    log_prob: f64,
    /// States at the last input and some before it.
    last: Tensor,
    earlier: Tensor,
    /// Share of last states that the exact posterior names.
    ceiling: f64,
}

impl Sequences {
    fn new(hmm: &HiddenMarkov, n: usize, c: &Config, context: &Context<'_>, purpose: &str) -> Result<Self> {
        let drawn = hmm.sample(n, c.length + 1, &mut seed::rng(context.seed("sequences"), &[purpose]))?;
        let (length, device) = (c.length as i64, context.plan.device);
        let inputs = drawn.tokens.narrow(1, 0, length);
        let log_probs = hmm.filter(&drawn.tokens)?.log_probs.narrow(1, 1, length);
        let last = drawn.states.select(1, length - 1);
        let named = hmm.filter(&inputs)?.posterior.argmax(1, false);
        Ok(Self {
            log_prob: log_probs.mean(Kind::Double).double_value(&[]),
            ceiling: named.eq_tensor(&last).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]),
            inputs: inputs.contiguous().to_device(device),
            targets: drawn.tokens.narrow(1, 1, length).contiguous().to_device(device),
            last: last.to_device(device),
            earlier: drawn.states.select(1, length - 1 - BACK as i64).to_device(device),
        })
    }
}

/// A size of part B.
pub fn decoder(width: i64, c: &Config, context: &mut Context<'_>) -> Result<()> {
    let hmm = HiddenMarkov::dirichlet(c.states, c.vocab, c.transition, c.emission, context.seed("language"))?;
    let vs = VarStore::new(context.plan.device);
    seed::seed_torch(context.seed("init"), &["decoder"]);
    let shape = GptConfig::gpt2(c.vocab as i64, c.length as i64, width, c.depth, width / c.head_width);
    let model = Gpt::new(vs.root(), &shape)?;
    let pool = Sequences::new(&hmm, c.pool, c, context, "pool")?;
    let test = Sequences::new(&hmm, c.test, c, context, "test")?;
    let d = Decoder { c, hmm, vs, model, pool, test };
    context.metric(0, ENTROPY, -d.test.log_prob);
    context.metric(0, CEILING, d.test.ceiling);

    let sgd = Rule::Sgd(Sgd { momentum: 0.9, nesterov: false });
    let adam = Schedule::new(c.adam_lr, c.adam_steps, Shape::Constant);
    d.train(Rule::AdamW(Adam::default()), adam, c.adam_batch, "adam", context)?;
    let mut done = 0;
    for &step in &c.sgd_checkpoints {
        if step > done {
            let on = Schedule::new(c.sgd_lr, step - done, Shape::Constant);
            d.train(sgd, on, c.sgd_batch, &format!("sgd until {step}"), context)?;
            done = step;
        }
        // A copy cools down: larger batches at a rate that falls to 0.
        let snapshot = Snapshot::of_parameters(&d.vs);
        let cool = Schedule::new(c.sgd_lr, c.cool_steps, Shape::wsd(1.0, Decay::Linear));
        d.train(sgd, cool, c.cool_batch, "cool down", context)?;
        d.measure(step, context)?;
        tch::no_grad(|| snapshot.restore());
    }
    Ok(())
}

impl Decoder<'_> {
    fn train(&self, rule: Rule, lr: Schedule, batch: usize, name: &str, context: &Context<'_>) -> Result<()> {
        let optimizer = Optimizer::new(rule, vec![Group::all(&self.vs, 0.0)])?;
        // The same sequences for all sizes.
        let config =
            TrainConfig { log_every: 100, ..TrainConfig::new(lr, seed::derive(context.seed("train"), &[name])) };
        let device = context.plan.device;
        let length = self.c.length as i64;
        Trainer::new(config, &self.vs, optimizer)?.run(
            |step| {
                let tokens =
                    self.hmm.sample(batch, self.c.length + 1, &mut step.rng("batch"))?.tokens.to_device(device);
                self.model.loss(&tokens.narrow(1, 0, length), &tokens.narrow(1, 1, length))
            },
            |p| {
                context.progress(p.done, p.total, p.loss);
                Ok(())
            },
        )?;
        Ok(())
    }

    fn measure(&self, step: usize, context: &mut Context<'_>) -> Result<()> {
        let (c, test) = (self.c, &self.test);
        let loss = tch::no_grad(|| self.model.loss(&test.inputs, &test.targets))?.double_value(&[]);
        context.metric(step, EXCESS, loss + test.log_prob);

        let last = c.length as i64 - 1;
        let features =
            |s: &Sequences| tch::no_grad(|| self.model.hidden(&s.inputs, None)).map(|hidden| hidden.select(1, last));
        let (pool, tested) = (features(&self.pool)?, features(test)?);
        let shots = RidgeShots { shots: c.hmm_shots, draws: c.draws, ..Default::default() };
        for (metric, known, truth) in
            [(PROBE, &self.pool.last, &test.last), (EARLIER, &self.pool.earlier, &test.earlier)]
        {
            let accuracy = shots.accuracy((&pool, known), (&tested, truth), c.states as i64, context.seed("probe"))?;
            context.metric(step, metric, accuracy);
        }

        let params = self.vs.trainable_variables();
        let trace = fisher_sampled(&params, c.trace_samples, context.seed("trace"), |i| {
            let logits = self.model.logits(&test.inputs.narrow(0, i as i64, 1), None)?;
            // Positions in turn: every one is as likely.
            sampled_log_prob(&logits.get(0).get((i % c.length) as i64))
        })?;
        context.metric(step, TRACE, trace.value);
        context.metric(step, TRACE_ERROR, trace.standard_error);
        Ok(())
    }
}
