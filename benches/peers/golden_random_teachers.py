"""Golden values and gradients of the head on the sphere and of the distillation loss, by PyTorch's own modules, in f64.

Run: python benches/peers/golden_random_teachers.py
(writes crates/distill/tests/fixtures/random_teachers.safetensors)
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from torch.nn.utils import prune

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
B, D, H, K, M = 5, 6, 7, 4, 9
x = torch.randn(B, D)
out = {"x": x}


def weights():
    sizes = {"0": (H, D), "1": (H, H), "2": (K, H)}
    w = {f"{k}.weight": torch.randn(*s) / 2 for k, s in sizes.items()}
    return w | {f"{k}.bias": torch.randn(s[0]) / 4 for k, s in sizes.items()} | {"output.weight": torch.randn(M, K)}


def head(w, features=True, rows=True):
    z = F.gelu(F.linear(x, w["0.weight"], w["0.bias"]))
    z = F.gelu(F.linear(z, w["1.weight"], w["1.bias"]))
    z = F.linear(z, w["2.weight"], w["2.bias"])
    z = F.normalize(z, dim=-1) if features else z
    return F.linear(z, F.normalize(w["output.weight"], dim=-1) if rows else w["output.weight"])


student, teacher = weights(), weights()
out |= {f"student.{k}": v for k, v in student.items()} | {f"teacher.{k}": v for k, v in teacher.items()}
for name, features, rows in [("both", True, True), ("features", True, False), ("rows", False, True)]:
    w = {k: v.clone().requires_grad_() for k, v in student.items()}
    logits = head(w, features, rows)
    target = head(teacher, features, rows).softmax(1)
    loss = F.cross_entropy(logits, target)
    grads = torch.autograd.grad(loss, list(w.values()))
    out |= {f"{name}.logits": logits.detach(), f"{name}.loss": loss.detach()}
    out |= {f"{name}.grad.{k}": g for k, g in zip(w, grads)}

# Global magnitude pruning of all weights of the student, in three rounds of 40 %.
vector = torch.cat([student[k].flatten() for k in sorted(student)])
mask, amount = torch.ones_like(vector), 0.0
for _ in range(3):
    amount += (1 - amount) * 0.4
    mask = prune.L1Unstructured(amount=round(amount * len(vector))).compute_mask(vector, torch.ones_like(vector))
out["mask"] = mask

path = Path(__file__).parents[2] / "crates/distill/tests/fixtures/random_teachers.safetensors"
save_file({k: v.contiguous() for k, v in out.items()}, path)
