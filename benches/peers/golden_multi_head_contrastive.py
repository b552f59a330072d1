"""Golden values of AMCL and MoCo: AMCL from its formulas written out pair by pair in PyTorch (f64), MoCo from lightly's
NTXentLoss with a memory bank.

Run: python benches/peers/golden_multi_head_contrastive.py
(writes crates/ssl/tests/fixtures/multi_head_contrastive.safetensors)
"""

from pathlib import Path

import torch
from lightly.loss import NTXentLoss
from safetensors.torch import save_file
from torch.nn.functional import normalize

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)

C, N, D, H, LOW, HIGH, BETA = 2, 5, 4, 6, 0.1, 0.9, 0.03


def weights(rule, width):
    if rule == "dot":
        shapes = {"phi.0.linear": (H, width), "phi.1.linear": (H, H)}
    else:
        shapes = {"first": (H, width if rule == "hadamard" else 2 * width), "last": (1, H)}
    drawn = {}
    for name, (rows, columns) in shapes.items():
        drawn[f"{name}.weight"] = (0.5 * torch.randn(rows, columns)).requires_grad_()
        drawn[f"{name}.bias"] = (0.5 * torch.randn(rows)).requires_grad_()
    out.update({f"{rule}.{width}.{key}": value.detach() for key, value in drawn.items()})
    return drawn


def temperature(rule, w, a, b):
    def net(x, first, last):
        hidden = torch.relu(w[f"{first}.weight"] @ x + w[f"{first}.bias"])
        return w[f"{last}.weight"] @ hidden + w[f"{last}.bias"]

    if rule == "dot":
        q = net(a, "phi.0.linear", "phi.1.linear") @ net(b, "phi.0.linear", "phi.1.linear")
    elif rule == "hadamard":
        q = net(a * b, "first", "last")[0]
    else:
        q = (net(torch.cat([a, b]), "first", "last")[0] + net(torch.cat([b, a]), "first", "last")[0]) / 2
    return LOW + (HIGH - LOW) * torch.sigmoid(q)


def omega(tau, width):
    return width / 2 * tau.log() + 1 / tau


def contrast(anchor, positive, negatives, tau, form):
    """Loss of one anchor."""
    tau_pos, s_pos = tau(anchor, positive), anchor @ positive
    pairs = [(anchor @ n, tau(anchor, n)) for n in negatives]
    if form != "soft":
        if form == "linear_with_positive":
            pairs.append((s_pos, tau_pos))
        pairs = sorted(pairs, key=lambda p: -p[0].item())[:2]
    logits = torch.stack([s / t for s, t in pairs])
    regular = torch.stack([omega(t, D) for _, t in pairs])
    if form.startswith("linear"):
        return logits.mean() - s_pos / tau_pos + BETA * (omega(tau_pos, D) - regular.mean())
    if form == "soft":
        logits = torch.cat([logits, (s_pos / tau_pos)[None]])
    return logits.logsumexp(0) - s_pos / tau_pos + BETA * (omega(tau_pos, D) - regular.mean())


def simclr(za, zb, tau, form):
    heads = []
    for a, b in zip(za, zb):
        z = normalize(torch.cat([a, b]), dim=1)
        rows = range(2 * N)
        losses = [contrast(z[i], z[(i + N) % (2 * N)], [z[j] for j in rows if j % N != i % N], tau, form) for i in rows]
        heads.append(torch.stack(losses).mean())
    return heads


def moco(za, zb, queue, tau, form):
    heads = []
    for a, b, keys in zip(za, zb, queue):
        a, b = normalize(a, dim=1), normalize(b.detach(), dim=1)
        heads.append(torch.stack([contrast(q, k, list(keys), tau, form) for q, k in zip(a, b)]).mean())
    return heads


def simsiam(p, z, tau):
    heads = []
    for pa, pb, za, zb in zip(*p, *z):
        loss = 0
        for p_, z_ in ((pa, zb), (pb, za)):
            for x, y in zip(normalize(p_, dim=1), normalize(z_.detach(), dim=1)):
                t = tau(x, y)
                loss = loss + (-x @ y / (2 * t) + BETA * omega(t, D)) / N
        heads.append(loss)
    return heads


def barlow(za, zb, tau):
    heads = []
    for a, b in zip(za, zb):
        a, b = (((z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt()).T for z in (a, b))
        loss = 0
        for i in range(D):
            for j in range(D):
                t, c = tau(a[i] / N**0.5, b[j] / N**0.5), a[i] @ b[j] / N
                term = (1 - c / t) ** 2 if i == j else 0.01 * c**2 / t
                loss = loss + term + BETA * omega(t, D) * (1 if i == j else -1)
        heads.append(loss)
    return heads


za = torch.randn(C, N, D)
zb = za + 0.5 * torch.randn(C, N, D)
queue = normalize(torch.randn(C, 7, D), dim=-1)
predicted = [za + 0.3 * torch.randn(C, N, D), zb + 0.3 * torch.randn(C, N, D)]
out = {"za": za, "zb": zb, "queue": queue, "pa": predicted[0], "pb": predicted[1]}


def record(name, w, loss):
    leaves = [z.clone().requires_grad_() for z in (za, zb)]
    heads = torch.stack(loss(*leaves))
    targets = [*leaves, *w.values()]
    grads = torch.autograd.grad(heads.sum(), targets, allow_unused=True)
    grads = [torch.zeros_like(x) if g is None else g for g, x in zip(grads, targets)]
    for key, value in zip(["za", "zb", *w], grads):
        out[f"{name}.grad.{key}"] = value
    out[f"{name}.per_head"] = heads.detach()


for rule in ("dot", "hadamard", "concat"):
    w = weights(rule, D)
    tau = lambda a, b: temperature(rule, w, a, b)
    for form in ("soft", "soft_hardest", "linear", "linear_with_positive"):
        record(f"{rule}.simclr.{form}", w, lambda a, b: simclr(a, b, tau, form))
    record(f"{rule}.moco.soft", w, lambda a, b: moco(a, b, queue, tau, "soft"))
    record(f"{rule}.moco.linear", w, lambda a, b: moco(a, b, queue, tau, "linear"))
    record(f"{rule}.simsiam", w, lambda a, b: simsiam((a, b), predicted, tau))
    w = weights(rule, N)
    record(f"{rule}.barlow", w, lambda a, b: barlow(a, b, lambda a, b: temperature(rule, w, a, b)))

# The bank starts at random; a batch of 3 goes into a queue of 6 in every step.
torch.set_default_dtype(torch.float32)
criterion = NTXentLoss(temperature=0.2, memory_bank_size=(6, D))
out["lightly.bank"] = criterion.memory_bank.bank.clone()
for step in range(3):
    q, k = torch.randn(3, D).requires_grad_(), torch.randn(3, D)
    loss = criterion(q, k)
    (grad,) = torch.autograd.grad(loss, q)
    values = {"q": q.detach(), "k": k, "loss": loss.detach(), "grad": grad, "bank": criterion.memory_bank.bank.clone()}
    out |= {f"lightly.{step}.{key}": value for key, value in values.items()}

path = Path(__file__).parents[2] / "crates/ssl/tests/fixtures/multi_head_contrastive.safetensors"
save_file({k: v.contiguous() for k, v in out.items()}, path)
