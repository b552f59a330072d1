"""Golden values of autodidact-core's curvature and tangent: Hessian, its product with a vector, eigenvalues and trace of a small network's
cross-entropy, and its tangent kernel, all by torch.func; centred alignment by its definition with explicit centring matrices.

Run: python benches/peers/golden_curvature.py (writes crates/core/tests/fixtures/curvature.safetensors)
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.func import grad, hessian, jacrev, jvp

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
out = {}


def put(name, value):
    out[name] = torch.as_tensor(value).detach().clone().contiguous()


names = ["w1", "b1", "w2"]
params = {"w1": torch.randn(5, 4), "b1": torch.randn(5), "w2": torch.randn(3, 5)}
x, labels = torch.randn(12, 4), torch.randint(0, 3, (12,))


def network(p, x):
    return torch.tanh(x @ p["w1"].T + p["b1"]) @ p["w2"].T


def loss(p):
    return torch.nn.functional.cross_entropy(network(p, x), labels)


def flat(tree):
    return torch.cat([tree[n].reshape(-1) for n in names])


for n in names:
    put(n, params[n])
put("x", x), put("labels", labels)

blocks = hessian(loss)(params)
size = {n: params[n].numel() for n in names}
h = torch.cat([torch.cat([blocks[a][b].reshape(size[a], size[b]) for b in names], 1) for a in names])
put("gradient", flat(grad(loss)(params)))
put("hessian", h)
put("eigenvalues", torch.linalg.eigvalsh(h).flip(0))
put("trace", torch.trace(h))
direction = {n: torch.randn_like(params[n]) for n in names}
put("v", flat(direction))
put("hv", flat(jvp(grad(loss), (params,), (direction,))[1]))

j = jacrev(network)(params, x)
j = torch.cat([j[n].reshape(12, 3, -1) for n in names], 2)
put("jacobian", j)
ntk = torch.einsum("nap,map->nm", j, j)
put("ntk", ntk)
centre = torch.eye(12) - torch.ones(12, 12) / 12
y = torch.nn.functional.one_hot(labels, 3).double()
for name, k, l in [
    ("none", ntk, y @ y.T),
    ("columns", centre @ ntk, centre @ y @ y.T @ centre),
    ("both", centre @ ntk @ centre, centre @ y @ y.T @ centre),
]:
    put(f"cka_{name}", (k * l).sum() / (k.norm() * l.norm()))

save_file(out, Path(__file__).parents[2] / "crates/core/tests/fixtures/curvature.safetensors")
