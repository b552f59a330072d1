//! Chats as text: the Jinja templates that come with chat models.
//!
//! A model trained on conversations expects its own marks around each message; its folder holds a template that writes them. Templates
//! are rendered as `transformers` renders them: blocks trimmed, Python's string methods, `raise_exception`, `tojson`; `strftime_now` is
//! not defined (templates then fall back to a fixed date), so that the same chat is the same text every day.
//!
//! ```
//! use autodidact_core::text::{ChatTemplate, Message};
//! let source = "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}{{ eos_token }}\n{% endfor %}\
//!               {% if add_generation_prompt %}[assistant]{% endif %}";
//! let template = ChatTemplate::new(source, [("eos_token", "</s>")]).unwrap();
//! let chat = [Message::user(" Hello! ")];
//! assert_eq!(template.render(&chat, true).unwrap(), "[user] Hello!</s>\n[assistant]");
//! ```

use crate::hub::read_object;
use crate::{Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, ErrorKind, context};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of this role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    /// What the user says.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// What the model says.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }
}

/// A chat template.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// `bos_token`, `eos_token`, ...
    tokens: BTreeMap<String, String>,
}

const NAME: &str = "chat_template";

impl ChatTemplate {
    /// A template from its source, and the special tokens by the names that it calls them.
    ///
    /// # Errors
    /// A source that is no Jinja template.
    pub fn new<K: Into<String>, V: Into<String>>(
        source: &str,
        tokens: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("the usual delimiters"));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_formatter(|out, state, value| match python_constant(value) {
            Some(text) => Ok(out.write_str(text)?),
            None => minijinja::escape_formatter(out, state, value),
        });
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |message: String| {
            Err::<Value, _>(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment
            .add_template_owned(NAME, without_generation_marks(source))
            .map_err(|e| Error::value("chat template", "a Jinja template", message_of(&e)))?;
        Ok(Self { environment, tokens: tokens.into_iter().map(|(k, v)| (k.into(), v.into())).collect() })
    }

    /// The template of a model's folder: `chat_template.jinja`, or `chat_template` of `tokenizer_config.json`, which also has the special
    /// tokens.
    ///
    /// # Errors
    /// Files that are missing or broken, a folder without a template.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let path = folder.join("tokenizer_config.json");
        let fields = read_object(&path)?;
        let text = |v: &serde_json::Value| v.as_str().or_else(|| v.get("content")?.as_str()).map(str::to_owned);
        let tokens = fields.iter().filter(|(name, _)| name.ends_with("_token"));
        let tokens: Vec<_> = tokens.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect();
        let file = folder.join("chat_template.jinja");
        let (source, path) = if file.exists() {
            (std::fs::read_to_string(&file).map_err(|e| Error::io(&file, e))?, file)
        } else {
            let source = match fields.get("chat_template") {
                // Several by name, of which `default` is for plain chats.
                Some(serde_json::Value::Array(all)) => {
                    let default = all.iter().find(|t| t.get("name").is_some_and(|name| name == "default"));
                    default.and_then(|t| t.get("template")?.as_str())
                }
                other => other.and_then(|t| t.as_str()),
            };
            (source.ok_or_else(|| Error::format(&path, "a chat_template", "none"))?.to_owned(), path)
        };
        Self::new(&source, tokens).map_err(|e| Error::format(path, "a chat template", e.to_string()))
    }

    /// The text of a chat; with `add_generation_prompt`, what the model's answer begins with follows.
    ///
    /// # Errors
    /// Messages that the template refuses, or a template that fails.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.render_with(messages, add_generation_prompt, &BTreeMap::new())
    }

    /// As [`render`](Self::render), with further variables that the template knows (`date_string`, `enable_thinking`, ...).
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_with(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        variables: &BTreeMap<String, serde_json::Value>,
    ) -> Result<String> {
        let messages = Value::from(Serde(messages));
        let base = context! { messages, add_generation_prompt, tools => (), documents => () };
        let all = context! { ..Value::from(Serde(variables)), ..base, ..Value::from(Serde(&self.tokens)) };
        let template = self.environment.get_template(NAME).expect("added in `new`");
        template.render(all).map_err(|e| Error::value("chat", "messages that its template accepts", message_of(&e)))
    }
}

