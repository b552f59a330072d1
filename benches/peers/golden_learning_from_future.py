"""Golden values of self-training that looks ahead, from loops over NumPy and PyTorch in f64.

Pixel losses are computed pixel by pixel; the trajectories of ST, FST-D and FST-W are those of a linear classifier with torch's own
AdamW, deep copies for what is cached, and the moving average written out.

Run: python benches/peers/golden_learning_from_future.py
(writes crates/distill/tests/fixtures/learning_from_future.safetensors)
"""

import copy
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
B, C, H, W = 2, 4, 5, 3
logits = 2 * torch.randn(B, C, H, W)
teacher_logits = 2 * torch.randn(B, C, H, W)
labels = torch.randint(C, (B, H, W))
labels[0, 0], labels[1, 2, 1] = 255, 255
weight = torch.rand(B, H, W)
out = {"logits": logits, "teacher_logits": teacher_logits, "labels": labels, "weight": weight}

x, total = logits.clone().requires_grad_(), 0.0
for b, i, j in np.ndindex(B, H, W):
    if labels[b, i, j] != 255:
        p = torch.exp(x[b, :, i, j]) / torch.exp(x[b, :, i, j]).sum()
        total = total - weight[b, i, j] * torch.log(p[labels[b, i, j]])
total = total / (B * H * W)
out |= {"pixel_ce": total.detach(), "pixel_ce.grad": torch.autograd.grad(total, x)[0]}

p = teacher_logits.softmax(1)
out["confidence"] = torch.tensor(np.mean([p[b, :, i, j].max() >= 0.7 for b, i, j in np.ndindex(B, H, W)]))
entropy = -(p * (p + 1e-10).log()).sum(1)
threshold = np.percentile(entropy[labels != 255].numpy(), 60)
out["dropped"] = ((entropy >= threshold) & (labels != 255)).to(torch.uint8)

# A linear classifier: labelled rows, unlabelled rows, hard labels by the teacher.
F, K, N, LR, MU = 6, 3, 8, 0.05, 0.9
rows = torch.randn(4, 2, N, F)
classes = torch.randint(K, (4, N))
start = torch.randn(K, F) / 2
out |= {"rows": rows, "classes": classes, "start": start}


class Run:
    def __init__(self, restore_optimizer=False):
        self.theta = start.clone().requires_grad_()
        self.phi = start.clone()
        self.opt = torch.optim.AdamW([self.theta], lr=LR, weight_decay=0.01)
        self.passes, self.restore_optimizer = 0, restore_optimizer

    def follow(self, value=None):
        mu = min(1 - 1 / (self.passes + 1), MU)
        self.phi = mu * self.phi + (1 - mu) * (self.theta.detach() if value is None else value)

    def step(self, i):
        (xs, xu), y = rows[i], classes[i]
        label = (xu @ self.phi.T).argmax(1)
        ce = torch.nn.functional.cross_entropy
        loss = ce(xs @ self.theta.T, y) + ce(xu @ self.theta.T, label)
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
        self.passes += 1

    def cache(self):
        self.cached = self.theta.detach().clone()
        self.moments = copy.deepcopy(self.opt.state_dict())

    def restore(self):
        with torch.no_grad():
            self.theta.copy_(self.cached)
        if self.restore_optimizer:
            self.opt.load_state_dict(copy.deepcopy(self.moments))

    def plain(self, i):
        self.step(i)
        self.follow()

    def deep(self, i, k, again):
        self.cache()
        for _ in range(k):
            self.follow()
            self.step(i)
        self.follow()
        self.restore()
        self.step(i)
        if again:
            self.follow()

    def wide(self, i, future):
        self.cache()
        students = []
        for n, f in enumerate(future):
            if n:
                self.restore()
            self.step(f)
            students.append(self.theta.detach().clone())
        self.follow(sum(students) / len(students))
        self.restore()
        self.step(i)
        self.follow()


for name in ["plain", "deep", "deep.again", "deep.optimizer", "wide"]:
    run = Run(name == "deep.optimizer")
    run.plain(0)
    for i in (1, 2, 3):
        if name == "plain":
            run.plain(i)
        elif name == "wide":
            run.wide(i, [(i + 1) % 4, (i + 2) % 4])
        else:
            run.deep(i, 2, name == "deep.again")
    out |= {f"{name}.theta": run.theta.detach(), f"{name}.phi": run.phi}

path = Path(__file__).parents[2] / "crates/distill/tests/fixtures/learning_from_future.safetensors"
save_file({k: v.contiguous() for k, v in out.items()}, path)
