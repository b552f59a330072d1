"""Golden values of the losses of autodidact-ssl, from lightly and PyTorch.

Run: python benches/peers/golden_ssl.py   (writes crates/ssl/tests/fixtures/losses.safetensors)
"""

from pathlib import Path

import torch
from lightly.loss import BarlowTwinsLoss, NegativeCosineSimilarity, NTXentLoss, VICRegLoss
from safetensors.torch import save_file

torch.manual_seed(0)
n, d = 24, 16
base = torch.randn(n, d)
za, zb = base + 0.5 * torch.randn(n, d), 2 * base + 0.7 * torch.randn(n, d) + 1
out = {"za": za, "zb": zb}


def golden(name, loss):
    a, b = za.clone().requires_grad_(), zb.clone().requires_grad_()
    value = loss(a, b)
    grads = torch.autograd.grad(value, [a, b], allow_unused=True)
    out[f"{name}.loss"] = value.detach()
    for side, g in zip("ab", grads):
        if g is not None:
            out[f"{name}.grad_{side}"] = g


golden("barlow_twins", BarlowTwinsLoss(lambda_param=5e-3))
golden("nt_xent", NTXentLoss(temperature=0.5))
golden("nt_xent_cold", NTXentLoss(temperature=0.05))
golden("simsiam", lambda a, b: NegativeCosineSimilarity()(a, b.detach()))
golden("vicreg", VICRegLoss())
golden("vicreg_weighted", VICRegLoss(lambda_param=5.0, mu_param=10.0, nu_param=2.0))

path = Path(__file__).parents[2] / "crates/ssl/tests/fixtures/losses.safetensors"
path.parent.mkdir(parents=True, exist_ok=True)
save_file({k: v.contiguous() for k, v in out.items()}, path)
