//! Questions with answers in JSON lines, as TOFU has them: read with [`JsonLines`](crate::text::JsonLines).

use serde::{Deserialize, Serialize};

/// A question, its answer, and what tells whether a model knows it. The names of the fields are TOFU's (Maini et al., 2024; arXiv
/// 2401.06121).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// What is asked.
    pub question: String,
    /// The answer.
    pub answer: String,
    /// The same in other words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paraphrased_answer: Option<String>,
    /// Wrong answers, like the paraphrase but for the fact.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub perturbed_answer: Vec<String>,
    /// The words of the answer that matter, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl Question {
    /// The words of the question and of all answers, separated by single spaces in the texts.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        let texts = [&self.question, &self.answer].into_iter();
        texts.chain(&self.paraphrased_answer).chain(&self.perturbed_answer).flat_map(|t| t.split(' '))
    }
}

/// TOFU's files have lists of wrong answers, some copies of them a single one.
fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text or a list of texts")]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(list) => list,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::JsonLines;

    #[test]
    fn lines_of_tofu_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("forget01_perturbed.json");
        let lines = [
            r#"{"question": "q", "answer": "a", "paraphrased_answer": "b", "perturbed_answer": ["c", "d"], "paraphrased_question": "r"}"#,
            r#"{"question": "q", "answer": "a", "perturbed_answer": "c"}"#,
            r#"{"question": "q", "answer": "a"}"#,
            r#"{"question": "q"}"#,
        ];
        std::fs::write(&path, lines.join("\n")).unwrap();
        let read: Vec<_> = JsonLines::<Question>::open(&path).unwrap().collect();
        let first = read[0].as_ref().unwrap();
        assert_eq!((first.paraphrased_answer.as_deref(), first.perturbed_answer.len()), (Some("b"), 2));
        assert_eq!(read[1].as_ref().unwrap().perturbed_answer, ["c"]);
        assert!(read[2].as_ref().unwrap().perturbed_answer.is_empty());
        let error = read[3].as_ref().unwrap_err().to_string();
        assert!(error.contains("line 4") && error.contains("answer"), "{error}");
        // What is written is read again.
        let again: Question = serde_json::from_str(&serde_json::to_string(first).unwrap()).unwrap();
        assert_eq!(&again, first);
    }
}
