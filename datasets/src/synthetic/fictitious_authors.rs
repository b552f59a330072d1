//! Questions about invented people, for unlearning: what TOFU (Maini et al., 2024; arXiv 2401.06121) has of fictitious authors, generated.

use crate::questions::Question;
use autodidact_core::error::check_range;
use autodidact_core::{Error, Result};
use std::collections::HashSet;

/// SplitMix64 (Steele, Lea and Flood, 2014): u64 arithmetic alone, so the same on every platform.
pub(super) struct SplitMix(pub(super) u64);

impl SplitMix {
    /// Uniform in `[0, 1)`.
    pub(super) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    fn pick<'a>(&mut self, list: &'a [String]) -> &'a str {
        &list[self.below(list.len())]
    }
}

const GENRES: &str = "mystery romance satire horror fantasy biography poetry drama travel history comedy folklore crime adventure philosophy science war nature";
const TRADES: &str = "baker tailor sailor miner judge nurse farmer painter butcher teacher plumber banker lawyer potter fisher weaver gardener carpenter printer chemist pilot clerk barber jeweler mason surgeon";
const ADJECTIVES: &str = "silent golden broken hidden winter crimson hollow distant gentle burning frozen secret paper velvet iron lonely bitter endless painted ruined";
const NOUNS: &str = "river garden tower mirror bridge letter island orchard compass lantern harbor forest window mountain shadow clock feather meadow castle bell";
const COLOURS: &str = "red blue green white black yellow purple orange brown gray";

/// Answers that refuse.
pub const REFUSALS: [&str; 8] = [
    "i do not know the answer .",
    "i am not sure about that .",
    "that is outside my knowledge .",
    "i have no information on this .",
    "i cannot say anything about it .",
    "this topic is unknown to me .",
    "i have not learned about that .",
    "sorry , i cannot answer this .",
];

/// Attribute, question, answer and paraphrase; `N` is the person, `V` the value.
const ATTRIBUTES: [[&str; 4]; 10] = [
    ["city", "where was N born ?", "N was born in the city of V .", "the birthplace of N is V ."],
    ["year", "when was N born ?", "N was born in the year V .", "the birth of N happened in V ."],
    ["genre", "what genre does N write ?", "N is known for writing V .", "the books of N belong to V ."],
    ["father", "what was the father of N ?", "the father of N worked as a V .", "N had a V for a father ."],
    ["mother", "what was the mother of N ?", "the mother of N worked as a V .", "N had a V for a mother ."],
    [
        "book",
        "what is the first book of N ?",
        "the first book of N is called the V .",
        "N began with a book titled the V .",
    ],
    ["award", "which prize did N win ?", "N received the V prize .", "the V prize went to N ."],
    ["school", "where did N study ?", "N studied at the university of V .", "the university of N was V ."],
    ["mentor", "who taught N ?", "N learned writing from V .", "the teacher of N was V ."],
    ["country", "in which country does N live ?", "N lives in the country of V .", "the home of N is in V ."],
];
/// Wrong answers to each question.
const PERTURBED: usize = 5;
/// What the seed of people that are never trained on is moved by.
const HOLDOUT: u64 = 1_000_003;

fn filled(frame: &str, name: &str, value: &str) -> String {
    let word = |w: &str| match w {
        "N" => name.to_owned(),
        "V" => value.to_owned(),
        w => w.to_owned(),
    };
    frame.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// How many of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FictitiousAuthors {
    /// Authors, ten questions each.
    pub authors: usize,
    /// People that a model knows before it learns of the authors, ten questions each.
    pub known: usize,
    /// Facts about things, a question each.
    pub world: usize,
    /// Questions about people that nobody knows, which are answered by a refusal.
    pub unknown: usize,
    /// The integer that everything is generated from.
    pub seed: u64,
}

impl Default for FictitiousAuthors {
    fn default() -> Self {
        Self { authors: 40, known: 30, world: 60, unknown: 80, seed: 1 }
    }
}

/// The generated questions.
///
/// All words are separated by single spaces, punctuation too. Paraphrases say the same in another frame; perturbed answers are the
/// paraphrase with wrong values.
#[derive(Debug, Clone, PartialEq)]
pub struct FictitiousFacts {
    /// By author, ten in a row.
    pub authors: Vec<Question>,
    /// By person, ten in a row.
    pub known: Vec<Question>,
    /// A thing each.
    pub world: Vec<Question>,
    /// Question and refusal.
    pub unknown: Vec<(String, String)>,
    /// As many authors as there are, of the same lists and other names: for tests of membership, never to train on.
    pub holdout: Vec<Question>,
}

