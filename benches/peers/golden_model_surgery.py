"""Golden values of autodidact-unlearning's model_surgery: covariance and density of a class by torch.cov and MultivariateNormal, one block of a
vision transformer with an adapter by torch.nn, the loss that keeps features apart with its gradient.

Run: python benches/peers/golden_model_surgery.py (writes crates/unlearning/tests/fixtures/model_surgery.safetensors)
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.distributions import MultivariateNormal
from torch.nn import functional as F

torch.manual_seed(0)
out = {}


def put(name, value):
    out[name] = torch.as_tensor(value).detach().clone().contiguous()


# A class with fewer samples than features, so that the ridge decides.
features = torch.randn(6, 8, dtype=torch.float64) @ torch.randn(8, 8, dtype=torch.float64)
points = torch.randn(4, 8, dtype=torch.float64)
covariance = torch.cov(features.T) + 1e-2 * torch.eye(8, dtype=torch.float64)
full = MultivariateNormal(features.mean(0), covariance)
diagonal = MultivariateNormal(features.mean(0), torch.diag(torch.diag(covariance)))
put("memory.features", features)
put("memory.points", points)
put("memory.full", full.log_prob(points))
put("memory.diagonal", diagonal.log_prob(points))
put("memory.factor", torch.linalg.cholesky(covariance))

# One block: attention, then perceptron and adapter side by side.
width, heads, hidden, rank, scale = 16, 4, 32, 3, 0.7
block = nn.ModuleDict(
    {
        "norm1": nn.LayerNorm(width),
        "attention": nn.MultiheadAttention(width, heads, batch_first=True),
        "norm2": nn.LayerNorm(width),
        "up": nn.Linear(width, hidden),
        "down": nn.Linear(hidden, width),
    }
)
last = nn.LayerNorm(width)
patches = nn.Conv2d(1, width, 4, 4)
token, position = torch.randn(1, 1, width), torch.randn(1, 5, width)
for p in [*block.parameters(), *last.parameters(), *patches.parameters()]:
    nn.init.normal_(p, std=0.3)
adapter_down, adapter_up = nn.Linear(width, rank), nn.Linear(rank, width)
images = torch.randn(3, 1, 8, 8)
x = patches(images).flatten(2).transpose(1, 2)
x = torch.cat([token.expand(3, 1, width), x], 1) + position
n = block["norm1"](x)
x = x + block["attention"](n, n, n, need_weights=False)[0]
mlp = block["down"](F.gelu(block["up"](block["norm2"](x))))
plain = last(x + mlp)[:, 0]
adapted = last(x + mlp + scale * adapter_up(F.relu(adapter_down(x))))[:, 0]
weights = {
    "class": token,
    "position": position,
    "patches.weight": patches.weight,
    "patches.bias": patches.bias,
    "norm.weight": last.weight,
    "norm.bias": last.bias,
    "blocks.0.attention.qkv.weight": block["attention"].in_proj_weight,
    "blocks.0.attention.qkv.bias": block["attention"].in_proj_bias,
    "blocks.0.attention.out.weight": block["attention"].out_proj.weight,
    "blocks.0.attention.out.bias": block["attention"].out_proj.bias,
}
for layer in ["norm1", "norm2", "up", "down"]:
    weights[f"blocks.0.{layer}.weight"] = block[layer].weight
    weights[f"blocks.0.{layer}.bias"] = block[layer].bias
for name, value in weights.items():
    put(f"vit.{name}", value)
put("block.images", images)
put("block.plain", plain)
put("block.adapted", adapted)
for i, value in enumerate([adapter_down.weight, adapter_down.bias, adapter_up.weight, adapter_up.bias]):
    put(f"adapter.{i}", value.unsqueeze(0))

# Features, means of earlier classes, temperature 0.8.
batch = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
means = torch.randn(3, 4, dtype=torch.float64)
rows = torch.cat([means, batch])
loss = F.cross_entropy(rows @ rows.T / 0.8, torch.arange(8))
loss.backward()
put("orth.batch", batch)
put("orth.means", means)
put("orth.loss", loss)
put("orth.gradient", batch.grad)

path = Path(__file__).parents[2] / "crates/unlearning/tests/fixtures/model_surgery.safetensors"
path.parent.mkdir(parents=True, exist_ok=True)
save_file(out, str(path))
