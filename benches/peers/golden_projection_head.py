"""Golden values of the supervised contrastive loss (pytorch-metric-learning), the spectral contrastive loss (its double sum,
term by term) and of gradient descent on the two models of autodidact-ssl's projection_head (by autograd on the population's
loss).

Run: pip install pytorch-metric-learning==2.9.0; python benches/peers/golden_projection_head.py
(writes crates/ssl/tests/fixtures/projection_head.safetensors)
"""

from pathlib import Path

import torch
from pytorch_metric_learning.losses import SupConLoss
from safetensors.torch import save_file

torch.manual_seed(0)
out = {}


def put(name, value):
    out[name] = value.detach().clone().contiguous()


# Losses: value and gradient.
n, d = 20, 6
z = 2 * torch.randn(n, d) + 0.3
labels = torch.randint(0, 4, (n,))
labels[7] = 9  # alone
put("supcon.z", z), put("supcon.labels", labels)
for name, tau in [("supcon", 0.5), ("supcon_cold", 0.07)]:
    x = z.clone().requires_grad_()
    loss = SupConLoss(temperature=tau)(x, labels)
    loss.backward()
    put(f"{name}.loss", loss), put(f"{name}.grad", x.grad)

for name, (n, d) in {"spectral_narrow": (12, 3), "spectral_wide": (5, 17)}.items():
    a = torch.randn(n, d, dtype=torch.float64).requires_grad_()
    b = torch.randn(n, d, dtype=torch.float64).requires_grad_()
    positive = sum(a[i] @ b[i] for i in range(n)) / n
    negative = sum((a[i] @ b[j]) ** 2 for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    loss = negative - 2 * positive
    loss.backward()
    put(f"{name}.a", a), put(f"{name}.b", b), put(f"{name}.loss", loss)
    put(f"{name}.grad_a", a.grad), put(f"{name}.grad_b", b.grad)

# Three linear layers, 50 steps, full covariances.
m = torch.randn(4, 4, dtype=torch.float64)
sigma = m @ m.T / 4 + torch.eye(4, dtype=torch.float64)
q = torch.randn(4, 4, dtype=torch.float64)
c = q @ q.T / 8
weights = [(0.5 * torch.randn(s, dtype=torch.float64)).requires_grad_() for s in [(5, 4), (5, 5), (3, 5)]]
put("linear.sigma", sigma), put("linear.c", c)
for i, w in enumerate(weights):
    put(f"linear.start{i}", w)
for _ in range(50):
    w = weights[2] @ weights[1] @ weights[0]
    a = w.T @ w
    loss = -2 * torch.trace(a @ c) + torch.trace(a @ sigma @ a @ sigma)
    grads = torch.autograd.grad(loss, weights)
    with torch.no_grad():
        for w, g in zip(weights, grads):
            w -= 0.01 * g
for i, w in enumerate(weights):
    put(f"linear.end{i}", w)

# Diagonal units: active, negative, in the lower and in the upper dead zone.
phi = torch.tensor([1.0, 0.7, 2.0, 1.3], dtype=torch.float64)
alpha = torch.tensor([0.2, 0.5, 0.1, 1.0], dtype=torch.float64)
w1 = torch.tensor([1.2, -1.5, 0.04, 0.9], dtype=torch.float64).requires_grad_()
w2 = torch.tensor([1.1, 0.9, 1.0, 0.1], dtype=torch.float64).requires_grad_()
put("diagonal.w1", w1), put("diagonal.w2", w2)


def sym(t, b):
    return torch.relu(t - b) - torch.relu(-t - b)


for _ in range(100):
    z = sym(w2 * sym(w1 * phi, 0.1), 0.25)
    loss = (z**4 - 2 * (1 - alpha) ** 2 * z**2).sum()
    g1, g2 = torch.autograd.grad(loss, (w1, w2))
    with torch.no_grad():
        w1 -= 0.02 * g1
        w2 -= 0.02 * g2
put("diagonal.end_w1", w1), put("diagonal.end_w2", w2)

save_file(out, Path(__file__).parents[2] / "crates/ssl/tests/fixtures/projection_head.safetensors")
