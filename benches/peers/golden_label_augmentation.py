"""Golden values of SLA, its baselines and its transformations, from the equations in plain PyTorch.

Run: python benches/peers/golden_label_augmentation.py   (writes crates/ssl/tests/fixtures/label_augmentation.safetensors)
"""

from itertools import permutations
from pathlib import Path

import torch
from safetensors.torch import save_file

torch.manual_seed(0)
b, n, m, beta, t = 6, 5, 4, 0.7, 2.0
y = torch.randint(n, (b,))
# Joint logits as a tensor of image, copy, class, transformation; the rows and columns of the matrix are pairs of them.
u = (2 * torch.randn(b, m, n, m)).requires_grad_()
single = torch.randn(b, n).requires_grad_()
plain = torch.randn(b, m, n).requires_grad_()
which = torch.randn(b, m, m).requires_grad_()
out = {"y": y, "joint": u.reshape(b * m, n * m), "single": single}
out |= {"plain": plain.reshape(b * m, n), "which": which.reshape(b * m, m)}

rho = u.reshape(b, m, n * m).softmax(-1).reshape(b, m, n, m)
sla = -torch.stack([rho[i, j, y[i], j].log() for i in range(b) for j in range(m)]).mean()
own = torch.stack([u[:, j, :, j] for j in range(m)])
target = (own.mean(0) / t).softmax(-1).detach()
q = (single / t).log_softmax(-1)
kl = (target * (target.log() - q)).sum() / b
ce = -torch.stack([single.log_softmax(-1)[i, y[i]] for i in range(b)]).mean()
da = -torch.stack([plain[i, j].log_softmax(-1)[y[i]] for i in range(b) for j in range(m)]).mean()
mt = da - torch.stack([which[i, j].log_softmax(-1)[j] for i in range(b) for j in range(m)]).mean()
total = sla + beta * ce + t * t * kl

out |= {"sla": sla, "kl": kl, "ce": ce, "total": total, "da": da, "mt": mt, "aggregate": own.mean(0)}
out["sla.grad"] = torch.autograd.grad(sla, u, retain_graph=True)[0].reshape(b * m, n * m)
for name, g in zip(["joint", "single"], torch.autograd.grad(total, [u, single])):
    out[f"total.grad_{name}"] = g.reshape(out[name].shape)
for name, g in zip(["plain", "which"], torch.autograd.grad(mt, [plain, which])):
    out[f"mt.grad_{name}"] = g.reshape(out[name].shape)

x = torch.rand(2, 3, 4, 4)
turns = [torch.rot90(x, j, (2, 3)) for j in range(4)]
cyclic = [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
orders = {"rotation": turns, "rotation2": turns[::2]}
orders["color3"] = [x[:, c] for c in cyclic]
orders["color6"] = [x[:, list(c)] for c in permutations(range(3))]
orders["rotation2xcolor3"] = [r[:, c] for r in turns[::2] for c in cyclic]
orders["rotationxcolor6"] = [r[:, list(c)] for r in turns for c in permutations(range(3))]
out["x"] = x
out |= {k: torch.stack(v, 1).flatten(0, 1) for k, v in orders.items()}

path = Path(__file__).parents[2] / "crates/ssl/tests/fixtures/label_augmentation.safetensors"
save_file({k: v.detach().contiguous() for k, v in out.items()}, path)
