//! The verdicts on cells made up for them.

use super::super::FlatExperiment;
use super::*;
use crate::experiment::{Experiment, Plan, Scale};
use crate::runner::{CellRecord, MetricPoint};

/// What the made-up world is like; the default reproduces everything.
#[derive(Clone, Copy)]
struct World {
    /// What the model before unlearning knows of the forget set.
    memorized: f64,
    /// Retained value accuracy of FLAT's divergences.
    flat: [f64; 4],
    /// Model utility of FLAT.
    utility: f64,
    /// Probability of retained answers further on: gradient ascent and FLAT.
    further: [f64; 2],
    /// Whether FLAT forgets, and templates alone do.
    reached: [bool; 2],
    forgetting: f64,
}

const GOOD: World = World {
    memorized: 1.0,
    flat: [0.55, 0.6, 0.58, 0.62],
    utility: 0.5,
    further: [0.02, 0.4],
    reached: [true, false],
    forgetting: 0.4,
};

fn verdicts(world: World) -> Vec<Verdict> {
    let plan = Plan {
        seeds: vec![0, 1, 2],
        ..Plan::trial(Scale::Small, "fictitious-authors", FlatExperiment.config(Scale::Small))
    };
    let mut cells = vec![];
    for cell in FlatExperiment.cells(&plan).unwrap() {
        let arm = Arm::of(&cell.arm).unwrap();
        let noise = 0.005 * cell.seed as f64;
        let mut record = CellRecord::default();
        let mut put = |metric: &str, value: f64| {
            record.metrics.push(MetricPoint { step: 0, metric: metric.to_owned(), value });
        };
        let is_flat = |c: Change| flat().iter().position(|f| *f == c);
        // Log10 p, utility, retained accuracy and further probability, forced accuracy on the forget set, forgotten.
        let (log_p, utility, kept, further, forced, reached) = match arm {
            Arm::Measured(Stage::Full) => (-21.0, 0.65, 1.0, 1.0, world.memorized, false),
            Arm::Measured(_) => (0.0, 0.65, 1.0, 1.0, 0.0, false),
            Arm::Rates(_) => (-3.0, 0.4, 0.4, 0.4, 0.05, true),
            Arm::Matched(Change::Idk) => (-20.0, 0.6, 0.9, 0.9, 0.5, world.reached[1]),
            Arm::Matched(Change::Ga) => (-5.0, 0.4, 0.3, world.further[0], 0.1, true),
            Arm::Matched(Change::Forgetting(_)) => (-5.0, world.forgetting, 0.3, 0.3, 0.1, true),
            Arm::Matched(c) => match is_flat(c) {
                Some(i) => (-3.0, world.utility, world.flat[i], world.further[1], 0.1, world.reached[0]),
                None => (-5.0, 0.52, 0.35, 0.3, 0.1, true),
            },
        };
        put(LOG_P, log_p + noise);
        for metric in [UTILITY, UTILITY_OF_VALUES] {
            put(metric, utility * (1.0 + noise));
        }
        for set in [FORGET, RETAINED, KNOWN, WORLD] {
            put(&of(VALUE, set), kept * (1.0 + noise));
            put(&of(REFUSED, set), 0.1);
        }
        for measure in [ON_THE_WAY, TOLD] {
            put(&of(measure, FORGET), forced);
            put(&of(measure, RETAINED), kept);
        }
        put(&of(FORCED, FORGET), forced);
        put(&of(FORCED, RETAINED), kept);
        put(FURTHER, further * (1.0 + noise));
        put(FURTHER_KNOWN, further);
        put(REACHED, f64::from(u8::from(reached)));
        put(STEPS, 20.0);
        if let Arm::Rates(_) = arm {
            for step in 1..4 {
                for (metric, value) in [(LOG_P, log_p), (UTILITY, utility), (&of(FORCED, FORGET)[..], forced)] {
                    record.metrics.push(MetricPoint { step, metric: metric.to_owned(), value });
                }
            }
        }
        cells.push((cell, record));
    }
    let results = Results::new(plan, cells);
    findings(&results).unwrap().into_iter().map(|f| f.verdict).collect()
}

use Verdict::{NotJudged, NotReproduced, Partly, Reproduced};

#[test]
fn a_world_like_the_papers_reproduces_all() {
    assert_eq!(verdicts(GOOD), [Reproduced; 5]);
}

#[test]
fn what_fails_is_said_to() {
    // As good as gradient ascent only.
    let weak = World { flat: [0.33; 4], ..GOOD };
    assert_eq!(verdicts(weak), [Reproduced, Partly, Reproduced, Reproduced, Reproduced]);
    let bad = World { flat: [0.1, 0.2, 0.4, 0.1], utility: 0.3, further: [0.3, 0.3], ..GOOD };
    assert_eq!(verdicts(bad), [Partly, NotReproduced, NotReproduced, NotReproduced, Partly]);
    // Templates alone forget, and with more utility.
    let templates = World { reached: [true, true], ..GOOD };
    assert_eq!(verdicts(templates)[4], Partly);
}

#[test]
fn nothing_is_judged_where_forgetting_is_not_matched_or_nothing_was_known() {
    let never = World { reached: [false, false], ..GOOD };
    assert_eq!(verdicts(never), [NotReproduced, NotJudged, NotJudged, NotReproduced, NotJudged]);
    let ignorant = World { memorized: 0.5, ..GOOD };
    assert_eq!(verdicts(ignorant), [NotJudged; 5]);
    // A model that is destroyed is no success of any claim about what is kept.
    let destroyed = World { flat: [0.0; 4], utility: 0.0, further: [0.0, 0.0], forgetting: 0.0, ..GOOD };
    assert_eq!(verdicts(destroyed), [Partly, NotReproduced, Partly, NotReproduced, Partly]);
}
