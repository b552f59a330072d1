//! One method on one task.

use super::{
    AFTER, ALIGNMENT_LOSS, ASR, BEFORE, Config, Method, RELEARN, Rates, Setting, TEST, TEST_F, TEST_R, TRAIN_F,
    TRAIN_R, Task, UNLEARNING_LOSS,
};
use crate::runner::Context;
use anyhow::{Context as _, Result, bail};
use autodidact_core::landscape::{load_state_dict, state_dict};
use autodidact_core::metrics::accuracy;
use autodidact_core::seed;
use autodidact_datasets::image::{ImageSet, digits};
use autodidact_datasets::load_images;
use autodidact_unlearning::baselines::{self, ScrubConfig, Sisa};
use autodidact_unlearning::classifier::{Embedder, Labelled, SmallCnn, SmallCnnConfig, Training, repair_head, train};
use autodidact_unlearning::label_agnostic_forgetting::{DecoderOutput, LafConfig, Losses, Steps, VaeConfig, forget};
use autodidact_unlearning::membership::{Attacker, BoostedStumpsConfig, MembershipAttack, relearn_steps};
use autodidact_unlearning::splits::{Split, class_removal, data_removal, label_noise};
use tch::{Kind, Tensor};

/// The class to forget, and what of which classes.
const CLASS: i64 = 0;
const NOISY: (std::ops::Range<i64>, f64) = (0..5, 0.6);
const REMOVED: (std::ops::Range<i64>, f64) = (5..10, 0.4);
/// Most samples that an attack is fitted to, of either kind.
const ATTACKED: usize = 5000;
/// Test images whose embeddings are drawn.
const DRAWN: i64 = 200;

/// Data of a task.
struct Data {
    /// With the labels that are trained on.
    train: Labelled,
    test: Labelled,
    forget: Labelled,
    remaining: Labelled,
    split: Split,
    network: SmallCnnConfig,
}

impl Data {
    fn load(task: Task, setting: &Setting, context: &Context<'_>) -> Result<Self> {
        let (plan, seed) = (context.plan, context.seed("images"));
        let (n, tested) = setting.images;
        let (train, test) = if plan.dataset == "digits" {
            let (train, rest) = digits().split(n, seed)?;
            let most = tested.min(rest.len());
            (train, rest.subset(most, seed)?)
        } else {
            let (train, test) = load_images(&plan.dataset, plan.data_dir.as_deref(), plan.download)?;
            let (n, tested) = (n.min(train.len()), tested.min(test.len()));
            (train.subset(n, seed)?, test.subset(tested, seed)?)
        };
        let (classes, size) = (train.classes.len() as i64, train.image_size());
        let labelled = |set: &ImageSet| {
            Labelled::new(set.to_float().to_device(plan.device), set.labels.to_device(plan.device), classes)
        };
        let (mut train, test) = (labelled(&train)?, labelled(&test)?);
        let drawn = seed::derive(seed, &["to forget"]);
        let split = match task {
            Task::Class => class_removal(&train.y, CLASS)?,
            Task::Data => data_removal(&train.y, REMOVED.0, REMOVED.1, drawn)?,
            Task::Noise => {
                let (labels, split) = label_noise(&train.y, classes, NOISY.0, NOISY.1, drawn)?;
                train.y = labels;
                split
            }
        };
        let [forget, remaining] = split.rows().map(|rows| train.rows(&rows.to_device(plan.device)));
        let network = SmallCnnConfig {
            channels: size[0],
            side: size[1],
            kernel: setting.kernel,
            filters: [16, 32],
            embedding: setting.embedding,
            hidden: setting.head,
            classes,
        };
        Ok(Self { train, test, forget, remaining, split, network })
    }
}

struct Cell<'a> {
    config: &'a Config,
    setting: &'a Setting,
    task: Task,
    data: Data,
}

pub(super) fn run(task: Task, method: Method, config: &Config, context: &mut Context<'_>) -> Result<()> {
    let setting = config.setting(context.plan);
    let cell = Cell { config, setting, task, data: Data::load(task, setting, context)? };
    cell.run(method, context)
}

