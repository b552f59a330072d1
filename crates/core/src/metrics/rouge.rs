//! ROUGE-L.

use crate::text::porter_stem;

/// Overlap of a text with a reference: the longest common subsequence of words (Lin, 2004), over the reference's words (recall), over the
/// text's (precision), and their harmonic mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RougeL {
    /// Longest common subsequence over the words of the reference.
    pub recall: f64,
    /// The same over the words of the text.
    pub precision: f64,
    /// Harmonic mean of the two, 0 where both are.
    pub f1: f64,
}

impl RougeL {
    /// Of a text and its reference. Words are runs of letters and digits of the Latin alphabet in lower case, everything else separates them
    /// (as in the package `rouge-score`); with `stem`, those of more than three letters are stemmed ([`porter_stem`]). Texts without words
    /// score 0.
    ///
    /// ```
    /// use autodidact_core::metrics::RougeL;
    /// let rouge = RougeL::of("The cat sat there.", "the cat sat on the mat", false);
    /// assert_eq!((rouge.recall, rouge.precision), (3.0 / 6.0, 3.0 / 4.0));
    /// assert!((rouge.f1 - 0.6).abs() < 1e-12);
    /// ```
    pub fn of(text: &str, reference: &str, stem: bool) -> Self {
        let (a, b) = (words(text, stem), words(reference, stem));
        let common = longest_common_subsequence(&a, &b) as f64;
        if common == 0.0 {
            return Self { recall: 0.0, precision: 0.0, f1: 0.0 };
        }
        let (recall, precision) = (common / b.len() as f64, common / a.len() as f64);
        Self { recall, precision, f1: 2.0 * recall * precision / (recall + precision) }
    }
}

fn words(text: &str, stem: bool) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    words.map(|w| if stem && w.len() > 3 { porter_stem(w) } else { w.to_owned() }).collect()
}

fn longest_common_subsequence(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[b.len()]
}
