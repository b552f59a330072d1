"""Golden values of dataset distillation: a ConvNet of PyTorch modules, its gradient penalty, gradient and distribution matching,
and one outer step of trajectory matching with momentum, balancing and an intermediate epoch, differentiated by autograd. In f64.

Run: python benches/peers/golden_smooth_trajectories.py
(writes crates/distill/tests/fixtures/smooth_trajectories.safetensors)
"""

import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
WIDTH, CLASSES, CHANNELS, SIDE = 4, 3, 2, 8


def block(channels):
    norm = nn.GroupNorm(WIDTH, WIDTH)
    nn.init.normal_(norm.weight, 1, 0.3)
    nn.init.normal_(norm.bias, 0, 0.3)
    return [nn.Conv2d(channels, WIDTH, 3, padding=1), norm, nn.ReLU(), nn.AvgPool2d(2)]


net = nn.Sequential(*block(CHANNELS), *block(WIDTH), nn.Flatten(), nn.Linear(WIDTH * (SIDE // 4) ** 2, CLASSES))
names, shapes = zip(*[(n, p.shape) for n, p in net.named_parameters()])
theta = nn.utils.parameters_to_vector(net.parameters()).detach()


def unflatten(theta):
    parts = theta.split([math.prod(s) for s in shapes])
    return {n: p.view(s) for n, p, s in zip(names, parts, shapes)}


def logits(theta, x):
    return functional_call(net, unflatten(theta), (x,))


def features(theta, x):
    head = {n.removeprefix("0."): p for n, p in unflatten(theta).items()}
    return functional_call(net[:-1], {n: p for n, p in head.items() if not n.startswith("9.")}, (x,))


x, y = torch.randn(6, CHANNELS, SIDE, SIDE), torch.arange(6) % CLASSES
real, real_y = torch.randn(9, CHANNELS, SIDE, SIDE), torch.arange(9) % CLASSES
out = {"theta": theta, "x": x, "y": y, "real": real, "real_y": real_y, "logits": logits(theta, x)}

# The penalty on the gradient with respect to the images, and its gradient.
for name, dims in (("pixel", (1,)), ("image", (1, 2, 3))):
    t, images = theta.clone().requires_grad_(), x.clone().requires_grad_()
    (j,) = torch.autograd.grad(logits(t, images).sum(), images, create_graph=True)
    penalty = 2 * (torch.linalg.vector_norm(j, dim=dims) - 1).square().mean()
    (grad,) = torch.autograd.grad(penalty, t)
    out |= {f"penalty_{name}": penalty.detach(), f"penalty_{name}_grad": grad}

# Gradient and distribution matching, class by class.
for name in ("gradient", "distribution"):
    images, total = x.clone().requires_grad_(), 0
    for c in range(CLASSES):
        mine, theirs = images[y == c], real[real_y == c]
        if name == "distribution":
            total = total + (features(theta, theirs).mean(0) - features(theta, mine).mean(0)).square().sum()
            continue
        t = theta.clone().requires_grad_()
        label = torch.full((len(theirs),), c)
        (g_real,) = torch.autograd.grad(cross_entropy(logits(t, theirs), label), t)
        (g_mine,) = torch.autograd.grad(cross_entropy(logits(t, mine), label[: len(mine)]), t, create_graph=True)
        for n, a in unflatten(g_mine).items():
            b = unflatten(g_real)[n]
            if a.dim() > 1:
                a, b = a.flatten(1), b.flatten(1)
                total = total + (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)).sum()
    (grad,) = torch.autograd.grad(total, images)
    out |= {name: total.detach(), f"{name}_grad": grad}

# Trajectory matching: 5 steps for 2 epochs from epoch 1 of starts below 4, all images in every step.
path = theta + 0.05 * torch.randn(4, len(theta)).cumsum(0)
images, a = x.clone().requires_grad_(), torch.tensor(0.03, requires_grad=True)
start, factor = path[1], 1 / math.log(2 - 1 + 8, 5)
t, v, students = start.clone().requires_grad_(), 0, []
for _ in range(5):
    (g,) = torch.autograd.grad(factor * cross_entropy(logits(t, images), y), t, create_graph=True)
    v = 0.9 * v + g
    t = t - a * v
    students.append(t)
last = (students[-1] - path[3]).square().sum() / (start - path[3]).square().sum()
between = (students[1] - path[2]).square().sum() / (start - path[2]).square().sum()
grads = torch.autograd.grad(last + between, (images, a))
out |= {"path": path, "last": last.detach(), "between": between.detach(), "match_grad_x": grads[0], "match_grad_a": grads[1]}

to = Path(__file__).parents[2] / "crates/distill/tests/fixtures/smooth_trajectories.safetensors"
save_file({k: v.detach().clone().contiguous() for k, v in out.items()}, to)
