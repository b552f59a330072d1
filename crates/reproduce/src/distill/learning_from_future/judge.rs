//! Findings and plots.

use super::train::{PICTURES, test_start};
use super::{
    COMPUTE, Config, DEEP, EARLY, FEW, FEW_DEEP, FEW_ST, FST, LABELS, LearningFromFuture, NAIVE, NETS, RESTORED,
    SOURCE, SPEED, Study, WIDE, st_arm, test, validation,
};
use crate::experiment::Experiment;
use crate::plot::{Picture, Plot, Series};
use crate::results::Results;
use crate::verdict::{self, Finding, Judgement, Verdict};
use anyhow::Result;
use autodidact_core::{seed, stats};
use autodidact_datasets::image::{SCENE_CLASSES, scenes};

struct Judge<'a> {
    results: &'a Results,
    config: Config,
}

impl Judge<'_> {
    /// Student or teacher: the one with the higher mean on validation scenes.
    fn net(&self, arm: &str) -> Result<&'static str> {
        let [student, teacher] = NETS;
        let mean = |net| self.results.mean(arm, &validation(net));
        Ok(if mean(teacher)? > mean(student)? { teacher } else { student })
    }

    /// Test mIoU of that network, by seed.
    fn scores(&self, arm: &str) -> Result<Vec<f64>> {
        self.results.values(arm, &test(self.net(arm)?))
    }

    fn mean(&self, arm: &str) -> Result<f64> {
        Ok(stats::mean(&self.scores(arm)?))
    }

    fn difference(&self, arm: &str, baseline: &str) -> Result<Judgement> {
        Ok(verdict::difference(&self.scores(arm)?, &self.scores(baseline)?, 0.0))
    }

    /// Plain self-training at the decay with the best validation.
    fn st(&self) -> Result<String> {
        let mut best = (f64::NEG_INFINITY, String::new());
        for momentum in &self.config.momenta {
            let arm = st_arm(*momentum);
            let mean = self.results.mean(&arm, &validation(self.net(&arm)?))?;
            if mean > best.0 || best.1.is_empty() {
                best = (mean, arm);
            }
        }
        Ok(best.1)
    }

    /// Arms with their better networks and means.
    fn described(&self, arms: &[&str]) -> Result<String> {
        let words = arms.iter().map(|a| Ok(format!("{a} {:.2} ({})", self.mean(a)?, self.net(a)?)));
        Ok(words.collect::<Result<Vec<_>>>()?.join(", "))
    }

    /// C1.
    fn beats(&self) -> Result<Finding> {
        let st = self.st()?;
        let gain = self.difference(DEEP, &st)?;
        let controls = [("teacher speed", SPEED), ("compute", COMPUTE)];
        let mut explained = vec![];
        for (name, arm) in controls {
            if self.mean(arm)? >= self.mean(DEEP)? {
                explained.push(name);
            }
        }
        let verdict = match gain.verdict {
            Verdict::Reproduced if !explained.is_empty() => Verdict::Partly,
            v => v,
        };
        let controls = if explained.is_empty() {
            "Neither control reaches FST-D.".to_owned()
        } else {
            format!("ST reaches FST-D by: {}.", explained.join(", "))
        };
        let over = |arm: &str| -> Result<String> { Ok(format!("{arm} {:+}", self.difference(DEEP, arm)?)) };
        let note = format!(
            "Points of mIoU of FST-D over {st}; over {}, {}, {}. {controls} mIoU (%): {}.",
            over(SPEED)?,
            over(COMPUTE)?,
            over(SOURCE)?,
            self.described(&[SOURCE, &st, SPEED, COMPUTE, FST, DEEP, WIDE, RESTORED])?,
        );
        Ok(Finding::new("C1", gain, note).against(self.mean(&st)?).verdict(verdict))
    }

    /// C2.
    fn few(&self) -> Result<Finding> {
        let gain = self.difference(FEW_DEEP, FEW_ST)?;
        let note = format!(
            "Points of mIoU of FST-D over ST with {} labelled scenes. mIoU (%): {}.",
            self.config.few,
            self.described(&[FEW, FEW_ST, FEW_DEEP])?
        );
        Ok(Finding::new("C2", gain, note).against(self.mean(FEW_ST)?).verdict(gain.or_partly()))
    }

    /// C3.
    fn labels(&self) -> Result<Finding> {
        let st = self.st()?;
        let early = |arm: &str| self.results.values(arm, EARLY);
        let (deep, plain) = (early(DEEP)?, early(&st)?);
        let gain = verdict::difference(&deep, &plain, 0.0);
        let ahead = deep.iter().zip(&plain).filter(|(d, p)| d > p).count();
        let verdict = match gain.estimate.value {
            _ if ahead == deep.len() => Verdict::Reproduced,
            mean if mean > 0.0 => Verdict::Partly,
            _ => Verdict::NotReproduced,
        };
        let mut each = vec![];
        for arm in [st.as_str(), SPEED, COMPUTE, FST, DEEP, WIDE, NAIVE] {
            each.push(format!("{arm} {:.2}", stats::mean(&early(arm)?)));
        }
        let note = format!(
            "Points of labelled pixels over {st}; FST-D is ahead in {ahead} of {} seeds. Accuracy (%): {}.",
            deep.len(),
            each.join(", ")
        );
        Ok(Finding::new("C3", gain, note).against(stats::mean(&plain)).verdict(verdict.with_seeds(deep.len())))
    }

    /// C4.
    fn depth(&self) -> Result<Finding> {
        let st = self.st()?;
        let (deep, one, plain) = (self.mean(DEEP)?, self.mean(FST)?, self.mean(&st)?);
        let gain = self.difference(DEEP, FST)?;
        let verdict = match (deep >= one, one >= plain) {
            (true, true) => Verdict::Reproduced,
            (false, false) => Verdict::NotReproduced,
            _ => Verdict::Partly,
        };
        let note = format!(
            "Points of mIoU of {} steps over one; of one over none {:+}; of FST-W over none {:+}. mIoU (%): {}.",
            self.config.steps,
            self.difference(FST, &st)?,
            self.difference(WIDE, &st)?,
            self.described(&[&st, FST, DEEP, WIDE])?
        );
        Ok(Finding::new("C4", gain, note).against(one).verdict(verdict.with_seeds(self.scores(DEEP)?.len())))
    }

    /// C5.
    fn average(&self) -> Result<Finding> {
        let gain = self.difference(FST, NAIVE)?;
        let note = format!(
            "Points of mIoU of FST over the variant whose teacher is the virtual student. mIoU (%): {}.",
            self.described(&[NAIVE, FST])?
        );
        Ok(Finding::new("C5", gain, note).against(self.mean(NAIVE)?).verdict(gain.or_partly()))
    }

    /// Validation mIoU of the better networks, with `x` times the iterations.
    fn curves(&self, arms: &[&str], by_updates: bool) -> Result<Vec<Series>> {
        let mut all = vec![];
        for (i, arm) in arms.iter().enumerate() {
            let method = self.config.method(arm)?;
            let factor = if by_updates { (method.variant.passes() * method.updates) as f64 } else { 1.0 };
            let net = self.net(arm)?;
            let points = self.results.mean_series(arm, &validation(net))?;
            let points: Vec<_> = points.into_iter().map(|(x, y)| (x * factor, y)).collect();
            all.push(Series::line(format!("{arm} ({net})"), i, &points));
        }
        Ok(all)
    }

    /// Scenes, their masks, and what each arm makes of them, at the first seed.
    fn pictures(&self, study: Study) -> Result<Vec<(String, Vec<Picture>)>> {
        let config = &self.config;
        let seed = self.results.plan().seeds[0];
        let count = (PICTURES as usize).min(config.test);
        let first = test_start(config);
        let style = if study == Study::Domains { &config.target } else { &config.source };
        let scene_seed = seed::derive(seed, &[LearningFromFuture.slug(), "scenes"]);
        let shown = scenes(scene_seed, first..first + count as u64, config.side, style)?;
        let maps = |values: &[f64]| -> Vec<Picture> {
            values.chunks(config.side * config.side).map(|m| Picture::of_classes(m, config.side)).collect()
        };
        let images = (0..count as i64).map(|i| Picture::of_image(&shown.images.get(i))).collect::<Result<_>>()?;
        let truth: Vec<f64> = shown.masks.to_kind(tch::Kind::Double).flatten(0, -1).try_into()?;
        let mut rows = vec![("scene".to_owned(), images), ("truth".to_owned(), maps(&truth))];
        for (arm, method) in config.arms() {
            if method.study == study {
                rows.push((arm.clone(), maps(self.results.array(&arm, seed, "predictions")?)));
            }
        }
        Ok(rows)
    }
}

