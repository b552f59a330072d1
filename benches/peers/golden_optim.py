"""Golden trajectories of PyTorch's optimizers: 50 steps on a small regression, in f64.

Run: python benches/peers/golden_optim.py   (writes crates/core/tests/fixtures/optim.safetensors)

The network is y = w2 tanh(w1 x + b1) + b2 with mean squared error; parameters come in two groups (weights and biases) with
their own learning rate and weight decay; the learning rate falls linearly, and gradients are clipped in one of the cases.
LARS is not in PyTorch: its trajectory follows the update rule of the Barlow Twins paper's code, written out here.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

STEPS = 50
torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
x, y = torch.randn(32, 3), torch.randn(32, 2)
init = {"w1": torch.randn(5, 3), "b1": torch.randn(5), "w2": torch.randn(2, 5), "b2": torch.randn(2)}
out = {"x": x, "y": y, **{f"init.{k}": v for k, v in init.items()}}


def loss(p):
    return ((torch.tanh(x @ p["w1"].T + p["b1"]) @ p["w2"].T + p["b2"] - y) ** 2).mean()


def run(name, make, lr, clip=None):
    p = {k: v.clone().requires_grad_() for k, v in init.items()}
    weights, biases = [p["w1"], p["w2"]], [p["b1"], p["b2"]]
    step = make(weights, biases)
    for i in range(STEPS):
        for t in p.values():
            t.grad = None
        loss(p).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(list(p.values()), clip)
        step(lr * (1 - i / STEPS))
        if i in (0, 9, STEPS - 1):
            for k, t in p.items():
                out[f"{name}.{i + 1}.{k}"] = t.detach().clone()


def torch_optim(cls, **kwargs):
    def make(weights, biases):
        opt = cls([{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}], lr=1.0, **kwargs)

        def step(lr):
            opt.param_groups[0]["lr"], opt.param_groups[1]["lr"] = lr, 0.3 * lr
            opt.step()

        return step

    return make


def lars(weights, biases, momentum=0.9, eta=0.02):
    buffers = {}

    @torch.no_grad()
    def step(lr):
        for group, scale, decay, adapt in ((weights, 1.0, 0.1, True), (biases, 0.3, 0.0, False)):
            for p in group:
                d = p.grad + decay * p
                if adapt:
                    d = d * (eta * p.norm() / d.norm())
                mu = buffers.setdefault(p, torch.zeros_like(p))
                mu.mul_(momentum).add_(d)
                p.sub_(lr * scale * mu)

    return step


sgd, adam, adamw = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
run("sgd", torch_optim(sgd), 0.1)
run("momentum", torch_optim(sgd, momentum=0.9), 0.05)
run("nesterov", torch_optim(sgd, momentum=0.9, nesterov=True), 0.05)
run("clipped", torch_optim(sgd, momentum=0.9), 0.05, clip=0.1)
run("adam", torch_optim(adam, betas=(0.9, 0.95)), 0.02)
run("adamw", torch_optim(adamw, betas=(0.9, 0.95)), 0.02)
run("lars", lars, 0.5)

path = Path(__file__).parents[2] / "crates/core/tests/fixtures/optim.safetensors"
path.parent.mkdir(parents=True, exist_ok=True)
save_file({k: v.contiguous() for k, v in out.items()}, path)
