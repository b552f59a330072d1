"""Golden values of Mixed Barlow Twins, from the formula written out in PyTorch (f64).

Run: python benches/peers/golden_mixed_barlow_twins.py
(writes crates/ssl/tests/fixtures/mixed_barlow_twins.safetensors)
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)


def standardised(z, official):
    if official:
        z = z / z.norm(dim=1, keepdim=True)
        return (z - z.mean(0)) / z.std(0)
    return (z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt()


def loss(za, zb, zm, alpha, perm, official, weight):
    n, d = za.shape
    a, b, m = (standardised(z, official) for z in (za, zb, zm))
    c = a.T @ b / n
    twins = sum((1 - c[i, j]) ** 2 if i == j else c[i, j] ** 2 / 128 for i in range(d) for j in range(d))
    shuffled = b[perm]
    g_ma = (alpha * a.T @ a + (1 - alpha) * shuffled.T @ a) / n
    g_mb = (alpha * a.T @ b + (1 - alpha) * shuffled.T @ b) / n
    reg = [((m.T @ z / n - g) ** 2).sum() for z, g in ((a, g_ma), (b, g_mb))]
    return twins + weight / 128 * sum(reg), *reg, g_ma, g_mb


out = {}
for shape, (n, d) in {"narrow": (24, 9), "wide": (8, 20)}.items():
    base = torch.randn(n, d)
    za, zb = base + 0.5 * torch.randn(n, d), 2 * base + 0.7 * torch.randn(n, d) + 1
    perm, alpha = torch.randperm(n), torch.rand(())
    zm = alpha * za + (1 - alpha) * zb[perm] + 0.3 * torch.randn(n, d)
    out |= {f"{shape}.{k}": v for k, v in {"za": za, "zb": zb, "zm": zm, "perm": perm, "alpha": alpha}.items()}
    for form, official in {"default": False, "official": True}.items():
        leaves = [z.clone().requires_grad_() for z in (za, zb, zm)]
        names = ["total", "reg_a", "reg_b", "g_ma", "g_mb"]
        values = dict(zip(names, loss(*leaves, alpha, perm, official, weight=4)))
        grads = dict(zip(["grad_a", "grad_b", "grad_m"], torch.autograd.grad(values["total"], leaves)))
        out |= {f"{shape}.{form}.{k}": v.detach() for k, v in (values | grads).items()}

path = Path(__file__).parents[2] / "crates/ssl/tests/fixtures/mixed_barlow_twins.safetensors"
save_file({k: v.contiguous() for k, v in out.items()}, path)
