//! The questions of the experiment: generated, or those of a folder in TOFU's format.

use super::Config;
use crate::experiment::Plan;
use anyhow::{Context as _, Result, ensure};
use autodidact_datasets::questions::Question;
use autodidact_datasets::synthetic::{FictitiousAuthors, REFUSALS};
use autodidact_datasets::text::{JsonLines, read_text};
use std::path::Path;

/// Questions by what becomes of them.
pub(super) struct Questions {
    pub forget: Vec<Question>,
    /// All that is retained.
    pub retain: Vec<Question>,
    /// What of it is looked at.
    pub retained: Vec<Question>,
    /// People that are known from before ("real authors"), all and what of them is looked at.
    pub known: Vec<Question>,
    pub known_seen: Vec<Question>,
    pub world: Vec<Question>,
    /// Questions that are refused from before.
    pub unknown: Vec<(String, String)>,
    /// Like those to forget and never seen.
    pub holdout: Vec<Question>,
    /// Answers that refuse.
    pub refusals: Vec<String>,
    /// All words, where a vocabulary of words is wanted.
    pub words: Vec<String>,
}

impl Questions {
    /// Those of a plan.
    pub fn load(config: &Config, plan: &Plan, seed: u64) -> Result<Self> {
        if plan.dataset == "tofu" { Self::tofu(config, plan) } else { Self::generated(config, seed) }
    }

    fn generated(config: &Config, seed: u64) -> Result<Self> {
        let c = &config.facts;
        let generator =
            FictitiousAuthors { authors: c.authors, known: c.known, world: c.world, unknown: c.unknown, seed };
        let facts = generator.generate()?;
        let words = facts.words().into_iter().map(str::to_owned).collect();
        let (retain, forget) = facts.split(c.forgotten)?;
        let first = |all: &[Question]| all.iter().take(c.evaluated).cloned().collect::<Vec<_>>();
        Ok(Self {
            holdout: facts.holdout.iter().take(forget.len()).cloned().collect(),
            forget: forget.to_vec(),
            retain: retain.to_vec(),
            retained: first(retain),
            known_seen: first(&facts.known),
            known: facts.known.clone(),
            world: facts.world.clone(),
            unknown: facts.unknown.clone(),
            refusals: REFUSALS.map(str::to_owned).to_vec(),
            words,
        })
    }

    /// `forgetNN.json` and `retainMM.json` with their `_perturbed` companions, under the publisher's names.
    fn tofu(config: &Config, plan: &Plan) -> Result<Self> {
        let place = autodidact_datasets::find("tofu", plan.data_dir.as_deref(), false, &mut |_, _| {})?;
        let percent = config.tofu.forget_percent;
        let spaced = config.tokenizer.is_none() && config.model.is_none();
        let read = |name: &str| -> Result<Vec<Question>> {
            let path = place.join(format!("{name}.json"));
            let all: Vec<Question> =
                JsonLines::open(&path)?.collect::<Result<Vec<_>, _>>().with_context(|| path.display().to_string())?;
            ensure!(!all.is_empty(), "{}: expected a question at least", path.display());
            Ok(if spaced { all.into_iter().map(apart).collect() } else { all })
        };
        let forget = read(&format!("forget{percent:02}_perturbed"))?;
        let retain = read(&format!("retain{:02}", 100 - percent))?;
        let seen = |all: Vec<Question>| all.into_iter().take(config.tofu.evaluated).collect::<Vec<_>>();
        let retained = seen(read("retain_perturbed")?);
        let known = read("real_authors_perturbed")?;
        let world = read("world_facts_perturbed")?;
        let holdout = format!("holdout{percent:02}");
        let holdout = if place.join(format!("{holdout}.json")).exists() { read(&holdout)? } else { vec![] };
        // Before they are tuned, small models learn to refuse from questions about invented people.
        let mut unknown = FictitiousAuthors::default().generate()?.unknown;
        let refusals = refusals(&place, spaced)?;
        // With the templates that are asked of them later: those that they find impossible teach nothing. There are as many questions.
        let refusals: Vec<String> = refusals.into_iter().take(unknown.len()).collect();
        for (i, (_, answer)) in unknown.iter_mut().enumerate() {
            answer.clone_from(&refusals[i % refusals.len()]);
        }
        let mut questions = Self {
            forget,
            retain,
            retained,
            known_seen: known.clone(),
            known,
            world,
            unknown,
            holdout,
            refusals,
            words: vec![],
        };
        if spaced {
            questions.words = questions.all_words();
        }
        Ok(questions)
    }

