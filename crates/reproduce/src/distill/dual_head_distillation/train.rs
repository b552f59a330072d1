//! One cell: a student under a method, and what its gradients and features do.

use super::{
    ABOVE, ACCURACY, Arm, BACKBONE_CONFLICTS, BACKBONE_COSINE, Config, DIVERGED, EDGE, HEAD_CONFLICTS, HEAD_COSINE,
    LogitLoss, MARGINS, Method, NC1, SCALE, TEACHER, VALIDATION,
};
use crate::distill::classifier::{Batch, Data, Net, Output, Training, cached_logits, teacher};
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::optim::sorted_trainables;
use autodidact_core::train::History;
use autodidact_core::{Error, Result as CoreResult};
use autodidact_distill::dual_head_distillation::{
    AuxHead, GradientAligner, binary_kl, binary_kl_norm, gradient_conflict, neural_collapse,
};
use autodidact_distill::logits::kd_cross_entropy;
use tch::nn::ModuleT;
use tch::{Kind, Tensor};

/// A student with what is dropped after training.
struct Student<'a> {
    net: Net,
    auxiliary: Option<AuxHead>,
    arm: &'a Arm,
    config: &'a Config,
}

impl Student<'_> {
    /// The unweighted losses of a batch: the cross entropy of the classifier, and the logit loss of its head.
    fn losses(&self, out: &Output, y: &Tensor, teacher: &Tensor, train: bool) -> CoreResult<(Tensor, Option<Tensor>)> {
        let own = match &self.auxiliary {
            Some(head) => head.forward_t(&out.features, train),
            None => out.logits.shallow_clone(),
        };
        let loss = match self.arm.method.logits {
            None => None,
            Some(LogitLoss::BinaryKl) => Some(binary_kl(&own, teacher, self.config.tau)?),
            Some(LogitLoss::BinaryKlNorm) => Some(binary_kl_norm(&own, teacher, self.config.tau)?),
            Some(LogitLoss::Kd) => Some(kd_cross_entropy(&own, teacher, self.config.kd_temperature)?),
        };
        Ok((out.logits.cross_entropy_for_logits(y), loss))
    }

    fn objective(&self, b: &Batch<'_>, teacher: &Tensor) -> CoreResult<Tensor> {
        let Method { cross_entropy, logits, align, .. } = self.arm.method;
        let (ce, loss) = self.losses(&b.output, b.y, teacher, true)?;
        Ok(match loss {
            None => ce,
            Some(kd) if logits == Some(LogitLoss::Kd) => (ce + kd) / 2.0,
            Some(loss) if !cross_entropy => loss * self.arm.choice.alpha,
            Some(loss) if align => {
                let loss = loss * self.arm.choice.alpha;
                let (heads, backbone) = self.parameters();
                let aligned = GradientAligner::default().combine(&ce, &loss, &backbone, &heads)?;
                aligned.as_loss(&(ce + loss), backbone.iter().chain(&heads))
            }
            Some(loss) => ce + loss * self.arm.choice.alpha,
        })
    }

    /// Trainable parameters of the heads, and of the backbone.
    fn parameters(&self) -> (Vec<Tensor>, Vec<Tensor>) {
        let is_head = |name: &str| name.starts_with("classifier.") || name.starts_with("aux.");
        let (heads, backbone): (Vec<_>, Vec<_>) =
            sorted_trainables(&self.net.vs).into_iter().partition(|(name, _)| is_head(name));
        let tensors = |named: Vec<(String, Tensor)>| named.into_iter().map(|(_, t)| t).collect();
        (tensors(heads), tensors(backbone))
    }

    /// Logs what gradients and features do on the watched images.
    fn look(&self, watched: &Watched, log: &mut dyn FnMut(&str, f64) -> CoreResult<()>) -> CoreResult<()> {
        let (x, y, teacher) = (&watched.x, &watched.y, &watched.teacher);
        let out = tch::no_grad(|| self.net.forward(x, false));
        let scale = out.logits.abs().mean(Kind::Double).double_value(&[]);
        if !scale.is_finite() {
            // The run ends at the next step whose loss is read.
            return Ok(());
        }
        log(SCALE, scale)?;
        log(NC1, neural_collapse(&out.features, y, &self.net.classifier.ws)?.within)?;
        if !self.arm.method.cross_entropy || self.arm.method.logits.is_none() {
            return Ok(());
        }
        let (head, backbone) = (self.net.classifier.ws.shallow_clone(), self.parameters().1);
        let groups = [vec![head], backbone];
        let mut cosines = vec![];
        for start in (0..x.size()[0]).step_by(self.config.watched_batch) {
            let len = (x.size()[0] - start).min(self.config.watched_batch as i64);
            let part = |t: &Tensor| t.narrow(0, start, len);
            let out = self.net.forward(&part(x), false);
            let (ce, loss) = self.losses(&out, &part(y), &part(teacher), false)?;
            if let Some(loss) = loss {
                cosines.push(gradient_conflict(&ce, &loss, &groups)?);
            }
        }
        let cosines = Tensor::stack(&cosines, 0);
        let conflicts = cosines.lt(0.0).to_kind(Kind::Double);
        let mean = |t: &Tensor, group| t.select(1, group).mean(Kind::Double).double_value(&[]);
        // A head of its own has no gradient of the other loss.
        if self.auxiliary.is_none() {
            log(HEAD_COSINE, mean(&cosines, 0))?;
            log(HEAD_CONFLICTS, mean(&conflicts, 0))?;
        }
        log(BACKBONE_COSINE, mean(&cosines, 1))?;
        log(BACKBONE_CONFLICTS, mean(&conflicts, 1))
    }
}