fn judge(results: &Results) -> Result<Judge<'_>> {
    Ok(Judge { results, config: results.plan().config()? })
}

pub(super) fn findings(results: &Results) -> Result<Vec<Finding>> {
    let judge = judge(results)?;
    Ok(vec![judge.beats()?, judge.few()?, judge.labels()?, judge.depth()?, judge.average()?])
}

pub(super) fn plots(results: &Results) -> Result<Vec<Plot>> {
    let judge = judge(results)?;
    let n = results.plan().seeds.len();
    let st = judge.st()?;
    let compared = [SOURCE, &st, COMPUTE, FST, DEEP, WIDE];
    let mut bars = vec![];
    for (i, (arm, _)) in judge.config.arms().iter().enumerate() {
        let (mean, half) = verdict::summary(&judge.scores(arm)?);
        bars.push((arm.clone(), mean, half, i));
    }
    let mut by_class = vec![];
    for (i, arm) in [SOURCE, &st, FST, DEEP, WIDE].into_iter().enumerate() {
        for class in SCENE_CLASSES {
            let metric = format!("test IoU of {class}, {}", judge.net(arm)?);
            if let Ok(values) = results.values(arm, &metric) {
                let (mean, half) = verdict::summary(&values);
                by_class.push((format!("{class}, {arm}"), mean, half, i));
            }
        }
    }
    by_class.sort_by_key(|(name, ..)| SCENE_CLASSES.iter().position(|c| name.starts_with(c)));
    let mut labels = vec![];
    for (i, arm) in [&st, SPEED, COMPUTE, FST, DEEP, WIDE, NAIVE].into_iter().enumerate() {
        labels.push(Series::line(arm, i, &results.mean_series(arm, LABELS)?));
    }
    let curve = |name: &str, x: &str, by_updates: bool| -> Result<Plot> {
        let caption = format!(
            "Mean IoU on validation scenes of the target during training, of student or teacher, whichever ends higher; means over {n} seeds."
        );
        Ok(Plot::lines(name, &caption, x, "validation mIoU (%)", judge.curves(&compared, by_updates)?))
    };
    let first = results.plan().seeds[0];
    let pictures = |name: &str, what: &str, study: Study| -> Result<Plot> {
        let caption = format!(
            "Test scenes of {what} at seed {first}, their masks, and the predictions of student or teacher, whichever is better on validation scenes (background, disc, square, triangle and ring in blue, orange, green, pink and light blue)."
        );
        Ok(Plot::pictures(name, &caption, judge.pictures(study)?))
    };
    Ok(vec![
        pictures("predictions", "the target domain", Study::Domains)?,
        pictures("predictions-few-labels", "the study of few labels", Study::Few)?,
        Plot::bars(
            "miou",
            &format!(
                "Mean IoU on test scenes, of student or teacher, whichever is better on validation scenes; means of {n} seeds with 95 % intervals."
            ),
            "test mIoU (%)",
            bars,
        ),
        Plot::bars(
            "iou-by-class",
            &format!(
                "IoU of each class on test scenes of the target, of the same networks; means of {n} seeds with 95 % intervals."
            ),
            "test IoU (%)",
            by_class,
        ),
        curve("curves", "iteration", false)?,
        curve("curves-by-updates", "updates of a student, virtual ones included", true)?,
        Plot::lines(
            "labels",
            &format!(
                "Share of target pixels that the teacher labels rightly, as the real updates use them; means over {n} seeds."
            ),
            "iteration",
            "pseudo-label accuracy (%)",
            labels,
        ),
    ])
}
