//! One cell: data, teacher, student.

use super::{ACCURACY, Config, Method, OVERHEAD, OVERHEAD_STUDENT, STUDENT_MASS, TEACHER, TEACHER_MASS};
use crate::distill::classifier::{Batch, Data, Net, Network, cached_logits, teacher};
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::Result as CoreResult;
use autodidact_core::optim::{Group, Optimizer, Rule, Sgd};
use autodidact_distill::logits::{kd_cross_entropy, label_smoothing, non_target_log_softmax, non_targets};
use autodidact_distill::normalized_distillation::{
    Nkd, RankScore, Uskd, UskdConfig, kd_decomposition, rank_score, zipf_labels,
};
use std::time::Instant;
use tch::{Kind, Tensor};

/// Share of the steps over which DKD's weight rises: 20 of 240 epochs, as in its own code.
const DKD_WARMUP: f64 = 20.0 / 240.0;

/// The student's loss.
fn objective(method: Method, config: &Config, uskd: Option<&Uskd>, b: &Batch<'_>, t: &Tensor) -> CoreResult<Tensor> {
    let (s, y) = (&b.output.logits, b.y);
    let ce = || s.cross_entropy_for_logits(y);
    let parts = |nkd: Nkd| nkd.forward(s, t, y);
    let gamma = Nkd { gamma: config.gamma, temperature: 1.0 };
    Ok(match method {
        Method::CrossEntropy => ce(),
        Method::LabelSmoothing => label_smoothing(s, y, config.smoothing)?,
        Method::Kd(tau) => (ce() + kd_cross_entropy(s, t, tau)?) / 2.0,
        // At once, its large weight ruins a fresh network.
        Method::Dkd => ce() + config.dkd.forward(s, t, y)?.total * (b.done / DKD_WARMUP).min(1.0),
        Method::Nkd(nkd) => ce() + parts(nkd)?.total,
        Method::Target => ce() + parts(gamma)?.target,
        Method::Normalised => ce() + parts(gamma)?.non_target,
        Method::Unnormalised => {
            let at = y.unsqueeze(1);
            let others = t.softmax(1, Kind::Float).scatter_value(1, &at, 0.0);
            let sum = (others * s.log_softmax(1, Kind::Float)).sum(Kind::Float);
            ce() - sum * (config.gamma / s.size()[0] as f64)
        }
        Method::Uskd(_) => match uskd {
            Some(uskd) => ce() + uskd.forward(&b.output.tap, s, y)?.total,
            None => ce(),
        },
    })
}

/// Trains a student and judges it; logs everything.
pub(super) fn cell(method: Method, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let setting = config.of(&context.plan.dataset);
    let data = Data::load(context.plan, setting)?;
    let teacher = teacher(setting, 0.0, &data, context)?;
    let (size, device) = (data.train.x.size(), context.plan.device);
    let student = Net::new(&setting.student.network, &size, data.classes, device, context.seed("init"))?;
    let uskd = match method {
        Method::Uskd(c) => Some(Uskd::new(student.vs.root() / "uskd", student.tap, data.classes, c)?),
        _ => None,
    };
    let cached = cached_logits(setting, &teacher, &data);
    let watched = std::cell::Cell::<Option<(Tensor, Tensor, Tensor)>>::default();
    let checkpoint = context.checkpoint_every(1000);
    let history = student.train(
        &setting.student,
        &data,
        context.seed("order"),
        Some(checkpoint),
        |batch| {
            let t = match &cached {
                Some(logits) => logits.index_select(0, batch.index),
                None => teacher.logits(batch.x),
            };
            let loss = objective(method, config, uskd.as_ref(), batch, &t)?;
            if batch.epoch_ends {
                watched.set(Some((batch.output.logits.detach(), t, batch.y.shallow_clone())));
            }
            Ok(loss)
        },
        |p| {
            context.progress(p.done, p.total, p.loss);
            if let Some((s, t, y)) = watched.take() {
                let parts = kd_decomposition(&s, &t, &y)?;
                p.log(STUDENT_MASS, parts.student_mass)?;
                p.log(TEACHER_MASS, parts.teacher_mass)?;
                for (name, value) in [("target", parts.target), ("non-target", parts.non_target), ("mass", parts.mass)]
                {
                    p.log(&format!("{name} part of KD"), value)?;
                }
            }
            Ok(())
        },
    )?;
    context.log(&history);
    let steps = history.losses.last().map_or(0, |p| p.step + 1);
    context.metric(steps, ACCURACY, student.accuracy(&data.test)?);
    context.metric(steps, TEACHER, teacher.accuracy(&data.test)?);
    if let Some(uskd) = &uskd {
        by_rank(&student, uskd, &teacher, &data, config.uskd, context)?;
    }
    Ok(())
}