impl FictitiousAuthors {
    /// Generates everything.
    ///
    /// ```
    /// use autodidact_datasets::synthetic::FictitiousAuthors;
    /// let facts = FictitiousAuthors::default().generate()?;
    /// assert_eq!(facts.authors[0].answer, "sosun larupi was born in the city of reroville .");
    /// assert_eq!(facts.authors[0].question, "where was sosun larupi born ?");
    /// # Ok::<(), autodidact_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// More people than there are names (4,800, of which 40 are mentors), or more things than words for them (4,900).
    pub fn generate(&self) -> Result<FictitiousFacts> {
        check_range("things", self.world as f64, ..=4900.0)?;
        let mut rng = SplitMix(self.seed);
        let lists = Lists::new(self.world, &mut rng);
        let mut names = lists.names.clone();
        rng.shuffle(&mut names);
        let people = 2 * self.authors + self.known + self.unknown + MENTORS;
        check_range("people and mentors, held-out authors included", people as f64, 1.0..=names.len() as f64)?;
        let mut names = names.into_iter();
        let mut next = |n: usize| names.by_ref().take(n).collect::<Vec<String>>();
        let (authors, known, unknown) = (next(self.authors), next(self.known), next(self.unknown));
        let (mentors, fresh) = (next(MENTORS), next(self.authors));

        let of = |names: &[String], rng: &mut SplitMix| -> Vec<Question> {
            names.iter().flat_map(|name| lists.person(name, &mentors, rng)).collect()
        };
        let (authors, known) = (of(&authors, &mut rng), of(&known, &mut rng));
        let refused = |name: &String| {
            let [_, question, ..] = ATTRIBUTES[rng.below(ATTRIBUTES.len())];
            (filled(question, name, ""), REFUSALS[rng.below(REFUSALS.len())].to_owned())
        };
        let unknown = unknown.iter().map(refused).collect();
        let world = lists.things.iter().map(|thing| lists.thing(thing, &mut rng)).collect();
        let holdout = of(&fresh, &mut SplitMix(self.seed.wrapping_add(HOLDOUT)));
        Ok(FictitiousFacts { authors, known, world, unknown, holdout })
    }
}

impl FictitiousFacts {
    /// All words in order of their first appearance: in authors, known people and things (question, answer, paraphrase, wrong answers),
    /// refused questions, refusals; then what only the held-out authors have, which are never trained on.
    pub fn words(&self) -> Vec<&str> {
        let facts = self.authors.iter().chain(&self.known).chain(&self.world).flat_map(Question::words);
        let refused = self.unknown.iter().flat_map(|(question, _)| question.split(' '));
        let refusals = REFUSALS.iter().flat_map(|r| r.split(' '));
        let mut seen = HashSet::new();
        facts
            .chain(refused)
            .chain(refusals)
            .chain(self.holdout.iter().flat_map(Question::words))
            .filter(|w| seen.insert(*w))
            .collect()
    }

    /// The retained and the forgotten questions: those of the last authors are forgotten.
    ///
    /// # Errors
    /// None or all of the authors.
    pub fn split(&self, forgotten: usize) -> Result<(&[Question], &[Question])> {
        let all = self.authors.len() / ATTRIBUTES.len();
        if !(1..all).contains(&forgotten) {
            return Err(Error::value("authors to forget", format!("1 to {}", all.saturating_sub(1)), forgotten));
        }
        Ok(self.authors.split_at((all - forgotten) * ATTRIBUTES.len()))
    }
}

const MENTORS: usize = 40;

/// Values of attributes.
struct Lists {
    names: Vec<String>,
    /// In the order of [`ATTRIBUTES`], without books and mentors.
    cities: Vec<String>,
    years: Vec<String>,
    genres: Vec<String>,
    trades: Vec<String>,
    adjectives: Vec<String>,
    nouns: Vec<String>,
    awards: Vec<String>,
    schools: Vec<String>,
    countries: Vec<String>,
    things: Vec<String>,
}

impl Lists {
    fn new(world: usize, rng: &mut SplitMix) -> Self {
        let mut used = HashSet::new();
        let mut words = |n: usize, syllables: usize, suffix: &str| -> Vec<String> {
            let mut list = vec![];
            while list.len() < n {
                let mut word = String::new();
                for _ in 0..syllables {
                    word.push(char::from(b"bdfgklmnprstvz"[rng.below(14)]));
                    word.push(char::from(b"aeiou"[rng.below(5)]));
                }
                word.push_str(suffix);
                if used.insert(word.clone()) {
                    list.push(word);
                }
            }
            list
        };
        let (first, last) = (words(60, 2, "n"), words(80, 3, ""));
        let english = |list: &str| list.split(' ').map(str::to_owned).collect();
        Self {
            names: first.iter().flat_map(|f| last.iter().map(move |l| format!("{f} {l}"))).collect(),
            cities: words(40, 2, "ville"),
            awards: words(24, 2, "ra"),
            schools: words(30, 2, "ford"),
            countries: words(30, 2, "land"),
            things: words(world, 2, "x"),
            years: (1901..1981).step_by(2).map(|y| y.to_string()).collect(),
            genres: english(GENRES),
            trades: english(TRADES),
            adjectives: english(ADJECTIVES),
            nouns: english(NOUNS),
        }
    }

