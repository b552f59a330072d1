"""Golden values of autodidact-core's metrics::bleu: sacrebleu's corpus BLEU under each smoothing, with one and with two references, and
the words that its 13a tokenizer finds.

Run: python benches/peers/golden_bleu.py (needs sacrebleu==2.6.0; writes crates/core/tests/fixtures/bleu.json)
"""

import json
from pathlib import Path

from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

# (hypothesis, first reference, second reference)
SENTENCES = [
    ("Two men are sitting on a bench.", "Two men sit on a bench.", "A pair of men is seated on a bench."),
    ("A dog, brown and large, runs through 1,000.5 leaves!", "A large, brown dog runs through 1,000 leaves.", "A dog is running."),
    ("It's a \"well-known\" place: 3-4 people (or so) & cats.", "It's a well-known spot: 3-4 people, or so, and cats.", "It is known."),
    ("Der Mann im roten Hemd fährt Rad.", "Ein Mann im roten Hemd fährt Fahrrad.", "Der Mann fährt Rad."),
    ("e.g. prices of $5.20, 30% off; a@b.c/d [x] {y} ~z ^w_v `u` | t", "e.g. a price of $5.20 - 30 % off; a@b.c/d [x] {y} ~z", "none"),
    ("&quot;Hello&quot; &amp; goodbye &lt;b&gt;", "\"Hello\" & goodbye <b>", "Hello and goodbye"),
    ("the the the the", "the cat is on the mat", "there is a cat on the mat"),
    ("Yes.", "Yes, indeed.", "Yes."),
]
FAR = [("a b c d e", "a x b y c z", "q"), ("f g", "g f", "h")]
SHORT = [("a b c", "a b c", "a b"), ("d", "d e", "d")]

corpora = []
for name, rows in [("sentences", SENTENCES), ("no long matches", FAR), ("short", SHORT), ("nothing", [("a b c d e", "v w x y z", "u")])]:
    hypotheses, first, second = (list(column) for column in zip(*rows))
    for references in [[first], [first, second]]:
        scores = {}
        for smoothing, value in [("exp", None), ("none", None), ("floor", 0.1), ("floor", 0.5), ("add-k", 1), ("add-k", 0.5)]:
            score = BLEU(smooth_method=smoothing, smooth_value=value).corpus_score(hypotheses, references)
            scores[f"{smoothing} {value}" if value else smoothing] = [score.score, score.bp, *score.precisions]
        corpora.append(dict(name=name, hypotheses=hypotheses, references=references, scores=scores))

tokenizer = Tokenizer13a()
lines = [text for row in SENTENCES for text in row] + ["", " ", "a.b,c", "1.2,3.x", ".5 5.", "a..b", "1--2", "-3", "x-\ny\nz", "a<skipped>b", "‘quoted’ – dash"]
tokens = [[line, tokenizer(line).split()] for line in lines]
folder = Path(__file__).parents[2] / "crates/core/tests/fixtures"
(folder / "bleu.json").write_text(json.dumps(dict(corpora=corpora, tokens=tokens), indent=1, ensure_ascii=False) + "\n")
