//! Porter's stemmer.

/// The stem of an English word (Porter, 1980) in lower case, with the changes that NLTK makes by default, so that scores which stem with it
/// (ROUGE) can be compared: a few irregular words, words of one or two letters left as they are, `y` turned to `i` after consonants only,
/// and the endings `fulli` and `logi`.
///
/// ```
/// use autodidact_core::text::porter_stem;
/// let stems = ["relational", "hopping", "Skies", "dying", "generously"].map(porter_stem);
/// assert_eq!(stems, ["relat", "hop", "sky", "die", "gener"]);
/// ```
pub fn porter_stem(word: &str) -> String {
    let word = word.to_lowercase();
    let irregular = match word.as_str() {
        "sky" | "skies" => "sky",
        "dying" => "die",
        "lying" => "lie",
        "tying" => "tie",
        "innings" | "inning" => "inning",
        "outings" | "outing" => "outing",
        "cannings" | "canning" => "canning",
        "news" | "howe" | "proceed" | "exceed" | "succeed" => &word,
        _ => "",
    };
    if !irregular.is_empty() {
        return irregular.to_owned();
    }
    if word.chars().count() <= 2 || !word.is_ascii() {
        return word;
    }
    [plural, past, final_y, double_suffix, suffix, last_suffix, final_e, double_l]
        .into_iter()
        .fold(word, |word, step| step(word))
}

fn is_consonant(word: &[u8], i: usize) -> bool {
    match word[i] {
        b'a' | b'e' | b'i' | b'o' | b'u' => false,
        b'y' => i == 0 || !is_consonant(word, i - 1),
        _ => true,
    }
}

/// Porter's `m`: how often a vowel is followed by a consonant.
fn measure(stem: &str) -> usize {
    let stem = stem.as_bytes();
    (1..stem.len()).filter(|&i| is_consonant(stem, i) && !is_consonant(stem, i - 1)).count()
}

fn has_vowel(stem: &str) -> bool {
    (0..stem.len()).any(|i| !is_consonant(stem.as_bytes(), i))
}

fn ends_in_double_consonant(word: &str) -> bool {
    let w = word.as_bytes();
    w.len() >= 2 && w[w.len() - 1] == w[w.len() - 2] && is_consonant(w, w.len() - 1)
}

/// Consonant, vowel, consonant other than `w`, `x` and `y`; or a word of a vowel and a consonant.
fn ends_in_cvc(word: &str) -> bool {
    let w = word.as_bytes();
    let n = w.len();
    match n {
        0 | 1 => false,
        2 => !is_consonant(w, 0) && is_consonant(w, 1),
        _ => {
            is_consonant(w, n - 3)
                && !is_consonant(w, n - 2)
                && is_consonant(w, n - 1)
                && !matches!(w[n - 1], b'w' | b'x' | b'y')
        }
    }
}

/// The first of the endings that fits decides: it is replaced if `condition` holds of what is before it.
fn replace(word: String, rules: &[(&str, &str)], condition: impl Fn(&str) -> bool) -> String {
    for (ending, by) in rules {
        if let Some(stem) = word.strip_suffix(ending) {
            return if condition(stem) { format!("{stem}{by}") } else { word };
        }
    }
    word
}

fn positive(stem: &str) -> bool {
    measure(stem) > 0
}

/// Step 1a.
fn plural(word: String) -> String {
    if word.len() == 4 && word.ends_with("ies") {
        return format!("{}ie", &word[..1]);
    }
    replace(word, &[("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")], |_| true)
}

/// Step 1b.
fn past(word: String) -> String {
    if let Some(stem) = word.strip_suffix("ied") {
        return if stem.len() == 1 { format!("{stem}ie") } else { format!("{stem}i") };
    }
    if word.ends_with("eed") {
        return replace(word, &[("eed", "ee")], positive);
    }
    let Some(stem) = ["ed", "ing"].iter().find_map(|ending| word.strip_suffix(ending)) else { return word };
    if !has_vowel(stem) {
        return word;
    }
    if ["at", "bl", "iz"].iter().any(|ending| stem.ends_with(ending)) {
        return format!("{stem}e");
    }
    if ends_in_double_consonant(stem) {
        let keep = if stem.ends_with(['l', 's', 'z']) { stem.len() } else { stem.len() - 1 };
        return stem[..keep].to_owned();
    }
    if measure(stem) == 1 && ends_in_cvc(stem) { format!("{stem}e") } else { stem.to_owned() }
}

/// Step 1c.
fn final_y(word: String) -> String {
    replace(word, &[("y", "i")], |stem| stem.len() > 1 && is_consonant(stem.as_bytes(), stem.len() - 1))
}

/// Step 2.
fn double_suffix(word: String) -> String {
    const RULES: [(&str, &str); 21] = [
        ("ational", "ate"),
        ("tional", "tion"),
        ("enci", "ence"),
        ("anci", "ance"),
        ("izer", "ize"),
        ("bli", "ble"),
        ("alli", "al"),
        ("entli", "ent"),
        ("eli", "e"),
        ("ousli", "ous"),
        ("ization", "ize"),
        ("ation", "ate"),
        ("ator", "ate"),
        ("alism", "al"),
        ("iveness", "ive"),
        ("fulness", "ful"),
        ("ousness", "ous"),
        ("aliti", "al"),
        ("iviti", "ive"),
        ("biliti", "ble"),
        ("fulli", "ful"),
    ];
    if let Some(stem) = word.strip_suffix("alli")
        && positive(stem)
    {
        return double_suffix(format!("{stem}al"));
    }
    match word.strip_suffix("ogi") {
        // The condition looks at `l` too.
        Some(stem) if stem.ends_with('l') => {
            if positive(stem) {
                format!("{stem}og")
            } else {
                word
            }
        }
        _ => replace(word, &RULES, positive),
    }
}

/// Step 3.
fn suffix(word: String) -> String {
    let rules =
        [("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")];
    replace(word, &rules, positive)
}

/// Step 4.
fn last_suffix(word: String) -> String {
    const ENDINGS: [&str; 19] = [
        "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate",
        "iti", "ous", "ive", "ize",
    ];
    for ending in ENDINGS {
        if let Some(stem) = word.strip_suffix(ending) {
            let fits = measure(stem) > 1 && (ending != "ion" || stem.ends_with(['s', 't']));
            return if fits { stem.to_owned() } else { word };
        }
    }
    word
}

/// Step 5a.
fn final_e(word: String) -> String {
    replace(word, &[("e", "")], |stem| measure(stem) > 1 || (measure(stem) == 1 && !ends_in_cvc(stem)))
}

/// Step 5b.
fn double_l(word: String) -> String {
    if word.ends_with("ll") && measure(&word[..word.len() - 1]) > 1 { word[..word.len() - 1].to_owned() } else { word }
}
