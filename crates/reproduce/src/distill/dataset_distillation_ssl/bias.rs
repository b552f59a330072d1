//! The gradient through a self-supervised inner problem: sampled augmentations against their average.

use super::sets::Source;
use super::{BIAS_COSINE, BIAS_ERRORS, Setting, TOY};
use crate::runner::Context;
use anyhow::Result;
use autodidact_core::{Result as CoreResult, seed};
use autodidact_distill::distilled_data::{DiffAugment, Drawn, FlatConvNet, FlatConvNetConfig, InnerLoop, unroll};
use autodidact_ssl::barlow_twins::BarlowTwinsLoss;
use tch::{Kind, Tensor};

/// The small network whose outputs are the embedding.
const WIDTH: i64 = 8;
const EMBEDDING: i64 = 16;
const SIDE: i64 = 8;

/// Inner loss `(theta x xi - 1)^2`, `xi` 0.5 or 1.5 alike, outer loss `theta^2/2`: gradients at `x = 1` with the inner loss averaged,
/// and the mean of those with one `xi`, by unrolling to convergence.
fn example() -> CoreResult<[f64; 2]> {
    let inner = InnerLoop { steps: 400, momentum: 0.0, kept: None };
    let gradient = |scales: &[f64]| -> CoreResult<f64> {
        let x = Tensor::from(1f64).set_requires_grad(true);
        let scales = Tensor::from_slice(scales);
        let loss = |_: usize, theta: &Tensor| Ok((theta * &x * &scales - 1.0).square().mean(Kind::Double));
        let path = unroll(&Tensor::from_slice(&[0.1f64]), &Tensor::from(0.2f64), inner, loss)?;
        let outer = path[inner.steps].square().sum(Kind::Double) / 2.0;
        Ok(Tensor::run_backward(&[outer], &[x], false, false)[0].double_value(&[]))
    };
    Ok([gradient(&[0.5, 1.5])?, (gradient(&[0.5])? + gradient(&[1.5])?) / 2.0])
}

pub(super) fn cell(source: &Source, setting: &Setting, context: &mut Context<'_>) -> Result<()> {
    let [exact, sampled] = example()?;
    context.metric(0, TOY, (exact + 0.64).abs().max((sampled + 20.0 / 9.0).abs()));

    let b = &setting.bias;
    let small = |x: &Tensor| x.adaptive_avg_pool2d([SIDE, SIDE]);
    let net = FlatConvNet::new(FlatConvNetConfig {
        channels: source.channels(),
        side: SIDE,
        width: WIDTH,
        depth: 2,
        classes: EMBEDDING,
    })?;
    let rng = &mut seed::rng(context.seed("bias"), &[]);
    let start = net.init(rng, source.train.x.device());
    let images = small(&source.train.x.narrow(0, 0, b.images)).set_requires_grad(true);
    let real = small(&source.held_out.x.narrow(0, 0, b.outer));
    // What the inner network is to reproduce: representations, standardised, the first of them.
    let y = source.held_out_y.narrow(0, 0, b.outer).narrow(1, 0, EMBEDDING.min(source.held_out_y.size()[1]));
    let y = (&y - y.mean_dim([0i64].as_slice(), true, Kind::Float)) / (y.std(false) + 1e-6);
    let step_size = Tensor::from(b.step_size as f32).to_device(images.device());
    let loss = BarlowTwinsLoss::default();
    let augment = DiffAugment::default();
    let mut draw = || augment.draw(Some(b.images), SIDE, rng);
    let views: Vec<[Drawn; 2]> = (0..b.samples).map(|_| Ok([draw()?, draw()?])).collect::<CoreResult<_>>()?;
    // The gradient with respect to the images when the inner loss is the mean over these pairs of views.
    let gradient = |views: &[[Drawn; 2]]| -> CoreResult<Tensor> {
        let path = unroll(&start, &step_size, b.inner, |_, theta| {
            let mut sum: Option<Tensor> = None;
            for [a, b] in views {
                let embed = |d: &Drawn| net.forward(theta, &d.apply(&images)?);
                let part = loss.forward(&embed(a)?, &embed(b)?)?.total / views.len() as f64;
                sum = Some(match sum {
                    Some(sum) => sum + part,
                    None => part,
                });
            }
            Ok(sum.expect("there is a pair of views"))
        })?;
        let predicted = net.forward(&path[b.inner.steps], &real)?.narrow(1, 0, y.size()[1]);
        let outer = (predicted - &y).square().mean(Kind::Float);
        Ok(Tensor::run_backward(&[&outer], &[&images], false, false).swap_remove(0).view(-1).to_kind(Kind::Double))
    };
    let exact = gradient(&views)?;
    let mut all = vec![];
    for (i, pair) in views.chunks(1).enumerate() {
        all.push(gradient(pair)?);
        context.progress(i + 1, b.samples, None);
    }
    let all = Tensor::stack(&all, 0);
    let mean = all.mean_dim([0i64].as_slice(), false, Kind::Double);
    let error = (all.var_dim([0i64].as_slice(), true, false).sum(Kind::Double) / b.samples as f64).sqrt();
    let bias = (&mean - &exact).norm();
    context.metric(0, BIAS_ERRORS, (&bias / error).double_value(&[]));
    context.metric(0, "bias relative to the gradient", (bias / exact.norm()).double_value(&[]));
    let cosine = Tensor::cosine_similarity(&mean.unsqueeze(0), &exact.unsqueeze(0), 1, 1e-12);
    context.metric(0, BIAS_COSINE, cosine.double_value(&[0]));
    Ok(())
}