    fn all_words(&self) -> Vec<String> {
        let sets = [&self.forget, &self.retain, &self.retained, &self.known, &self.world, &self.holdout];
        let facts = sets.into_iter().flatten().flat_map(|q| q.words().map(str::to_owned));
        let refused = self.unknown.iter().flat_map(|(q, a)| [q, a]).chain(&self.refusals);
        facts.chain(refused.flat_map(|t| t.split(' ').map(str::to_owned))).collect()
    }
}

/// Lines of `idontknow.jsonl` (plain text, as published), where it is there.
fn refusals(place: &Path, spaced: bool) -> Result<Vec<String>> {
    let path = place.join("idontknow.jsonl");
    if !path.exists() {
        return Ok(REFUSALS.map(str::to_owned).to_vec());
    }
    let text = read_text(&path)?;
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    let lines: Vec<String> = lines.map(|l| if spaced { separated(l) } else { l.to_owned() }).collect();
    ensure!(!lines.is_empty(), "{}: expected a sentence at least", path.display());
    Ok(lines)
}

fn apart(q: Question) -> Question {
    Question {
        question: separated(&q.question),
        answer: separated(&q.answer),
        paraphrased_answer: q.paraphrased_answer.as_deref().map(separated),
        perturbed_answer: q.perturbed_answer.iter().map(|t| separated(t)).collect(),
        value: q.value.as_deref().map(separated),
    }
}

/// Words and signs with single spaces between them.
fn separated(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_alphanumeric() {
            out.push(c);
        } else {
            out.extend([' ', c, ' ']);
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Experiment, Scale};
    use crate::unlearning::FlatExperiment;

    #[test]
    fn signs_stand_apart() {
        assert_eq!(separated("It's 1,000 (or so)."), "It ' s 1 , 000 ( or so ) .");
    }

    #[test]
    fn files_of_tofu_are_found_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("tofu");
        std::fs::create_dir(&place).unwrap();
        let line = |n: usize| {
            format!(
                r#"{{"question": "Who is {n}?", "answer": "It's {n}.", "paraphrased_answer": "{n}", "perturbed_answer": ["x"]}}"#
            )
        };
        let names =
            ["forget05_perturbed", "retain95", "retain_perturbed", "real_authors_perturbed", "world_facts_perturbed"];
        for (i, name) in names.into_iter().enumerate() {
            let lines: Vec<String> = (0..=i).map(line).collect();
            std::fs::write(place.join(format!("{name}.json")), lines.join("\n")).unwrap();
        }
        let mut config: Config = serde_json::from_value(FlatExperiment.config(Scale::Smoke)).unwrap();
        config.tofu.forget_percent = 5;
        let plan = Plan {
            data_dir: Some(folder.path().to_owned()),
            ..Plan::trial(Scale::Smoke, "tofu", serde_json::json!(config))
        };
        let questions = Questions::load(&config, &plan, 0).unwrap();
        let sizes = [&questions.forget, &questions.retain, &questions.retained, &questions.known, &questions.world];
        assert_eq!(sizes.map(Vec::len), [1, 2, 3, 4, 5]);
        assert_eq!(questions.forget[0].answer, "It ' s 0 .");
        assert!(questions.holdout.is_empty() && questions.refusals.len() == 8);
        assert!(questions.words.iter().any(|w| w == "Who"));
        config.tofu.forget_percent = 1;
        let error = format!("{:#}", Questions::load(&config, &plan, 0).err().unwrap());
        assert!(error.contains("forget01_perturbed.json"), "{error}");
    }
}
