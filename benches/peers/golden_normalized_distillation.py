"""Golden values and gradients of the distillation losses on logits, from their formulas in probability space, in f64.

Run: python benches/peers/golden_normalized_distillation.py
(writes crates/distill/tests/fixtures/normalized_distillation.safetensors)
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
B, C, F = 6, 7, 5
s, t, feature = 2 * torch.randn(B, C), 3 * torch.randn(B, C), torch.randn(B, F)
y = torch.randint(C, (B,))
head, bias = torch.randn(C, F) / 2, torch.randn(C) / 2
mixed = torch.zeros(B, C)
for i in range(B):
    a, b = torch.randperm(C)[:2]
    weight = torch.rand(()) if i else 1.0
    mixed[i, a], mixed[i, b] = weight, 1 - weight
out = {"s": s, "t": t, "y": y, "feature": feature, "head": head, "bias": bias, "mixed": mixed}


def rest(p, y):
    """The distribution over the classes but those of y [B, K], brought to sum 1."""
    p = p.scatter(1, y, 0)
    return p / p.sum(1, keepdim=True)


def cross(p, q):
    return -torch.where(p > 0, p * q.clamp_min(1e-300).log(), 0.0).sum(1)


def nkd(s, gamma, lam):
    S, T, at = s.softmax(1), t.softmax(1), y[:, None]
    target = -(T.gather(1, at) * S.gather(1, at).log()).mean()
    other = cross(rest((t / lam).softmax(1), at), rest((s / lam).softmax(1), at)).mean()
    return target + gamma * lam**2 * other


def kd(s, lam):
    S, T = (s / lam).softmax(1), (t / lam).softmax(1)
    return lam**2 * (T * (T.log() - S.log())).sum(1).mean()


def dkd(s, alpha, beta, lam):
    S, T, at = (s / lam).softmax(1), (t / lam).softmax(1), y[:, None]
    pair_s, pair_t = (torch.cat([p.gather(1, at), 1 - p.gather(1, at)], 1) for p in (S, T))
    n_s, n_t = rest(S, at), rest(T, at)
    target = (pair_t * (pair_t / pair_s).log()).sum(1).mean()
    other = (cross(n_t, n_s) - cross(n_t, n_t)).mean()
    return lam**2 * (alpha * target + beta * other)


def wsld(s, alpha, lam):
    ce = [-z.softmax(1).gather(1, y[:, None]).log() for z in (s.detach(), t)]
    weight = 1 - torch.exp(-ce[0] / (ce[1] + 1e-7))
    soft = cross((t / lam).softmax(1), (s / lam).softmax(1))
    return alpha * lam**2 * (weight[:, 0] * soft).mean()


def teacher_free(s, correct, lam):
    virtual = torch.full((B, C), (1 - correct) / (C - 1)).scatter(1, y[:, None], correct)
    V = virtual ** (1 / lam)
    V = V / V.sum(1, keepdim=True)
    S = (s / lam).softmax(1)
    return lam**2 * (V * (V / S).log()).sum(1).mean()


def uskd(s, feature, labels, log_scores, alpha=0.7, beta=0.3, mu=0.2, smoothing=0.1, exponent=1.2):
    if labels.is_floating_point():
        value, at = labels.sort(1, descending=True)
        value, at, soft = value[:, :2], at[:, :2], labels
        # A class without weight is no target.
        at = torch.where(value == 0, at[:, :1], at)
    else:
        value, at = torch.ones(B, 1), labels[:, None]
        soft = torch.nn.functional.one_hot(labels, C).double()
    S, W = s.softmax(1), (feature @ head.T + bias).softmax(1)
    P = torch.where(value == 0, 0.0, S.gather(1, at) ** 2).detach()
    P = torch.where(value == 0, 0.0, P + value - P.mean(0))
    target = -(P * S.gather(1, at).log()).sum(1).mean()
    weak = cross((1 - smoothing) * soft + smoothing / C, W).mean()
    ranked = S.log() if log_scores else S
    is_target = torch.zeros(B, C).scatter(1, at, 1)
    score = sum(p / (1 - (p * is_target).sum(1, keepdim=True) + 1e-6) for p in (W, ranked))
    rank = 1 + (score[:, None, :] > score[:, :, None]).sum(2)
    z = rest(rank.double() ** -exponent, at)
    other = cross(z, rest(S, at)).mean()
    return alpha * target + beta * other + mu * weak


cases = {
    "nkd.imagenet": lambda s: nkd(s, 1.5, 1.0),
    "nkd.cifar100": lambda s: nkd(s, 3.5, 3.0),
    "kd": lambda s: kd(s, 4.0),
    "dkd": lambda s: dkd(s, 1.0, 8.0, 4.0),
    "wsld": lambda s: wsld(s, 2.25, 4.0),
    "teacher_free": lambda s: teacher_free(s, 0.99, 20.0),
}
for name, f in cases.items():
    x = s.clone().requires_grad_()
    value = f(x)
    out |= {name: value.detach(), f"{name}.grad": torch.autograd.grad(value, x)[0]}
for name, labels, log_scores in [("hard", y, False), ("log", y, True), ("mixed", mixed, False)]:
    x, f = s.clone().requires_grad_(), feature.clone().requires_grad_()
    value = uskd(x, f, labels, log_scores)
    gx, gf = torch.autograd.grad(value, (x, f))
    out |= {f"uskd.{name}": value.detach(), f"uskd.{name}.grad": gx, f"uskd.{name}.feature_grad": gf}

path = Path(__file__).parents[2] / "crates/distill/tests/fixtures/normalized_distillation.safetensors"
save_file({k: v.contiguous() for k, v in out.items()}, path)
