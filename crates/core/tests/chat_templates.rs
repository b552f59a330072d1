//! Chat templates: the texts that transformers makes.

use autodidact_core::text::{ChatTemplate, Message};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    template: String,
    messages: Vec<Message>,
    add_generation_prompt: bool,
    text: String,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("fixtures/chat_templates.json")).unwrap()
}

#[test]
fn texts_are_those_of_transformers() {
    for (i, case) in cases().iter().enumerate() {
        let template = ChatTemplate::new(&case.template, [("bos_token", "<s>"), ("eos_token", "</s>")]).unwrap();
        let text = template.render(&case.messages, case.add_generation_prompt).unwrap();
        assert_eq!(text, case.text, "case {i}");
    }
}

#[test]
fn a_chat_that_the_template_refuses_is_an_error_with_its_message() {
    let case = cases().into_iter().find(|c| c.template.contains("alternate")).unwrap();
    let template = ChatTemplate::new(&case.template, [("bos_token", "<s>"), ("eos_token", "</s>")]).unwrap();
    let e = template.render(&[Message::assistant("first")], false).unwrap_err();
    assert!(e.to_string().contains("turns must alternate"), "{e}");
}
