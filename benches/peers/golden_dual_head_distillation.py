"""Golden values and gradients of BinaryKL and BinaryKL-Norm, of aligned gradients and of neural collapse, from their definitions in f64.

Run: python benches/peers/golden_dual_head_distillation.py
(writes crates/distill/tests/fixtures/dual_head_distillation.safetensors)
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.distributions import Bernoulli, kl_divergence

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
B, C, D = 6, 7, 5
s, t = 2 * torch.randn(B, C), 4 * torch.randn(B, C)
out = {"s": s, "t": t}


def binary_kl(a, t, tau=2.0):
    p, q = ((z / tau).sigmoid() for z in (a, t))
    return tau**2 * kl_divergence(Bernoulli(probs=q), Bernoulli(probs=p)).sum(1).mean()


def binary_kl_norm(a, t, tau=2.0):
    half = Bernoulli(probs=torch.full_like(a, 0.5))
    return tau**2 * kl_divergence(half, Bernoulli(probs=((a - t) / tau).sigmoid())).sum(1).mean()


for name, f in [("binary_kl", binary_kl), ("binary_kl_norm", binary_kl_norm)]:
    x = s.clone().requires_grad_()
    value = f(x, t)
    out |= {name: value.detach(), f"{name}.grad": torch.autograd.grad(value, x)[0]}



def one_way(g1, g2):
    """g2 without its part along g1, if they contradict each other."""
    return g2 - min(g1 @ g2, 0) / (g1 @ g1) * g1


# A network of one hidden layer and two heads, and a teacher whose loss contradicts the cross entropy in the hidden layer.
x, y = torch.randn(B, D), torch.randint(C, (B,))
parameters = w, main, aux = [torch.randn(*size).requires_grad_() for size in [(D, D), (C, D), (C, D)]]
h = (x @ w.T).tanh()
first = torch.nn.functional.cross_entropy(h @ main.T, y)


def flat_gradient(loss, parameters):
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(found, parameters)])


against = min((t.clone(), -t), key=lambda t: flat_gradient(first, [w]) @ flat_gradient(binary_kl_norm(h @ aux.T, t), [w]))
second = binary_kl_norm(h @ aux.T, against)
for scope, used in [("all_parameters", parameters), ("backbone_only", [w])]:
    g1, g2 = flat_gradient(first, used), flat_gradient(second, used)
    assert g1 @ g2 < 0
    out |= {f"{scope}.second": g1 + one_way(g1, g2), f"{scope}.both": one_way(g2, g1) + one_way(g1, g2)}
    out[f"{scope}.cosine"] = g1 @ g2 / (g1.norm() * g2.norm())
out |= {"x": x, "y": y, "w": w.detach(), "main": main.detach(), "aux": aux.detach(), "against": against}

# Neural collapse, class by class.
N = 40
labels = torch.arange(N) % 4
features, weights = torch.randn(N, D) + 2 * torch.randn(4, D)[labels], torch.randn(6, D)
groups = [features[labels == k] for k in range(4)]
means = torch.stack([g.mean(0) for g in groups])
within = sum(((g - g.mean(0)).T @ (g - g.mean(0))) for g in groups) / N
m = means - means.mean(0)
between = m.T @ m / 4
norms = m.norm(dim=1)
pairs = [abs((m[i] @ m[j]) / (norms[i] * norms[j]) + 1 / 3) for i in range(4) for j in range(4) if i != j]
used = weights[:4]
out |= {
    "features": features,
    "labels": labels,
    "weights": weights,
    "nc": torch.stack(
        [
            torch.trace(within @ torch.linalg.pinv(between)) / 4,
            norms.std(correction=0) / norms.mean(),
            torch.stack(pairs).mean(),
            (used / used.norm() - m / m.norm()).square().sum(),
        ]
    ),
}

path = Path(__file__).parents[2] / "crates/distill/tests/fixtures/dual_head_distillation.safetensors"
save_file({k: v.contiguous() for k, v in out.items()}, path)
