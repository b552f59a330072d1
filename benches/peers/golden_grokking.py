"""Golden values of `grokking`: the quadratic network's tangent kernel by torch.func, its gradient descent by autograd, its linearisation
trained by autograd, regression with the initial kernel by torch.linalg, alignment with explicit centring matrices.

Run: python benches/peers/golden_grokking.py (writes crates/scaling/tests/fixtures/grokking.safetensors)
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.func import jacrev

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
D, N, P, T, ALPHA, EPS, STEPS = 4, 9, 12, 7, 2.0, 0.5, 60
out = {}


def put(name, value):
    out[name] = torch.as_tensor(value).detach().clone().contiguous()


w0 = torch.randn(N, D)
beta = torch.randn(D)
x, x_test = torch.randn(P, D) / D**0.5, torch.randn(T, D) / D**0.5
y, y_test = 0.5 * (x @ beta) ** 2, 0.5 * (x_test @ beta) ** 2


def network(w, x):
    h = x @ w.T
    return ALPHA / N * (h + EPS / 2 * h * h).sum(1)


def kernel(w, a, b):
    rows = [jacrev(network)(w, t).reshape(len(t), -1) for t in (a, b)]
    return rows[0] @ rows[1].T


def cka(k, y):
    c = torch.eye(len(y)) - 1 / len(y)
    k, y = c @ k @ c, c @ y
    return y @ k @ y / (k.norm() * (y @ y))


eta = N / ALPHA**2
for name, value in dict(w=w0, beta=beta, x=x, y=y, x_test=x_test, y_test=y_test).items():
    put(name, value)
put("ntk", kernel(w0, x_test, x))
put("cka", cka(kernel(w0, x, x), y))

for name, centre, decay in [("plain", False, 0.0), ("centred", True, 0.0), ("decay", False, 0.01)]:
    w = w0.clone().requires_grad_()
    origin = (lambda t: network(w0, t)) if centre else (lambda t: 0.0)
    for _ in range(STEPS):
        loss = ((network(w, x) - origin(x) - y) ** 2).mean()
        (g,) = torch.autograd.grad(loss, w)
        with torch.no_grad():
            w.mul_(1 - decay).sub_(eta * g)
    put(f"{name}.w", w)
    put(f"{name}.train", ((network(w, x) - origin(x) - y) ** 2).mean())
    put(f"{name}.test", ((network(w, x_test) - origin(x_test) - y_test) ** 2).mean())
    put(f"{name}.cka", cka(kernel(w.detach(), x, x), y))
    k0 = kernel(w0, x, x)
    put(f"{name}.drift", (kernel(w.detach(), x, x) - k0).norm() / k0.norm())

# The linearised network, trained step by step.
j, j_test = [jacrev(network)(w0, t).reshape(len(t), -1) for t in (x, x_test)]
theta = torch.zeros(N * D)
for _ in range(STEPS):
    theta -= eta * 2 / P * j.T @ (network(w0, x) + j @ theta - y)
put("lazy.train", ((network(w0, x) + j @ theta - y) ** 2).mean())
put("lazy.test", ((network(w0, x_test) + j_test @ theta - y_test) ** 2).mean())
put("lazy.distance", theta.norm())

k = j @ j.T
solution = torch.linalg.solve(k + 1e-6 * k.diagonal().mean() * torch.eye(P), y - network(w0, x))
put("ridge.test", ((network(w0, x_test) + j_test @ j.T @ solution - y_test) ** 2).mean())
put("ridge.difficulty", (y - network(w0, x)) @ solution)

save_file(out, Path(__file__).parents[2] / "crates/scaling/tests/fixtures/grokking.safetensors")
