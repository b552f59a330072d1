"""Golden values of autodidact-core's nn::Seq2Seq: torch.nn.Transformer with norms first, under the same weights, on a padded batch; its loss,
some gradients, and greedy continuations computed without a cache.

Run: python benches/peers/golden_seq2seq.py (writes crates/core/tests/fixtures/seq2seq.safetensors)
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
width, heads, hidden, layers, start, end = 16, 4, 24, 2, 1, 2
source_vocab, target_vocab = 13, 11

model = nn.Transformer(width, heads, layers, layers, hidden, dropout=0.0, activation="relu", batch_first=True, norm_first=True)
model.eval()
tables = {"source": torch.randn(source_vocab, width) / 4, "target": torch.randn(target_vocab, width) / 4}
with torch.no_grad():
    for name, p in model.named_parameters():
        # Gains near 1, everything else drawn, so that nothing can hide behind a zero.
        p.copy_(1 + torch.randn_like(p) / 5 if "norm" in name and name.endswith("weight") else torch.randn_like(p) / (3 if p.dim() > 1 else 5))
for t in tables.values():
    t.requires_grad_()


def positions(length):
    place, feature = torch.arange(length).unsqueeze(1), torch.arange(0, width, 2)
    angle = place * 10_000.0 ** (-feature / width)
    out = torch.zeros(length, width)
    out[:, 0::2], out[:, 1::2] = angle.sin(), angle.cos()
    return out


def embed(name, tokens):
    return tables[name][tokens] * math.sqrt(width) + positions(tokens.shape[1])


def logits(source, mask, inputs):
    causal = nn.Transformer.generate_square_subsequent_mask(inputs.shape[1])
    hidden = model(
        embed("source", source), embed("target", inputs), tgt_mask=causal, src_key_padding_mask=~mask, memory_key_padding_mask=~mask
    )
    return hidden @ tables["target"].T


source = torch.randint(3, source_vocab, (5, 7))
mask = torch.arange(7) < torch.tensor([7, 4, 6, 2, 7]).unsqueeze(1)
source[~mask] = 0
target = torch.randint(3, target_vocab, (5, 6))
for row, length in enumerate([5, 3, 2, 4, 1]):
    target[row, length], target[row, length + 1 :] = end, -1
inputs = torch.cat([torch.full((5, 1), start), target[:, :-1]], 1).clamp_min(0)
out = logits(source, mask, inputs)
loss = F.cross_entropy(out.reshape(-1, target_vocab), target.reshape(-1), ignore_index=-1)
loss.backward()

greedy = torch.full((5, 1), start)
with torch.no_grad():
    for _ in range(9):
        greedy = torch.cat([greedy, logits(source, mask, greedy)[:, -1].argmax(-1, keepdim=True)], 1)
greedy = greedy[:, 1:]

saved = {"tokens": source, "mask": mask, "targets": target, "inputs": inputs, "logits": out, "loss": loss, "greedy": greedy}
for name in tables:
    saved["weights." + name], saved["grads." + name] = tables[name], tables[name].grad
for name, p in model.named_parameters():
    side, rest = name.split(".", 1)
    rest = rest.removeprefix("layers.")
    for theirs, ours in [
        ("self_attn.in_proj_", "attention.qkv."),
        ("self_attn.out_proj", "attention.out"),
        ("multihead_attn.out_proj", "cross.out"),
        ("linear1", "up"),
        ("linear2", "down"),
    ]:
        rest = rest.replace(theirs, ours)
    parts = {rest: p}
    grads = {rest: p.grad}
    if "multihead_attn.in_proj" in rest:
        cross = lambda part: rest.replace("multihead_attn.in_proj_", f"cross.{part}.")
        parts = {cross("query"): p[:width], cross("memory"): p[width:]}
        grads = {cross("query"): p.grad[:width], cross("memory"): p.grad[width:]}
    for k, v in parts.items():
        saved[f"weights.{side}.{k}"], saved[f"grads.{side}.{k}"] = v, grads[k]
folder = Path(__file__).parents[2] / "crates/core/tests/fixtures"
as_saved = lambda t: (t.float() if t.is_floating_point() else t).detach().clone().contiguous()
save_file({k: as_saved(v) for k, v in saved.items()}, folder / "seq2seq.safetensors")
print(loss.item(), greedy)
