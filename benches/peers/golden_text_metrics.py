"""Golden values of autodidact-core's ROUGE-L (rouge-score), stems (NLTK) and two-sample Kolmogorov-Smirnov tests (SciPy).

Run: python benches/peers/golden_text_metrics.py (writes crates/core/tests/fixtures/text_metrics.json)
"""

import json
import random
from pathlib import Path

from nltk.stem import porter
from rouge_score.rouge_scorer import RougeScorer
from scipy.stats import ks_2samp

random.seed(0)
stems = ["cat", "stem", "hop", "relat", "oper", "gener", "vi", "probabl", "digit", "feudal", "form", "commun", "tr", "log", "sk"]
endings = [
    "", "s", "es", "ies", "sses", "ss", "ed", "ied", "eed", "ing", "y", "ied", "ational", "tional", "enci", "anci", "izer", "bli", "alli",
    "ally", "entli", "eli", "ousli", "ization", "ation", "ator", "alism", "iveness", "fulness", "ousness", "aliti", "iviti", "biliti",
    "fulli", "logi", "logy", "icate", "ative", "alize", "iciti", "ical", "ful", "ness", "al", "ance", "ence", "er", "ic", "able", "ible",
    "ant", "ement", "ment", "ent", "ion", "sion", "tion", "ou", "ism", "ate", "iti", "ous", "ive", "ize", "e", "ll", "lle",
    "pping", "lling", "ssing", "zzing", "bling", "ating", "izing", "ening",
]
words = [s + e for s in stems for e in endings]
words += "skies sky dying lying tying news innings inning outings cannings howe proceed exceed succeed a is by die died dies tie ties tied".split()
words += "happy enjoy say cry by fly flying agreed feed bled sing troubled sized falling hissing fizzed failing filing yes syzygy".split()
words += "analogi geologi theology biology philosophically hopefully usefulli rationalli crepe controll roll dog's".split()
stemmer = porter.PorterStemmer()

texts = [
    ("The cat sat on the mat.", "the cat was sitting on a mat"),
    ("", "something"),
    ("something", ""),
    ("...", "a"),
    ("a b c d e f g", "g f e d c b a"),
    ("Generously relational hopping, 42 skies!", "generous relations hop; 42 sky"),
    ("It's José's café", "its jose s caf"),
    ("running runs ran runner", "run running runs"),
    ("one two three four", "one three two four five"),
]
scorers = {stem: RougeScorer(["rougeL"], use_stemmer=stem) for stem in (False, True)}
rouge = []
for text, reference in texts:
    for stem, scorer in scorers.items():
        score = scorer.score(reference, text)["rougeL"]
        rouge.append([text, reference, stem, score.recall, score.precision, score.fmeasure])

ks = []
for m, n, shift in [(5, 5, 0.5), (50, 50, 0.3), (50, 50, 9), (100, 100, 9), (7, 11, 0.5), (30, 20, 1), (60, 40, 9), (1, 5, 0), (200, 150, 0.1)]:
    # Two digits, so that there are ties.
    a = [round(random.gauss(0, 1), 2) for _ in range(m)]
    b = [round(random.gauss(shift, 1), 2) for _ in range(n)]
    test = ks_2samp(a, b, method="exact")
    ks.append([a, b, test.statistic, test.pvalue])

out = {"stems": [[w, stemmer.stem(w)] for w in words], "rouge": rouge, "ks": ks}
path = Path(__file__).resolve().parents[2] / "crates/core/tests/fixtures/text_metrics.json"
path.write_text(json.dumps(out, ensure_ascii=False, separators=(",", ":")) + "\n")