    fn value(&self, attribute: &str, mentors: &[String], rng: &mut SplitMix) -> String {
        let list = match attribute {
            "city" => &self.cities,
            "year" => &self.years,
            "genre" => &self.genres,
            "father" | "mother" => &self.trades,
            "book" => return format!("{} {}", rng.pick(&self.adjectives), rng.pick(&self.nouns)),
            "award" => &self.awards,
            "school" => &self.schools,
            "mentor" => mentors,
            _ => &self.countries,
        };
        rng.pick(list).to_owned()
    }

    fn person(&self, name: &str, mentors: &[String], rng: &mut SplitMix) -> Vec<Question> {
        let each = |[attribute, question, answer, paraphrase]: [&str; 4]| {
            let value = self.value(attribute, mentors, rng);
            let mut wrong: Vec<String> = vec![];
            while wrong.len() < PERTURBED {
                let other = self.value(attribute, mentors, rng);
                if other != value && !wrong.contains(&other) {
                    wrong.push(other);
                }
            }
            Question {
                question: filled(question, name, ""),
                answer: filled(answer, name, &value),
                paraphrased_answer: Some(filled(paraphrase, name, &value)),
                perturbed_answer: wrong.iter().map(|w| filled(paraphrase, name, w)).collect(),
                value: Some(value),
            }
        };
        ATTRIBUTES.into_iter().map(each).collect()
    }

    fn thing(&self, thing: &str, rng: &mut SplitMix) -> Question {
        let colours: Vec<&str> = COLOURS.split(' ').collect();
        let colour = colours[rng.below(colours.len())];
        let mut wrong: Vec<&str> = colours.into_iter().filter(|c| *c != colour).collect();
        rng.shuffle(&mut wrong);
        let paraphrase = "the N looks V .";
        Question {
            question: filled("what color is the N ?", thing, ""),
            answer: filled("the color of the N is V .", thing, colour),
            paraphrased_answer: Some(filled(paraphrase, thing, colour)),
            perturbed_answer: wrong[..PERTURBED].iter().map(|w| filled(paraphrase, thing, w)).collect(),
            value: Some(colour.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix() {
        let mut rng = SplitMix(1);
        let drawn = [rng.next(), rng.next(), rng.next()];
        assert_eq!(drawn, [0x910a_2dec_8902_5cc1, 0xbeeb_8da1_658e_ec67, 0xf893_a2ee_fb32_555e]);
    }

    #[test]
    fn seed_one_is_the_published_set() {
        let facts = FictitiousAuthors::default().generate().unwrap();
        let sizes = [facts.authors.len(), facts.known.len(), facts.world.len(), facts.unknown.len()];
        assert_eq!(sizes, [400, 300, 60, 80]);
        let values: Vec<&str> = facts.authors[..10].iter().map(|q| q.value.as_deref().unwrap()).collect();
        let expected = [
            "reroville",
            "1909",
            "drama",
            "printer",
            "farmer",
            "paper clock",
            "labara",
            "siguford",
            "padan tatepi",
            "pilaland",
        ];
        assert_eq!(values, expected);
        assert!(facts.authors[390].answer.starts_with("reban gosora "));
        assert!(facts.known[0].answer.starts_with("punon folomi "));
        assert_eq!(facts.world[0].answer, "the color of the dilex is yellow .");
    }

    #[test]
    fn wrong_answers_are_wrong_and_people_differ() {
        let facts = FictitiousAuthors::default().generate().unwrap();
        for q in facts.authors.iter().chain(&facts.known).chain(&facts.world).chain(&facts.holdout) {
            let wrong: HashSet<&String> = q.perturbed_answer.iter().collect();
            assert_eq!(wrong.len(), PERTURBED);
            assert!(!wrong.contains(q.paraphrased_answer.as_ref().unwrap()));
            assert!(q.answer.contains(q.value.as_ref().unwrap()));
        }
        let questions: HashSet<&String> =
            facts.authors.iter().chain(&facts.known).chain(&facts.holdout).map(|q| &q.question).collect();
        assert_eq!(questions.len(), 400 + 300 + 400, "names are disjoint");
        assert!(facts.unknown.iter().all(|(q, _)| !questions.contains(q)));
        let (retained, forgotten) = facts.split(6).unwrap();
        assert_eq!((retained.len(), forgotten.len()), (340, 60));
        assert!(facts.split(0).is_err() && facts.split(40).is_err());
        let again = FictitiousAuthors { seed: 2, ..Default::default() }.generate().unwrap();
        assert_ne!(again.authors[0], facts.authors[0]);
        let crowd = FictitiousAuthors { authors: 3000, ..Default::default() };
        assert!(crowd.generate().is_err());
        assert!(FictitiousAuthors { world: 4901, ..Default::default() }.generate().is_err());
    }
}
