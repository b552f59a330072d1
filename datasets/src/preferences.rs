//! Preference data in JSON lines: `prompt`, `chosen` and `rejected`, as texts or as chats.

use crate::text::JsonLines;
use autodidact_core::text::{ChatTemplate, Message, Tokenizer};
use autodidact_core::{Error, Result};
use serde::Deserialize;
use std::path::Path;

/// A text, or the messages of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of {role, content}")]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Messages, in order.
    Chat(Vec<Message>),
}

/// Two continuations of a prompt, the first of which was preferred.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Record")]
pub enum Preference {
    /// Texts; a response continues the prompt as it stands.
    Text {
        /// What was asked.
        prompt: String,
        /// The preferred response.
        chosen: String,
        /// The other.
        rejected: String,
    },
    /// Chats; a response's messages follow those of the prompt.
    Chat {
        /// What was said.
        prompt: Vec<Message>,
        /// The preferred response.
        chosen: Vec<Message>,
        /// The other.
        rejected: Vec<Message>,
    },
}

/// What a line holds; other fields are ignored.
#[derive(Deserialize)]
struct Record {
    prompt: Option<Content>,
    chosen: Content,
    rejected: Content,
}

impl TryFrom<Record> for Preference {
    type Error = String;

    fn try_from(record: Record) -> std::result::Result<Self, String> {
        let preference = match (record.prompt, record.chosen, record.rejected) {
            (Some(Content::Text(prompt)), Content::Text(chosen), Content::Text(rejected)) => {
                Self::Text { prompt, chosen, rejected }
            }
            (None, Content::Text(chosen), Content::Text(rejected)) => {
                let at = common_text(&chosen, &rejected);
                let rest = |text: &str| text[at..].to_owned();
                Self::Text { prompt: chosen[..at].to_owned(), chosen: rest(&chosen), rejected: rest(&rejected) }
            }
            (Some(Content::Chat(prompt)), Content::Chat(chosen), Content::Chat(rejected)) => {
                Self::Chat { prompt, chosen, rejected }
            }
            (None, Content::Chat(mut chosen), Content::Chat(mut rejected)) => {
                let at = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
                let prompt = chosen[..at].to_vec();
                (chosen, rejected) = (chosen.split_off(at), rejected.split_off(at));
                Self::Chat { prompt, chosen, rejected }
            }
            _ => return Err("prompt, chosen and rejected must all be texts, or all be lists of messages".into()),
        };
        let empty = match &preference {
            Self::Text { chosen, rejected, .. } => chosen.is_empty() || rejected.is_empty(),
            Self::Chat { prompt, chosen, rejected } => prompt.is_empty() || chosen.is_empty() || rejected.is_empty(),
        };
        if empty {
            return Err("chosen and rejected must differ, neither may be empty, and a chat needs a prompt".into());
        }
        Ok(preference)
    }
}

/// Bytes that two texts have in common at their start, without a last space, which belongs to the responses.
fn common_text(a: &str, b: &str) -> usize {
    let same = a.char_indices().zip(b.chars()).take_while(|((_, a), b)| a == b);
    let end = same.map(|((at, c), _)| at + c.len_utf8()).last().unwrap_or(0);
    if a[..end].ends_with(' ') { end - 1 } else { end }
}

/// A preference as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreferenceTokens {
    /// The prompt.
    pub prompt: Vec<i64>,
    /// The preferred response, its end included.
    pub chosen: Vec<i64>,
    /// The other.
    pub rejected: Vec<i64>,
}

impl PreferenceTokens {
    /// At most `longest` tokens each with the prompt: prompts lose their beginning as far as the longer response needs the room (but
    /// for one token), then responses their end.
    ///
    /// # Errors
    /// A `longest` below 2.
    pub fn truncated(mut self, longest: usize) -> Result<Self> {
        if longest < 2 {
            return Err(Error::value("longest", "at least 2 tokens", longest));
        }
        let response = self.chosen.len().max(self.rejected.len());
        let room = longest.saturating_sub(response).max(1).min(self.prompt.len());
        self.prompt.drain(..self.prompt.len() - room);
        self.chosen.truncate(longest - room);
        self.rejected.truncate(longest - room);
        Ok(self)
    }
}

