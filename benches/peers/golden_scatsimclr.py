"""Golden values of ScatSimCLR's encoder, projector and pretext heads, in PyTorch on Kymatio's scattering transform.

Run: python benches/peers/golden_scatsimclr.py   (writes crates/ssl/tests/fixtures/scatsimclr.safetensors; needs kymatio 0.3.0)
"""

from pathlib import Path

import scipy.special
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

# Kymatio imports a name that newer SciPy has dropped and that two-dimensional scattering does not use.
if not hasattr(scipy.special, "sph_harm"):
    scipy.special.sph_harm = None
from kymatio.torch import Scattering2D  # noqa: E402

SIDE, SCALES, ANGLES, STEM, STAGES, POOL = 16, 1, 4, 6, [(8, 2), (6, 1)], 4


def layer(a, b, kernel=3):
    return nn.ModuleDict({"conv": nn.Conv2d(a, b, kernel, padding=kernel // 2, bias=False), "norm": nn.BatchNorm2d(b)})


def apply(pair, x):
    return pair["norm"](pair["conv"](x))


class Block(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.add_module("0", layer(a, b))
        self.add_module("1", layer(b, b))
        if a != b:
            self.shortcut = layer(a, b, 1)

    def forward(self, x):
        first, second = (self.get_submodule(name) for name in "01")
        skip = apply(self.shortcut, x) if hasattr(self, "shortcut") else x
        return F.relu(apply(second, F.relu(apply(first, x))) + skip)


class Adapter(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.stem = layer(channels, STEM)
        widths = [STEM] + [w for w, n in STAGES for _ in range(n)]
        self.blocks = nn.ModuleList(Block(a, b) for a, b in zip(widths, widths[1:]))

    def forward(self, x):
        x = F.relu(apply(self.stem, x))
        for block in self.blocks:
            x = block(x)
        return F.adaptive_avg_pool2d(x, POOL).flatten(1)


def mlp(*widths):
    return nn.ModuleList(nn.ModuleDict({"linear": nn.Linear(a, b)}) for a, b in zip(widths, widths[1:]))


def run(layers, x):
    for i, each in enumerate(layers):
        x = each["linear"](x if i == 0 else F.relu(x))
    return x


def nt_xent(a, b, tau):
    z = F.normalize(torch.cat([a, b]), dim=1)
    n = len(a)
    s = (z @ z.T / tau).masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)
    return F.cross_entropy(s, torch.arange(2 * n).roll(n))


torch.manual_seed(0)
channels = 3 * (1 + SCALES * ANGLES)
features = STAGES[-1][0] * POOL**2
scattering = Scattering2D(SCALES, (SIDE, SIDE), L=ANGLES, max_order=2)
model = nn.ModuleDict(
    {
        "encoder": nn.ModuleDict({"adapter": Adapter(channels)}),
        "projector": mlp(features, 20, 12),
        "rotation": mlp(features, 512, 128, 4),
    }
)
for name, p in model.named_parameters():
    if "norm" in name:
        nn.init.uniform_(p, 0.5, 1.5)
    if "rotation" in name:
        # The head is wide: by a rule, its weights need not be in the fixture.
        wave = torch.sin(0.37 * torch.arange(p.numel(), dtype=torch.float64)) / p.shape[-1] ** 0.5
        p.data = wave.view_as(p).float()


def encode(x):
    return model["encoder"]["adapter"](scattering(x).flatten(1, 2))


out = {f"weights.{k}": v.clone() for k, v in model.state_dict().items() if "tracked" not in k and "rotation" not in k}
generator = torch.Generator().manual_seed(1)
xa, xb, x = (torch.rand(4, 3, SIDE, SIDE, generator=generator) for _ in range(3))
# Quarter turns, counter-clockwise, all four of each image in turn.
copies = torch.stack([x.rot90(j, (2, 3)) for j in range(4)], 1).flatten(0, 1)
contrastive = nt_xent(run(model["projector"], encode(xa)), run(model["projector"], encode(xb)), 0.5)
pretext = F.cross_entropy(run(model["rotation"], encode(copies)), torch.arange(4).repeat(4))
(contrastive + 0.3 * pretext).backward()
stem = model["encoder"]["adapter"].stem["conv"].weight
out |= {"xa": xa, "xb": xb, "x": x, "stem.grad": stem.grad}
out |= {"contrastive": contrastive.detach(), "pretext": pretext.detach()}
model.eval()
out["h"] = encode(xa).detach()

path = Path(__file__).parents[2] / "crates/ssl/tests/fixtures/scatsimclr.safetensors"
save_file({k: v.contiguous() for k, v in out.items()}, path)
