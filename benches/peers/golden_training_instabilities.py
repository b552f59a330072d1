"""Golden values of autodidact-scaling's training_instabilities and monitors: the network with a layer norm of queries and keys, written out in
PyTorch; its loss with the z-loss; what the monitors see; three steps of torch.optim.AdamW with both kinds of weight decay.

Run: python benches/peers/golden_training_instabilities.py (writes crates/scaling/tests/fixtures/training_instabilities.safetensors)
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
out = {}


def put(name, value):
    out[name] = torch.as_tensor(value).detach().clone().contiguous()


vocab, context, width, depth, head = 11, 6, 16, 2, 4
heads = width // head
start = {"tokens.weight": torch.randn(vocab, width), "head": torch.randn(vocab, width) / 2, "norm.weight": 1 + torch.randn(width) / 5}
for i in range(depth):
    b = f"blocks.{i}."
    for name, shape in [
        ("attention.qkv.weight", (3 * width, width)),
        ("attention.out.weight", (width, width)),
        ("up.weight", (4 * width, width)),
        ("down.weight", (width, 4 * width)),
    ]:
        start[b + name] = torch.randn(shape) / shape[1] ** 0.5
    for name, n in [("norm1", width), ("norm2", width), ("attention.q_norm", head), ("attention.k_norm", head)]:
        start[b + name + ".weight"] = 1 + torch.randn(n) / 5
tokens, targets = torch.randint(0, vocab, (3, context)), torch.randint(0, vocab, (3, context))
put("tokens", tokens), put("targets", targets)
for name, t in start.items():
    put("start." + name, t)


def ln(x, gain):
    return F.layer_norm(x, gain.shape, gain, None, 1e-6)


def rotate(z):
    # Features i and i + head/2 turn together.
    angle = torch.outer(torch.arange(context), 10_000.0 ** (-2 * torch.arange(head // 2) / head))
    a, b = z[..., : head // 2], z[..., head // 2 :]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def network(w):
    x = w["tokens.weight"][tokens]
    seen = {}
    causal = torch.ones(context, context, dtype=torch.bool).tril()
    for i in range(depth):
        p = {k[len(f"blocks.{i}.") :]: v for k, v in w.items() if k.startswith(f"blocks.{i}.")}
        qkv = ln(x, p["norm1.weight"]) @ p["attention.qkv.weight"].T
        q, k, v = (z.view(3, context, heads, head).transpose(1, 2) for z in qkv.split(width, -1))
        q, k = rotate(ln(q, p["attention.q_norm.weight"])), rotate(ln(k, p["attention.k_norm.weight"]))
        scores = q @ k.transpose(-1, -2) / head**0.5
        if i == 0:
            cosine = F.cosine_similarity(q.unsqueeze(3), k.unsqueeze(2), dim=-1)[..., causal]
            seen = {
                "max_logit": scores[..., causal].max(),
                "query_norm": q.norm(dim=-1).mean(),
                "key_norm": k.norm(dim=-1).mean(),
                "cosine": cosine.square().mean().sqrt(),
            }
        y = scores.masked_fill(~causal, -torch.inf).softmax(-1) @ v
        x = x + y.transpose(1, 2).reshape(3, context, width) @ p["attention.out.weight"].T
        x = x + F.gelu(ln(x, p["norm2.weight"]) @ p["up.weight"].T, approximate="tanh") @ p["down.weight"].T
        if i == 0:
            seen["block_rms"] = x.square().mean().sqrt()
    return ln(x, w["norm.weight"]) @ w["head"].T, seen


def loss(w):
    logits, seen = network(w)
    log_z = torch.logsumexp(logits, -1)
    entropy = F.cross_entropy(logits.view(-1, vocab), targets.view(-1))
    return entropy + 0.01 * log_z.square().mean(), entropy, logits, log_z, seen


with torch.no_grad():
    total, entropy, logits, log_z, seen = loss(start)
put("loss", total), put("entropy", entropy), put("logits", logits), put("log_z", log_z.mean()), put("min_log_z", log_z.min())
for name, value in seen.items():
    put(name, value)

# Peak 0.02, schedule 0.5, 1, 0.25; lambda 1e-2 independent (over the peak), 0.3 coupled.
for kind, decay in [("independent", 1e-2 / 0.02), ("coupled", 0.3)]:
    w = {name: t.clone().requires_grad_() for name, t in start.items()}
    optimizer = torch.optim.AdamW(w.values(), betas=(0.9, 0.95), eps=1e-8, weight_decay=decay)
    for s in [0.5, 1.0, 0.25]:
        optimizer.zero_grad()
        loss(w)[0].backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * s
        optimizer.step()
    for name, t in w.items():
        put(f"{kind}.{name}", t)
    if kind == "coupled":
        put("gradient_rms", w["blocks.0.up.weight"].grad.square().mean().sqrt())
        put("gradient_norm", torch.cat([t.grad.flatten() for t in w.values()]).norm())
        state = optimizer.state[w["blocks.0.up.weight"]]
        m, v = state["exp_avg"] / (1 - 0.9**3), state["exp_avg_sq"] / (1 - 0.95**3)
        put("direction_rms", (m / (v.sqrt() + 1e-8)).square().mean().sqrt())

folder = Path(__file__).parents[2] / "crates/scaling/tests/fixtures"
save_file({k: v.float() if v.is_floating_point() else v for k, v in out.items()}, folder / "training_instabilities.safetensors")