impl Preference {
    /// The preferences of a JSON-lines file (plain or gzip), read one by one as they are asked for. Lines are `{"prompt": .., "chosen": ..,
    /// "rejected": ..}` with texts or with lists of `{"role": .., "content": ..}`; without a prompt it is what the two have in common at
    /// their start. A line of another form is an error that names file and line; the iteration can go on behind it.
    ///
    /// ```no_run
    /// use autodidact_core::text::{ChatTemplate, HfTokenizer};
    /// use autodidact_datasets::preferences::Preference;
    ///
    /// let folder = std::path::Path::new("Qwen2.5-0.5B-Instruct");
    /// let tokenizer = HfTokenizer::from_file(&folder.join("tokenizer.json"))?;
    /// let template = ChatTemplate::from_folder(folder)?;
    /// for preference in Preference::read("ultrafeedback.jsonl".as_ref())? {
    ///     let tokens = preference?.tokens(&tokenizer, Some(&template), None)?.truncated(1024)?;
    ///     println!("{} + {} or {}", tokens.prompt.len(), tokens.chosen.len(), tokens.rejected.len());
    /// }
    /// # Ok::<(), autodidact_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn read(path: &Path) -> Result<JsonLines<Self>> {
        JsonLines::open(path)
    }

    /// As tokens. Chats are written by the template, whose own marks end their responses; `end` (the end of text) follows the responses of
    /// texts.
    ///
    /// # Errors
    /// A chat without a template or one that it refuses or whose text does not begin with that of its prompt, text that the tokenizer
    /// refuses.
    pub fn tokens(
        &self,
        tokenizer: &impl Tokenizer,
        template: Option<&ChatTemplate>,
        end: Option<i64>,
    ) -> Result<PreferenceTokens> {
        match self {
            Self::Text { prompt, chosen, rejected } => {
                let response = |text: &str| -> Result<Vec<i64>> {
                    let mut tokens = tokenizer.encode(text)?;
                    tokens.extend(end);
                    Ok(tokens)
                };
                Ok(PreferenceTokens {
                    prompt: tokenizer.encode(prompt)?,
                    chosen: response(chosen)?,
                    rejected: response(rejected)?,
                })
            }
            Self::Chat { prompt, chosen, rejected } => {
                let Some(template) = template else {
                    return Err(Error::value(
                        "preference",
                        "texts, or a chat template beside it",
                        "a chat without one",
                    ));
                };
                let start = template.render(prompt, true)?;
                let response = |messages: &[Message]| -> Result<Vec<i64>> {
                    let whole = template.render(&[prompt, messages].concat(), false)?;
                    match whole.strip_prefix(&start) {
                        Some(rest) => tokenizer.encode(rest),
                        None => Err(Error::value(
                            "chat template",
                            "one that writes a response behind its prompt",
                            format!("{whole:?} after {start:?}"),
                        )),
                    }
                };
                Ok(PreferenceTokens {
                    chosen: response(chosen)?,
                    rejected: response(rejected)?,
                    prompt: tokenizer.encode(&start)?,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use autodidact_core::text::CharTokenizer;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn text(prompt: &str, chosen: &str, rejected: &str) -> Preference {
        Preference::Text { prompt: prompt.into(), chosen: chosen.into(), rejected: rejected.into() }
    }

    #[test]
    fn texts_and_chats_are_read_with_and_without_prompt() {
        let lines = [
            r#"{"prompt": "The sky is", "chosen": " blue.", "rejected": " green.", "margin": 3}"#,
            r#"{"chosen": "The sky is blue.", "rejected": "The sky is brown."}"#,
            "",
            r#"{"prompt": [{"role": "user", "content": "a"}], "chosen": [{"role": "assistant", "content": "b"}], "rejected": [{"role": "assistant", "content": "c"}]}"#,
            r#"{"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "rejected": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "c"}]}"#,
        ];
        let file = file(&lines.join("\n"));
        let all: Vec<Preference> = Preference::read(file.path()).unwrap().collect::<Result<_>>().unwrap();
        let chat = Preference::Chat {
            prompt: vec![Message::user("a")],
            chosen: vec![Message::assistant("b")],
            rejected: vec![Message::assistant("c")],
        };
        let implicit = text("The sky is b", "lue.", "rown.");
        assert_eq!(all, [text("The sky is", " blue.", " green."), implicit, chat.clone(), chat]);
        // A common space belongs to the responses.
        let line =
            Record { prompt: None, chosen: Content::Text("é a".into()), rejected: Content::Text("é b".into()) };
        assert_eq!(Preference::try_from(line).unwrap(), text("é", " a", " b"));
    }

    #[test]
    fn lines_of_another_form_are_errors_that_name_them_and_reading_goes_on() {
        let lines = [
            r#"{"prompt": "a", "chosen": "b"}"#,
            r#"{"prompt": "a", "chosen": "b", "rejected": [{"role": "user", "content": "c"}]}"#,
            r#"{"prompt": "a", "chosen": "", "rejected": "c"}"#,
            r#"{"chosen": "same", "rejected": "same"}"#,
            r#"{"prompt": "a", "chosen": 3, "rejected": "c"}"#,
            "not JSON",
            r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#,
        ];
        let file = file(&lines.join("\n"));
        let mut read = Preference::read(file.path()).unwrap();
        for line in 1..=6 {
            let error = read.next().unwrap().unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}")), "{error}");
            assert!(error.contains(&file.path().display().to_string()), "{error}");
        }
        assert_eq!(read.next().unwrap().unwrap(), text("a", "b", "c"));
        assert!(read.next().is_none());
        assert!(Preference::read("/nowhere.jsonl".as_ref()).is_err());
    }

    #[test]
    fn tokens_are_those_of_prompt_and_response_with_their_ends() {
        let tokenizer = CharTokenizer::from_text("abc<>ua:").unwrap();
        let encode = |s: &str| tokenizer.encode(s).unwrap();
        let tokens = text("ab", "c", "bb").tokens(&tokenizer, None, Some(99)).unwrap();
        assert_eq!(tokens.prompt, encode("ab"));
        assert_eq!(
            (tokens.chosen, tokens.rejected),
            ([&encode("c")[..], &[99]].concat(), [&encode("bb")[..], &[99]].concat())
        );
        let source = "{% for m in messages %}<{{ m.role[0] }}:{{ m.content }}>{% endfor %}{% if add_generation_prompt %}<a:{% endif %}";
        let template = ChatTemplate::new::<&str, &str>(source, []).unwrap();
        let chat = Preference::Chat {
            prompt: vec![Message::user("a")],
            chosen: vec![Message::assistant("b")],
            rejected: vec![Message::assistant("c"), Message::user("b")],
        };
        let tokens = chat.tokens(&tokenizer, Some(&template), None).unwrap();
        assert_eq!(tokens.prompt, encode("<u:a><a:"));
        assert_eq!((tokens.chosen, tokens.rejected), (encode("b>"), encode("c><u:b>")));
        assert!(chat.tokens(&tokenizer, None, None).is_err());
        assert!(text("?", "a", "b").tokens(&tokenizer, None, None).is_err());
    }

    #[test]
    fn long_prompts_lose_their_beginning_and_then_responses_their_end() {
        let tokens = PreferenceTokens { prompt: vec![1, 2, 3, 4], chosen: vec![5, 6, 7], rejected: vec![8] };
        let cut = |longest| tokens.clone().truncated(longest).unwrap();
        assert_eq!(cut(7), tokens);
        assert_eq!(cut(5), PreferenceTokens { prompt: vec![3, 4], ..tokens.clone() });
        assert_eq!(cut(3), PreferenceTokens { prompt: vec![4], chosen: vec![5, 6], rejected: vec![8] });
        assert!(tokens.clone().truncated(1).is_err());
    }
}
