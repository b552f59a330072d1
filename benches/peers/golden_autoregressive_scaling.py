"""Golden values of autodidact-scaling's autoregressive_scaling: the decoder with narrow attention, alternating local and strided masks and a
prefix token, written out in PyTorch; its losses by token; the scores of a classifier on the mean of its last activations.

Run: python benches/peers/golden_autoregressive_scaling.py (writes crates/scaling/tests/fixtures/autoregressive_scaling.safetensors)
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)

vocab, prefix, context, width, depth, heads, attention, mlp, stride, classes = 7, 3, 9, 16, 3, 2, 4, 16, 3, 4
start = {
    "tokens.weight": torch.randn(vocab + prefix, width),
    "positions": torch.randn(context, width) / 2,
    "head": torch.randn(vocab + prefix, width) / 2,
    "norm.weight": 1 + torch.randn(width) / 5,
    "norm.bias": torch.randn(width) / 5,
    "classifier.weight": torch.randn(classes, width) / 4,
    "classifier.bias": torch.randn(classes) / 4,
}
for i in range(depth):
    b = f"blocks.{i}."
    for name, shape in [("attention.qkv", (3 * attention, width)), ("attention.out", (width, attention)), ("up", (mlp, width)), ("down", (width, mlp))]:
        start[b + name + ".weight"] = torch.randn(shape) / shape[1] ** 0.5
        start[b + name + ".bias"] = torch.randn(shape[0]) / 5
    for name in ["norm1", "norm2"]:
        start[b + name + ".weight"] = 1 + torch.randn(width) / 5
        start[b + name + ".bias"] = torch.randn(width) / 5
w = start
tokens = torch.randint(0, vocab, (4, context + 1))
tokens[:, 0] = vocab + torch.arange(4) % prefix
inputs, targets = tokens[:, :-1].clone(), tokens[:, 1:].clone()

x = w["tokens.weight"][inputs] + w["positions"]
for i in range(depth):
    p = {k[len(f"blocks.{i}.") :]: v for k, v in w.items() if k.startswith(f"blocks.{i}.")}
    y = F.layer_norm(x, (width,), p["norm1.weight"], p["norm1.bias"], 1e-5)
    q, k, v = (y @ p["attention.qkv.weight"].T + p["attention.qkv.bias"]).split(attention, -1)
    out = torch.zeros(4, context, attention)
    each = attention // heads
    for h in range(heads):
        part = slice(h * each, (h + 1) * each)
        for a in range(context):
            seen = [b for b in range(a + 1) if (a - b < stride if i % 2 == 0 else (a - b) % stride == 0)]
            scores = torch.stack([(q[:, a, part] * k[:, b, part]).sum(-1) for b in seen], -1) / each**0.5
            weights = scores.softmax(-1)
            out[:, a, part] = sum(weights[:, n : n + 1] * v[:, b, part] for n, b in enumerate(seen))
    x = x + out @ p["attention.out.weight"].T + p["attention.out.bias"]
    y = F.layer_norm(x, (width,), p["norm2.weight"], p["norm2.bias"], 1e-5)
    y = F.gelu(y @ p["up.weight"].T + p["up.bias"], approximate="tanh")
    x = x + y @ p["down.weight"].T + p["down.bias"]
x = F.layer_norm(x, (width,), w["norm.weight"], w["norm.bias"], 1e-5)
logits = x @ w["head"][:vocab].T
losses = -logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
scores = x.mean(1) @ w["classifier.weight"].T + w["classifier.bias"]

out = {"start." + k: v for k, v in start.items()}
out |= {"inputs": inputs, "targets": targets, "losses": losses, "scores": scores}
path = Path(__file__).parents[2] / "crates/scaling/tests/fixtures/autoregressive_scaling.safetensors"
save_file({k: v.contiguous() if v.dtype == torch.int64 else v.float().contiguous() for k, v in out.items()}, path)
print(path, path.stat().st_size)