impl Cell<'_> {
    fn fresh(&self, context: &Context<'_>, purpose: &str) -> Result<SmallCnn> {
        tch::manual_seed(context.seed(purpose) as i64);
        Ok(SmallCnn::new(&self.data.network, context.plan.device)?)
    }

    fn training(&self, epochs: usize, lr: f64, context: &Context<'_>) -> Training {
        let Config { batch, weight_decay, .. } = *self.config;
        Training { epochs, batch, lr, weight_decay, seed: context.seed("order") }
    }

    fn whole_training(&self, context: &Context<'_>) -> Training {
        self.training(self.setting.epochs, self.setting.lr, context)
    }

    /// A network trained on everything, the same for all methods of a seed.
    fn original(&self, context: &mut Context<'_>) -> Result<SmallCnn> {
        let model = self.fresh(context, "init")?;
        let training = self.whole_training(context);
        // Labels differ for noisy ones only.
        let noisy = self.task == Task::Noise;
        let Setting { images, kernel, embedding, head, .. } = self.setting;
        let key = (
            (noisy, images, kernel, embedding, head),
            (training.epochs, training.batch, training.lr, training.weight_decay),
            (context.seed("images"), context.seed("init"), context.seed("order")),
        );
        let weights = context.shared_tensors("original", &key, |_| {
            train(&model, &self.data.train, &training)?;
            Ok(state_dict(model.store()))
        })?;
        load_state_dict(model.store(), &weights)?;
        Ok(model)
    }

    fn laf(&self, rates: &Rates, method: Method, model: &SmallCnn, context: &Context<'_>) -> Result<Losses> {
        let output = if method == Method::SigmoidDecoder { DecoderOutput::Sigmoid } else { DecoderOutput::Linear };
        let vae = |epochs| {
            let Setting { hidden, latent, .. } = self.setting;
            let training = Training { epochs, batch: self.config.batch, ..VaeConfig::default().training };
            VaeConfig { hidden: hidden.clone(), latent: *latent, output, training, ..VaeConfig::default() }
        };
        let steps = match method {
            Method::UnlearningOnly => Steps::Unlearning,
            Method::AlignmentOnly => Steps::Alignment,
            _ => Steps::Both,
        };
        let Rates { lr_unlearning, lr_alignment, tau, epochs, .. } = *rates;
        let laf = LafConfig {
            epochs,
            batch: self.config.batch,
            lr_unlearning,
            lr_alignment,
            tau,
            steps,
            all: vae(self.setting.vae_epochs.0),
            forget: vae(self.setting.vae_epochs.1),
            seed: context.seed("laf"),
        };
        let Data { train, remaining, forget: gone, .. } = &self.data;
        Ok(forget(model, &train.x, &remaining.x, &gone.x, &laf)?)
    }

    fn run(&self, method: Method, context: &mut Context<'_>) -> Result<()> {
        let Data { forget: gone, remaining, .. } = &self.data;
        let rates = self.setting.rates(self.task);
        if method == Method::Sisa {
            return self.sisa(context);
        }
        if method == Method::Retrain {
            let model = self.fresh(context, "init")?;
            train(&model, remaining, &self.whole_training(context))?;
            return self.report(&|x| model.probabilities(x), Some(&model), context);
        }
        let original = self.original(context)?;
        let model = original.copy()?;
        let Config { baseline_epochs, short_epochs, epsilon, forgetting_epochs, .. } = *self.config;
        let rate = || rates.baselines.get(method.name()).copied().context("a baseline without a rate");
        let with_labels = |epochs| Ok::<_, anyhow::Error>(self.training(epochs, rate()?, context));
        let classes = self.data.network.classes;
        match method {
            Method::Original => {}
            Method::Laf
            | Method::LafRepaired
            | Method::UnlearningOnly
            | Method::AlignmentOnly
            | Method::SigmoidDecoder => {
                let losses = self.laf(rates, method, &model, context)?;
                for (name, loss) in [(UNLEARNING_LOSS, losses.unlearning), (ALIGNMENT_LOSS, losses.alignment)] {
                    for (epoch, value) in loss.into_iter().enumerate() {
                        context.metric(epoch + 1, name, value);
                    }
                }
                if method == Method::LafRepaired {
                    let training = self.training(self.config.repair_epochs, self.config.repair_lr, context);
                    // Remaining samples stand in no order of their own.
                    repair_head(&model, &remaining.first(self.config.labelled), &training)?;
                }
            }
            Method::FineTuning => drop(train(&model, remaining, &with_labels(baseline_epochs)?)?),
            Method::Ascent => drop(baselines::gradient_ascent(&model, gone, &with_labels(short_epochs)?)?),
            Method::RandomLabels => {
                baselines::random_labels(&model, gone, remaining, classes, &with_labels(baseline_epochs)?)?;
            }
            Method::Boundary => {
                baselines::boundary_shrink(&model, gone, epsilon, &with_labels(short_epochs)?)?;
            }
            Method::Unroll => {
                let initial = self.fresh(context, "init")?;
                let tuning = self.training(baseline_epochs, self.setting.lr, context);
                baselines::unroll(&model, &initial, gone, remaining, rate()?, &tuning)?;
            }
            Method::BadTeacher => {
                let ignorant = self.fresh(context, "ignorant")?;
                let training = with_labels(baseline_epochs)?;
                baselines::bad_teacher(&model, [&original, &ignorant], gone, remaining, &training)?;
            }
            Method::Scrub => {
                let scrub = ScrubConfig { forgetting_epochs, ..ScrubConfig::default() };
                baselines::scrub(&model, &original, gone, remaining, &scrub, &with_labels(baseline_epochs)?)?;
            }
            Method::Retrain | Method::Sisa => bail!("done above"),
        }
        if method == Method::Laf && self.task == Task::Class {
            let x = self.data.test.x.narrow(0, 0, DRAWN.min(self.data.test.len() as i64));
            self.draw([&original, &model].map(|m| m.embeddings(&x)), context)?;
        }
        self.report(&|x| model.probabilities(x), Some(&model), context)
    }

    fn sisa(&self, context: &mut Context<'_>) -> Result<()> {
        let training = self.whole_training(context);
        let init = context.seed("init");
        let mut made = 0u64;
        let mut fresh = || {
            made += 1;
            tch::manual_seed(seed::derive(init, &["shard", &made.to_string()]) as i64);
            SmallCnn::new(&self.data.network, self.data.train.x.device())
        };
        let mut sisa = Sisa::train(&self.data.train, self.config.shards, &mut fresh, &training)?;
        sisa.forget(&self.data.train, &self.data.split.forget, &mut fresh, &training)?;
        self.report(&|x| sisa.probabilities(x), None, context)
    }

    /// Accuracies, the membership attack, and how soon the data are learnt again.
    fn report(
        &self,
        probabilities: &dyn Fn(&Tensor) -> Tensor,
        model: Option<&SmallCnn>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let Data { test, forget: gone, remaining, .. } = &self.data;
        let [on_remaining, on_forgotten, on_test] = [remaining, gone, test].map(|d| probabilities(&d.x));
        let percent = |p: &Tensor, y: &Tensor| Ok::<f64, anyhow::Error>(100.0 * accuracy(p, y)?);
        let step = self.setting.rates(self.task).epochs;
        context.metric(step, TRAIN_R, percent(&on_remaining, &remaining.y)?);
        context.metric(step, TRAIN_F, percent(&on_forgotten, &gone.y)?);
        context.metric(step, TEST, percent(&on_test, &test.y)?);
        if self.task == Task::Class {
            for (name, rows) in [(TEST_R, test.y.ne(CLASS)), (TEST_F, test.y.eq(CLASS))] {
                let rows = rows.nonzero().view(-1);
                let part = on_test.index_select(0, &rows);
                context.metric(step, name, percent(&part, &test.y.index_select(0, &rows))?);
            }
        }
        // As many remaining samples as are to be forgotten are known to be members; half of the test images are known not to be.
        let first = |p: &Tensor, n: i64| p.narrow(0, 0, n.min(p.size()[0]).min(ATTACKED as i64));
        let half = on_test.size()[0] / 2;
        let members = first(&on_remaining, gone.len() as i64);
        let attack =
            MembershipAttack::fit(&members, &first(&on_test, half), Attacker::Stumps(BoostedStumpsConfig::default()))?;
        let others = on_test.narrow(0, half, on_test.size()[0] - half);
        context.metric(step, ASR, 100.0 * attack.balanced_accuracy(&on_forgotten, &others)?);
        if let Some(model) = model.filter(|_| self.task == Task::Class) {
            let Config { relearn_lr, relearn_steps: most, .. } = *self.config;
            let training = self.training(1, relearn_lr, context);
            let steps = relearn_steps(&model.copy()?, gone, 0.95, most, &training)?;
            context.metric(step, RELEARN, steps.unwrap_or(most) as f64);
        }
        Ok(())
    }

    /// Embeddings before and after on the first two principal axes of those before.
    fn draw(&self, [before, after]: [Tensor; 2], context: &mut Context<'_>) -> Result<()> {
        let mean = before.mean_dim([0i64].as_slice(), true, Kind::Float);
        let (_, _, v) = (&before - &mean).f_svd(true, true)?;
        let axes = v.narrow(1, 0, 2);
        for (name, e) in [(BEFORE, before), (AFTER, after)] {
            let xy = (e - &mean).matmul(&axes);
            let classes = self.data.test.y.narrow(0, 0, xy.size()[0]).to_kind(Kind::Float).unsqueeze(1);
            let rows = Tensor::cat(&[&xy, &classes], 1).flatten(0, -1).to_kind(Kind::Double);
            context.array(name, Vec::try_from(rows)?);
        }
        Ok(())
    }
}
