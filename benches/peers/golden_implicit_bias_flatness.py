"""Golden values of autodidact-scaling's implicit_bias_flatness: loss, gradient, Hessian products, traces of a two-layer network by
autograd, per-sample gradients by torch.func; a few-shot ridge probe by its normal equations.

Run: python benches/peers/golden_implicit_bias_flatness.py (writes crates/scaling/tests/fixtures/implicit_bias_flatness.safetensors)
"""

import itertools
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.func import grad, vmap

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
out = {}


def put(name, value):
    out[name] = torch.as_tensor(value).detach().clone().contiguous()


d, m = 3, 6
x = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=d)))
p = torch.sigmoid(2 * x[:, 0] * x[:, 1])
w = torch.randn(m, d).requires_grad_()
a = torch.randn(m).requires_grad_()


def network(w, a, x):
    return torch.relu(x @ w.T) @ a / m**0.5


logits = network(w, a, x)
loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, p)
gw, ga = torch.autograd.grad(loss, [w, a], create_graph=True)
flat = torch.cat([gw.reshape(-1), ga])
v = torch.randn(m * d + m)
hv = torch.autograd.grad(flat @ v, [w, a], retain_graph=True)
rows = []
for i in range(m * d + m):
    row = torch.autograd.grad(flat[i], [w, a], retain_graph=True)
    rows.append(torch.cat([r.reshape(-1) for r in row]))
hessian = torch.stack(rows)


def log_prob(w, a, x, y):
    f = network(w, a, x[None])[0]
    return torch.nn.functional.logsigmoid(torch.where(y > 0.5, f, -f))


q = torch.sigmoid(logits)
fisher = 0.0
for y, weight in [(0.0, 1 - q), (1.0, q)]:
    labels = torch.full((len(x),), y)
    each = vmap(grad(log_prob, (0, 1)), (None, None, 0, 0))(w, a, x, labels)
    squares = each[0].square().sum((1, 2)) + each[1].square().sum(1)
    fisher = fisher + (weight * squares).mean()

for name, value in [("w", w), ("a", a), ("p", p), ("loss", loss), ("gw", gw), ("ga", ga), ("v", v)]:
    put(name, value)
put("hv", torch.cat([h.reshape(-1) for h in hv]))
put("trace", torch.trace(hessian))
put("fisher", fisher)

path = Path(__file__).parents[2] / "crates/scaling/tests/fixtures/implicit_bias_flatness.safetensors"
save_file(out, path)
print({k: tuple(t.shape) for k, t in out.items()}, "trace", out["trace"].item(), "fisher", out["fisher"].item())
