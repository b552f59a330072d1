"""Golden losses of unlearning methods over five steps of AdamW, on a tiny GPT-2 of transformers in double precision.

Run: python benches/peers/golden_unlearner.py   (writes crates/unlearning/tests/fixtures/unlearner/)

Every sequence goes through the model on its own, without padding; all losses are written out from log-probabilities and logits here.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

ROOT = Path(__file__).parents[2] / "crates/unlearning/tests/fixtures/unlearner"
VOCABULARY, STEPS, RATE, BETA = 24, 5, 3e-3, 0.1
torch.manual_seed(0)

forget = [([3, 4, 5], [6, 7, 8, 1]), ([9, 4], [10, 1]), ([3, 11, 12, 13], [14, 15, 1])]
template, unrelated, retain = [2, 16, 1], [17, 18, 19, 20, 1], ([21, 5], [22, 23, 1])


def network():
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=16, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=1)
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model.eval()


start, frozen = network(), network()
for name, model in (("model", start), ("reference", frozen)):
    model.save_pretrained(ROOT / name)
frozen.double()


def logits(model, question, answer):
    tokens = torch.tensor([question + answer])
    return model(tokens).logits[0, len(question) - 1 : -1].log_softmax(-1)


def tokens(model, question, answer):
    return logits(model, question, answer).gather(1, torch.tensor(answer)[:, None])[:, 0]


def answers(model, which):
    pairs = {
        "forget": forget,
        "template": [(q, template) for q, _ in forget],
        "unrelated": [(q, unrelated) for q, _ in forget],
        "retain": [retain] * len(forget),
    }[which]
    return [tokens(model, q, a) for q, a in pairs]


def ce(rows):
    return -torch.cat(rows).mean()


def nll(rows):
    return torch.stack([-r.sum() for r in rows])


def p(rows):
    return torch.stack([r.exp().mean() for r in rows])


def frozen_nll(which):
    with torch.no_grad():
        return nll(answers(frozen, which))


def npo(m):
    return -(2 / BETA) * F.logsigmoid(BETA * (nll(answers(m, "forget")) - frozen_nll("forget"))).mean()


def dpo(m):
    margin = nll(answers(m, "forget")) - nll(answers(m, "template")) - frozen_nll("forget") + frozen_nll("template")
    return -(2 / BETA) * F.logsigmoid(BETA * margin).mean()


def kl(m):
    now, before = logits(m, *retain), logits(frozen, *retain).detach()
    return F.kl_div(now, before, log_target=True, reduction="none").sum(-1).mean()


ln2 = torch.log(torch.tensor(2.0, dtype=torch.float64))
g = {
    "tv": lambda v: v.tanh() / 2,
    "kl": lambda v: v,
    "js": lambda v: ln2 - F.softplus(-v),
    "pearson": lambda v: v,
    "reverse_kl": lambda v: -torch.exp(-v),
    "hellinger": lambda v: 1 - torch.exp(-v),
    "neyman": lambda v: 1 - torch.exp(-v),
}
# Conjugates of the activations' values, from the generators' conjugates.
conjugate = {
    "tv": lambda t: t,
    "kl": lambda t: torch.exp(t - 1),
    "js": lambda t: -torch.log(2 - torch.exp(t)),
    "pearson": lambda t: t**2 / 4 + t,
    "reverse_kl": lambda t: -1 - torch.log(-t),
    "hellinger": lambda t: t / (1 - t),
    "neyman": lambda t: 2 - 2 * torch.sqrt(1 - t),
}


def flat(d):
    return lambda m: (conjugate[d](g[d](p(answers(m, "forget")))) - g[d](p(answers(m, "template")))).mean()


LOSSES = {f"flat_{d}": flat(d) for d in g} | {
    "forgetting_kl": lambda m: torch.exp(p(answers(m, "forget")) - 1).mean(),
    "ga": lambda m: -ce(answers(m, "forget")),
    "npo": npo,
    "dpo": dpo,
    "templates": lambda m: ce(answers(m, "template")),
    "gd": lambda m: -ce(answers(m, "forget")) + ce(answers(m, "retain")),
    "kl": lambda m: -ce(answers(m, "forget")) + kl(m),
    "po": lambda m: ce(answers(m, "template") + answers(m, "retain")),
    "npo_retain": lambda m: npo(m) + ce(answers(m, "retain")),
    "llmu": lambda m: -0.5 * ce(answers(m, "forget")) + ce(answers(m, "unrelated")) + kl(m),
    "mismatch": lambda m: ce(answers(m, "unrelated") + answers(m, "retain")),
    "fine_tuning": lambda m: ce(answers(m, "forget")),
}

golden = {}
for name, loss in LOSSES.items():
    model = GPT2LMHeadModel.from_pretrained(ROOT / "model").double().eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    values = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = loss(model)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        values.append(value.item())
    golden[name] = torch.tensor(values, dtype=torch.float64)
for folder in ("model", "reference"):
    (ROOT / folder / "generation_config.json").unlink(missing_ok=True)
save_file(golden, ROOT / "golden.safetensors")
print({k: [round(x, 4) for x in v.tolist()] for k, v in golden.items()})
