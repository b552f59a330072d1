//! Arithmetic word problems from templates: text of another kind than stories, with numbers that matter.

use autodidact_core::seed;
use rand::RngExt;
use rand::seq::IndexedRandom;

const NAMES: [&str; 12] =
    ["Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Ida", "Jonas", "Lena", "Max"];
const THINGS: [&str; 12] =
    ["apples", "books", "cards", "coins", "cups", "eggs", "flowers", "marbles", "pens", "shells", "stamps", "tickets"];

/// `{n}` and `{m}` are two people, `{t}` a thing, `{a}`, `{b}` and `{c}` numbers with `a > b`.
const TEMPLATES: [&str; 20] = [
    "{n} has {a} {t} and gives {b} of them to {m}. How many {t} does {n} have left?",
    "{n} buys {a} {t} at {b} dollars each. How much does {n} pay?",
    "There are {a} {t} in a box. {n} fills {b} boxes. How many {t} are there in all?",
    "{n} finds {a} {t} on Monday and {b} on Tuesday. How many {t} does {n} have now?",
    "{n} and {m} share {a} {t}. {m} takes {b}. How many are left for {n}?",
    "A shop sells {a} {t} a day. How many {t} does it sell in {b} days?",
    "{n} is {a} years old and {m} is {b} years younger. How old is {m}?",
    "{n} reads {b} pages an hour. How many pages does {n} read in {c} hours?",
    "It takes {n} {a} minutes to walk to school and {m} {b} minutes. How much longer does {n} need?",
    "{n} has {a} dollars. After buying {t} for {b} dollars, how much money does {n} have?",
    "{n} puts {a} {t} in each of {c} bags and {b} {t} are left over. How many {t} were there?",
    "{m} has {b} times as many {t} as {n}, who has {a}. How many {t} does {m} have?",
    "A train carries {a} people. At the station {b} get off and {c} get on. How many people are on the train?",
    "{n} collects {a} {t}, loses {b} and then finds {c} more. How many {t} does {n} have?",
    "A row has {b} seats. How many seats are there in {c} rows?",
    "{n} earns {b} dollars an hour and works {c} hours. How much does {n} earn?",
    "{n} wants {a} {t} and has {b}. How many more {t} does {n} need?",
    "A farmer has {a} hens. Each lays {c} eggs a week. How many eggs are there after one week?",
    "{n} cuts a rope of {a} feet into a piece of {b} feet and another one. How long is the other piece?",
    "{n} and {m} pick {a} and {b} {t}. They sell all for {c} dollars each. How much do they get?",
];

/// Word problems (questions without their answers), one a line, of at least `characters` characters of ASCII in all.
///
/// ```
/// let text = autodidact_datasets::synthetic::word_problems(500, 0);
/// assert!(text.len() >= 500 && text.lines().all(|l| l.ends_with('?')));
/// ```
pub fn word_problems(characters: usize, seed: u64) -> String {
    let mut rng = seed::rng(seed, &["word problems"]);
    let mut text = String::with_capacity(characters + 200);
    while text.len() < characters {
        let people: Vec<&str> = NAMES.sample(&mut rng, 2).copied().collect();
        let thing = THINGS.choose(&mut rng).expect("there are things");
        let b: u32 = rng.random_range(2..40);
        let (a, c): (u32, u32) = (b + rng.random_range(1..60), rng.random_range(2..20));
        let template = TEMPLATES.choose(&mut rng).expect("there are templates");
        let filled = template
            .replace("{n}", people[0])
            .replace("{m}", people[1])
            .replace("{t}", thing)
            .replace("{a}", &a.to_string())
            .replace("{b}", &b.to_string())
            .replace("{c}", &c.to_string());
        text.push_str(&filled);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_filled_and_streams_differ() {
        let text = word_problems(50_000, 1);
        assert!(text.is_ascii() && !text.contains(['{', '}']));
        assert_eq!(text, word_problems(50_000, 1));
        assert_ne!(text, word_problems(50_000, 2));
        // All templates are used.
        for start in TEMPLATES.iter().filter_map(|t| t.rsplit('.').next()) {
            let end = start.rsplit('}').next().unwrap_or(start);
            assert!(text.contains(end), "{end}");
        }
    }
}