/// Soft non-target labels of student and teacher on test images, both by the teacher's rank; means over images.
fn by_rank(
    student: &Net,
    uskd: &Uskd,
    teacher: &Net,
    data: &Data,
    config: UskdConfig,
    context: &mut Context<'_>,
) -> Result<()> {
    let part = data.test.slice(0, data.test.len().min(1000));
    let at = part.y.unsqueeze(1);
    let out = tch::no_grad(|| student.forward(&part.x, false));
    let scores = rank_score(&out.logits, &uskd.weak_logits(&out.tap), &at, RankScore::Probability)?;
    let zipf = zipf_labels(&scores, &at, config.zipf_exponent)?;
    let (sorted, order) = non_target_log_softmax(&teacher.logits(&part.x), &part.y, 1.0)?.exp().sort(1, true);
    let own = zipf.gather(1, &non_targets(&part.y, data.classes), false).gather(1, &order, false);
    for (name, x) in [("soft labels by rank", own), ("teacher by rank", sorted)] {
        context.array(name, x.mean_dim([0i64].as_slice(), false, Kind::Double).try_into()?);
    }
    Ok(())
}

/// What USKD adds to the time of a training step: of ResNet-18 on images of 32x32, and of the student.
pub(super) fn cost(config: &Config, context: &mut Context<'_>) -> Result<()> {
    let setting = config.of(&context.plan.dataset);
    let data = Data::load(context.plan, setting)?;
    let mut image = data.train.x.size();
    for (metric, network, size) in [
        (OVERHEAD, Network::Resnet18, vec![32, 3, 32, 32]),
        (OVERHEAD_STUDENT, setting.student.network.clone(), {
            image[0] = setting.student.batch as i64;
            image.clone()
        }),
    ] {
        let net = Net::new(&network, &size, data.classes, context.plan.device, context.seed("init"))?;
        let uskd = Uskd::new(net.vs.root() / "uskd", net.tap, data.classes, config.uskd)?;
        let mut optimizer = Optimizer::new(Rule::Sgd(Sgd::default()), vec![Group::all(&net.vs, 5e-4)])?;
        let x = Tensor::randn(&size[..], (Kind::Float, context.plan.device));
        let y = Tensor::randint(data.classes, [size[0]], (Kind::Int64, context.plan.device));
        let mut step = |with: bool| -> Result<f64> {
            let start = Instant::now();
            optimizer.zero_grad();
            let out = net.forward(&x, true);
            let mut loss = out.logits.cross_entropy_for_logits(&y);
            if with {
                loss += uskd.forward(&out.tap, &out.logits, &y)?.total;
            }
            loss.backward();
            optimizer.step(1e-3)?;
            // Reading the loss waits for the device.
            anyhow::ensure!(loss.double_value(&[]).is_finite(), "the loss is not finite");
            Ok(start.elapsed().as_secs_f64())
        };
        // The first steps find memory and kernels.
        for with in [false, true] {
            step(with)?;
        }
        let mut times = [vec![], vec![]];
        for _ in 0..config.timed {
            times[0].push(step(false)?);
            times[1].push(step(true)?);
        }
        let [without, with] = times.map(|t| autodidact_core::stats::median(&t));
        context.metric(0, metric, 100.0 * (with / without - 1.0));
    }
    Ok(())
}
