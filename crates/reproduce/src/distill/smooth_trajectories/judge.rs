//! Findings and plots.

use super::{
    ACCURACY, AST, CHANGE, COMPONENTS, COSINE, Config, DISTRIBUTION, DIVERGED, GRADIENT, HELD_OUT, KMEANS, Kind, LOSS,
    MTT, PLAIN_AST, RANDOM, SMOOTH, STEP_SIZE, STRONG, Setting, TRANSFER, rate_arm,
};
use crate::experiment::Scale;
use crate::plot::{Picture, Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::{Result, bail};
use autodidact_core::stats::{self, Estimate};

/// Largest ratio of changes and largest loss of accuracy (points) that C2 allows.
const SLOWER: f64 = 0.7;
const LOSS_OF_ACCURACY: f64 = 1.0;
/// Points that C3 asks for at full scale.
const FULL_GAIN: f64 = 0.5;

/// Classes of either data set.
const CLASSES: usize = 10;

struct Study<'a> {
    results: &'a Results,
    setting: Setting,
}

impl Study<'_> {
    /// A method at the rate with the best mean held-out accuracy.
    fn best(&self, method: &str) -> Result<String> {
        let Some((_, m)) = self.setting.methods().into_iter().find(|(name, _)| *name == method) else {
            bail!("no method {method}")
        };
        self.results.best(self.setting.rates(&m).iter().map(|lr| rate_arm(method, *lr)), HELD_OUT)
    }

    fn values(&self, method: &str, metric: &str) -> Result<Vec<f64>> {
        self.results.values(&self.best(method)?, metric)
    }

    fn mean(&self, method: &str) -> Result<f64> {
        Ok(stats::mean(&self.values(method, ACCURACY)?))
    }

    fn difference(&self, method: &str, baseline: &str, metric: &str) -> Result<Judgement> {
        Ok(verdict::difference(&self.values(method, metric)?, &self.values(baseline, metric)?, 0.0))
    }

    /// Methods with their mean accuracies.
    fn described(&self, methods: &[&str]) -> Result<String> {
        let words = methods.iter().map(|m| Ok(format!("{m} {:.2}", self.mean(m)?))).collect::<Result<Vec<_>>>()?;
        Ok(words.join(", "))
    }

    /// C1.
    fn smoothing_helps(&self) -> Result<Finding> {
        let gain = self.difference(SMOOTH, STRONG, ACCURACY)?;
        let stronger = self.difference(STRONG, MTT, ACCURACY)?;
        let verdict = match gain.verdict {
            Verdict::Reproduced if stronger.verdict == Verdict::Reproduced => Verdict::Partly,
            v => v,
        };
        let note = format!(
            "Points of smooth over strong experts; strong over plain {stronger:+}. Test accuracy (%): {}.",
            self.described(&[MTT, STRONG, SMOOTH])?
        );
        Ok(Finding::new("C1", gain, note).against(self.mean(STRONG)?).verdict(verdict))
    }

    /// C2.
    fn smoother(&self) -> Result<Finding> {
        let of = |kind: Kind, metric: &str| self.results.values(&kind.arm(), metric);
        let (smooth, strong) = (of(Kind::Smooth, CHANGE)?, of(Kind::Strong, CHANGE)?);
        let ratios: Vec<f64> = smooth.iter().zip(&strong).map(|(a, b)| a / b).collect();
        let judged = verdict::ratio(&smooth, &strong, 0.0);
        let loss = stats::mean(&of(Kind::Strong, ACCURACY)?) - stats::mean(&of(Kind::Smooth, ACCURACY)?);
        let parts = [ratios.iter().all(|r| *r <= SLOWER), loss <= LOSS_OF_ACCURACY].map(Verdict::of);
        let verdict = Verdict::all(&parts).with_seeds(ratios.len());
        let each = |metric: &str, digits: usize| -> Result<String> {
            let of = |k: Kind| Ok(format!("{} {:.digits$}", k.name(), self.results.mean(&k.arm(), metric)?));
            Ok(Kind::ALL.into_iter().map(of).collect::<Result<Vec<_>>>()?.join(", "))
        };
        let note = format!(
            "Ratio of the largest squared changes, smooth to strong (geometric mean; largest of a seed {:.2}). Change: {}. Cosine of successive changes: {}. Test accuracy (%): {}.",
            ratios.iter().copied().fold(0.0, f64::max),
            each(CHANGE, 3)?,
            each(COSINE, 2)?,
            each(ACCURACY, 2)?
        );
        Ok(Finding::new("C2", judged, note).against(1.0).verdict(verdict))
    }

    /// C3.
    fn whole_method(&self) -> Result<Finding> {
        let gain = self.difference(AST, MTT, ACCURACY)?;
        let verdict = match gain.or_partly() {
            Verdict::NotJudged => Verdict::NotJudged,
            _ if self.results.plan().scale == Scale::Full && gain.estimate.value >= FULL_GAIN => Verdict::Reproduced,
            Verdict::Reproduced if self.results.plan().scale == Scale::Full => Verdict::Partly,
            v => v,
        };
        let mut others = vec![];
        for method in [DISTRIBUTION, GRADIENT, KMEANS, RANDOM] {
            others.push(format!("over {method} {:+}", self.difference(AST, method, ACCURACY)?));
        }
        let diverged: usize = self
            .results
            .iter()
            .filter(|(_, r)| r.metrics.iter().any(|m| m.metric == DIVERGED && m.value > 0.0))
            .count();
        let note = format!(
            "Points over trajectory matching; {}. Test accuracy (%): {}. Runs that diverged: {diverged}.",
            others.join(", "),
            self.described(&[RANDOM, KMEANS, GRADIENT, DISTRIBUTION, MTT, AST, PLAIN_AST])?
        );
        Ok(Finding::new("C3", gain, note).against(self.mean(MTT)?).verdict(verdict))
    }

    /// C4.
    fn components(&self) -> Result<Finding> {
        let mut helpful = 0;
        let mut words = vec![];
        let mut seeds = 0;
        for component in COMPONENTS {
            let gain = self.difference(component, SMOOTH, ACCURACY)?;
            seeds = gain.estimate.n;
            helpful += usize::from(gain.estimate.value > 0.0);
            words.push(format!("{} {gain:+}", component.trim_start_matches("smooth/")));
        }
        let verdict = match helpful {
            3.. => Verdict::Reproduced,
            2 => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let judged = Judgement { estimate: Estimate::exact(helpful as f64), verdict: verdict.with_seeds(seeds) };
        let note = format!("Components that add to matching with smooth experts; points: {}.", words.join(", "));
        Ok(Finding::new("C4", judged, note))
    }

    /// C5.
    fn transfer(&self) -> Result<Finding> {
        let gain = self.difference(AST, MTT, TRANSFER)?;
        let mut words = vec![];
        for method in [RANDOM, KMEANS, GRADIENT, DISTRIBUTION, MTT, SMOOTH, AST] {
            words.push(format!("{method} {:.2}", stats::mean(&self.values(method, TRANSFER)?)));
        }
        let note = format!("Points of a perceptron. Its test accuracy (%): {}.", words.join(", "));
        let against = stats::mean(&self.values(MTT, TRANSFER)?);
        Ok(Finding::new("C5", gain, note).against(against).verdict(gain.or_partly()))
    }
}

