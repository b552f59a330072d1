//! The option that an answer in words chooses.

/// An option with how it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Place of the option, from 0.
    pub option: usize,
    /// Whether it stood between marks, as asked for. If not, it is the first letter with a full stop, which may belong to the reasoning:
    /// count these separately.
    pub marked: bool,
}

/// The option that a text chooses, of `options` (at most 26) that are called A, B, ... or 0, 1, ...: the first letter or number alone
/// between double hashes (`## B ##`); else the first capital letter of an option followed by a full stop (`B.`), if it does not end a
/// word. `None`, a wrong answer, where there is neither.
///
/// ```
/// use autodidact_preference::self_correction_learning::{Choice, extract_choice};
/// let found = |option, marked| Some(Choice { option, marked });
/// assert_eq!(extract_choice("A. is a cat, so it is ## B ##", 4), found(1, true));
/// assert_eq!(extract_choice("the dog: C. Not A.", 4), found(2, false));
/// assert_eq!(extract_choice("##3##", 4), found(3, true));
/// assert_eq!(extract_choice("I do not know", 4), None);
/// ```
pub fn extract_choice(text: &str, options: usize) -> Option<Choice> {
    let options = options.min(26);
    let letter = |c: char| (c.is_ascii_uppercase()).then(|| (c as u8 - b'A') as usize).filter(|&o| o < options);
    let alone = |marked: &str| {
        let mut all = marked.trim().chars();
        let first = all.next()?;
        if all.next().is_none() && first.is_ascii_uppercase() {
            return letter(first);
        }
        let number = Some(marked.trim()).filter(|m| m.bytes().all(|b| b.is_ascii_digit()));
        number.and_then(|m| m.parse().ok()).filter(|&o: &usize| o < options)
    };
    // Every piece between two marks, as a mark may end one and begin the next.
    let pieces: Vec<&str> = text.split("##").collect();
    let inner = pieces.get(1..pieces.len() - 1).unwrap_or_default();
    if let Some(option) = inner.iter().find_map(|piece| alone(piece)) {
        return Some(Choice { option, marked: true });
    }
    let mut before = None;
    let mut all = text.chars().peekable();
    while let Some(c) = all.next() {
        let begins = before.is_none_or(|b: char| !b.is_alphanumeric());
        if let Some(option) = letter(c).filter(|_| begins && all.peek() == Some(&'.')) {
            return Some(Choice { option, marked: false });
        }
        before = Some(c);
    }
    None
}