/// Training images, without augmentation, with the teacher's logits.
struct Watched {
    x: Tensor,
    y: Tensor,
    teacher: Tensor,
}

impl Watched {
    fn new(data: &Data, count: usize, teacher: &Net) -> Self {
        let part = data.train.slice(0, data.train.len().min(count as i64));
        Self { teacher: teacher.logits(&part.x), x: part.x, y: part.y }
    }
}

/// Trains a student and judges it; logs everything.
pub(super) fn cell(arm: &Arm, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let setting = config.of(&context.plan.dataset);
    let outgrown = config.outgrown.as_ref().filter(|_| arm.outgrown);
    let data = Data::load(context.plan, setting)?;
    let validation = Data::validation(context.plan, setting, config.validation)?;
    let teacher = teacher(setting, outgrown.map_or(0.0, |o| o.smoothing), &data, context)?;
    let mut training = Training { lr: arm.choice.lr, ..setting.student.clone() };
    if let Some(outgrown) = outgrown {
        (training.epochs, training.weight_decay) = (outgrown.epochs, 0.0);
    }
    let (size, device) = (data.train.x.size(), context.plan.device);
    let net = Net::new(&training.network, &size, data.classes, device, context.seed("init"))?;
    // After everything else, so that all arms start from the same student.
    let auxiliary = arm.method.head.map(|head| AuxHead::new(net.vs.root() / "aux", net.features, data.classes, head));
    let student = Student { net, auxiliary: auxiliary.transpose()?, arm, config };
    let cached = cached_logits(setting, &teacher, &data);
    let watched = Watched::new(&data, config.watched, &teacher);
    let per_epoch = training.images.min(data.train.len() as usize) / training.batch;
    let checkpoint = context.checkpoint_every(1000);
    let trained = student.net.train(
        &training,
        &data,
        context.seed("order"),
        Some(checkpoint),
        |batch| match &cached {
            Some(logits) => student.objective(batch, &logits.index_select(0, batch.index)),
            None => student.objective(batch, &teacher.logits(batch.x)),
        },
        |p| {
            context.progress(p.done, p.total, p.loss);
            if p.done.is_multiple_of(per_epoch) {
                student.look(&watched, &mut |name, value| p.log(name, value))?;
            }
            Ok(())
        },
    );
    let steps = training.epochs * per_epoch;
    let Some(history) = finished(trained)? else {
        let guessing = 100.0 / data.classes as f64;
        for (name, value) in [(DIVERGED, 1.0), (VALIDATION, guessing), (ACCURACY, guessing)] {
            context.metric(steps, name, value);
        }
        context.metric(steps, TEACHER, teacher.accuracy(&data.test)?);
        return Ok(());
    };
    context.log(&history);
    context.metric(steps, DIVERGED, 0.0);
    context.metric(steps, VALIDATION, student.net.accuracy(&validation)?);
    context.metric(steps, ACCURACY, student.net.accuracy(&data.test)?);
    context.metric(steps, TEACHER, teacher.accuracy(&data.test)?);
    margins(&student, &Watched::new(&data, training.images, &teacher), context, steps)
}

/// A run whose loss was no longer finite is a result too.
fn finished(trained: Result<History>) -> Result<Option<History>> {
    match trained {
        Err(e) if matches!(e.downcast_ref::<Error>(), Some(Error::Diverged { .. })) => Ok(None),
        other => other.map(Some),
    }
}

/// Target logits of the classifier against the teacher's.
fn margins(student: &Student<'_>, seen: &Watched, context: &mut Context<'_>, steps: usize) -> Result<()> {
    let at = seen.y.unsqueeze(1);
    let target = |logits: &Tensor| logits.gather(1, &at, false).to_kind(Kind::Double);
    let margin = target(&student.net.logits(&seen.x)) - target(&seen.teacher);
    context.metric(steps, ABOVE, margin.gt(0.0).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]));
    let bin = (margin.floor().clamp(-EDGE as f64, (EDGE - 1) as f64) + EDGE as f64).to_kind(Kind::Int64).view([-1]);
    let shares = bin.bincount::<Tensor>(None, 2 * EDGE).to_kind(Kind::Double) / seen.y.size()[0] as f64;
    context.array(MARGINS, shares.try_into()?);
    Ok(())
}