fn study(results: &Results) -> Result<Study<'_>> {
    let config: Config = results.plan().config()?;
    Ok(Study { results, setting: config.of(&results.plan().dataset).clone() })
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let study = study(results)?;
    Ok(vec![study.smoothing_helps()?, study.smoother()?, study.whole_method()?, study.components()?, study.transfer()?])
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let study = study(results)?;
    let n = results.plan().seeds.len();
    let mut changes = vec![];
    for (i, kind) in Kind::ALL.into_iter().enumerate() {
        let series = results.mean_series(&kind.arm(), "change of an epoch")?;
        changes.push(Series::line(format!("{} experts", kind.name()), i, &series));
    }
    let mut bars = vec![];
    for (i, (method, _)) in study.setting.methods().into_iter().enumerate() {
        let (mean, half) = verdict::summary(&study.values(method, ACCURACY)?);
        bars.push((method.to_owned(), mean, half, i));
    }
    let (mut losses, mut accuracies, mut steps, mut starts) = (vec![], vec![], vec![], vec![]);
    for (i, method) in [MTT, STRONG, SMOOTH, COMPONENTS[1], AST].into_iter().enumerate() {
        let arm = study.best(method)?;
        let diverged = results.values(&arm, DIVERGED)?.iter().any(|d| *d > 0.0);
        if diverged {
            continue;
        }
        losses.push(Series::line(method, i, &results.mean_series(&arm, LOSS)?));
        accuracies.push(Series::line(method, i, &results.mean_series(&arm, "accuracy on the way")?));
        steps.push(Series::line(method, i, &results.mean_series(&arm, STEP_SIZE)?));
        let mean = results.mean_array(&arm, "loss by start")?;
        let points: Vec<_> = mean.iter().enumerate().map(|(s, v)| (s as f64, *v)).collect();
        starts.push(Series::line(method, i, &points));
    }
    let mut plots = vec![
        Plot::lines(
            "change",
            "How far an expert moves in an epoch; means over experts and seeds.",
            "epoch",
            "squared change of the parameters",
            changes,
        )
        .log(false, true),
        Plot::bars(
            "accuracy",
            &format!(
                "Test accuracy of networks trained on {} images per class; means of {n} seeds with 95 % intervals.",
                study.setting.per_class
            ),
            "test accuracy (%)",
            bars,
        ),
    ];
    if !losses.is_empty() {
        plots.extend([
            Plot::lines(
                "loss",
                "Matching loss while images are learned; means over seeds.",
                "outer step",
                "matching loss",
                losses,
            )
            .log(false, true),
            Plot::lines(
                "on-the-way",
                "Held-out accuracy of one network trained on the images so far; means over seeds.",
                "outer step",
                "held-out accuracy (%)",
                accuracies,
            ),
            Plot::lines(
                "step-size",
                "The student's learned step size; means over seeds.",
                "outer step",
                "step size",
                steps,
            ),
            Plot::lines(
                "start-epochs",
                "Normalised distance to the target after the student's last step, by start epoch; without perturbation; means over two experts and seeds.",
                "start epoch",
                "normalised distance",
                starts,
            ),
        ]);
    }
    plots.extend(pictures(&study)?);
    Ok(plots)
}

/// The first image of every class, of the first seed.
fn pictures(study: &Study<'_>) -> Result<Option<Plot>> {
    let Setting { side, per_class, .. } = study.setting;
    let mut rows = vec![];
    for method in [RANDOM, KMEANS, GRADIENT, DISTRIBUTION, MTT, STRONG, SMOOTH, AST] {
        let arm = study.best(method)?;
        let seed = study.results.seeds(&arm)[0];
        // There are none of a run that diverged.
        let Ok(values) = study.results.array(&arm, seed, "images") else { continue };
        let image = values.len() / (CLASSES * per_class).max(1);
        let of =
            |class: usize| Picture::of_values(&values[class * per_class * image..][..image], side as usize, -2.0, 2.0);
        rows.push((method.to_owned(), (0..CLASSES).map(of).collect()));
    }
    let caption =
        "One image of each class, first seed; black at 2 standard deviations below the mean, white at 2 above.";
    Ok((!rows.is_empty()).then(|| Plot::pictures("images", caption, rows)))
}