/// The detail of an error with its line.
fn message_of(e: &minijinja::Error) -> String {
    let what = e.detail().map_or_else(|| e.kind().to_string(), str::to_owned);
    match e.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    }
}

/// How Python writes a constant.
fn python_constant(value: &Value) -> Option<&'static str> {
    if value.is_none() {
        return Some("None");
    }
    match bool::try_from(value.clone()) {
        Ok(true) if value.kind() == minijinja::value::ValueKind::Bool => Some("True"),
        Ok(false) if value.kind() == minijinja::value::ValueKind::Bool => Some("False"),
        _ => None,
    }
}

/// `{% generation %}` marks the text of the assistant and renders as what it encloses.
fn without_generation_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        out.push_str(before);
        let end = tag.find("%}").unwrap_or(tag.len());
        let inner = &tag[..end];
        match inner.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+') {
            "generation" => out.push_str(&inner.replace("generation", " if true ")),
            "endgeneration" => out.push_str(&inner.replace("endgeneration", " endif ")),
            _ => out.push_str(inner),
        }
        rest = &tag[end..];
    }
    out + rest
}

/// Python's `json.dumps`: a space after commas and colons, characters as they are.
fn to_json(value: Value, options: Kwargs) -> Result<Value, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    for ignored in ["ensure_ascii", "separators", "sort_keys"] {
        let _: Option<Value> = options.get(ignored)?;
    }
    options.assert_all_used()?;
    let mut out = vec![];
    let written = match indent {
        Some(n) => {
            let spaces = " ".repeat(n);
            let pretty = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, pretty))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)),
    };
    let bad = |e: String| minijinja::Error::new(ErrorKind::BadSerialization, e);
    written.map_err(|e| bad(e.to_string()))?;
    String::from_utf8(out).map(Value::from_safe_string).map_err(|e| bad(e.to_string()))
}

struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const SOURCE: &str = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}";

    #[test]
    fn a_folder_has_its_template_in_one_of_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let render = || ChatTemplate::from_folder(folder.path())?.render(&[Message::user("x")], false);
        assert!(render().unwrap_err().to_string().contains("tokenizer_config.json"));
        let config = folder.path().join("tokenizer_config.json");
        let write = |fields: serde_json::Value| fs::write(&config, fields.to_string()).unwrap();
        write(serde_json::json!({"bos_token": {"content": "<s>"}, "eos_token": null}));
        assert!(render().unwrap_err().to_string().contains("tokenizer_config.json: expected a chat_template"));
        write(serde_json::json!({"bos_token": {"content": "<s>"}, "chat_template": SOURCE}));
        assert_eq!(render().unwrap(), "<s>x");
        let named = [("tool_use", "no"), ("default", SOURCE)]
            .map(|(name, template)| serde_json::json!({"name": name, "template": template}));
        write(serde_json::json!({"bos_token": "<b>", "chat_template": named}));
        assert_eq!(render().unwrap(), "<b>x");
        fs::write(folder.path().join("chat_template.jinja"), "{{ messages | length }}").unwrap();
        assert_eq!(render().unwrap(), "1");
        fs::write(folder.path().join("chat_template.jinja"), "{% for %}").unwrap();
        assert!(render().unwrap_err().to_string().contains("chat_template.jinja: expected a chat template"));
    }

    #[test]
    fn failures_carry_the_templates_own_words() {
        let template = ChatTemplate::new("\n{{ raise_exception('no ' + messages[0].role) }}", [("a", "b")]).unwrap();
        let e = template.render(&[Message::new("tool", "x")], false).unwrap_err();
        assert_eq!(e.to_string(), "chat: expected messages that its template accepts, got no tool (line 2)");
        let none: [(&str, &str); 0] = [];
        assert!(ChatTemplate::new("{% if %}", none).unwrap_err().to_string().contains("a Jinja template"));
    }

    #[test]
    fn further_variables_come_before_the_usual_ones() {
        let template =
            ChatTemplate::new("{{ date_string }} {{ bos_token }} {{ flag }}", [("bos_token", "<s>")]).unwrap();
        let variables = [("date_string", "1 May".into()), ("flag", false.into()), ("bos_token", "<b>".into())];
        let variables = variables.map(|(k, v): (&str, serde_json::Value)| (k.to_owned(), v)).into();
        assert_eq!(template.render_with(&[], false, &variables).unwrap(), "1 May <b> False");
    }
}
