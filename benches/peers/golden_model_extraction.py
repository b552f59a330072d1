"""Golden values and gradients of the losses on lists, entry by entry in f64, and states and scores of the recommenders with torch's layers.

Run: python benches/peers/golden_model_extraction.py
(writes crates/distill/tests/fixtures/model_extraction.safetensors)
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

torch.manual_seed(0)
out = {}

# Losses: 5 rows, 9 items, lists of 4, the first 3 repaired.
N, I, K, C = 5, 9, 4, 3
scores = 2 * torch.randn(N, I, dtype=torch.float64)
lists = torch.stack([torch.randperm(I)[:K] + 1 for _ in range(N)])
negatives = torch.stack([torch.tensor([i for i in range(1, I + 1) if i not in row])[torch.randint(I - K, (K,))] for row in lists.tolist()])


def ranking(scores, m1=0.5, m2=0.7):
    order = [(m1 - (s[a - 1] - s[b - 1])).clamp(min=0) for s, row in zip(scores, lists) for a, b in zip(row, row[1:])]
    apart = [(m2 - (s[a - 1] - s[b - 1])).clamp(min=0) for s, row, other in zip(scores, lists, negatives) for a, b in zip(row, other)]
    return torch.stack(order).mean() + torch.stack(apart).mean()


def repair(scores, margin=0.7):
    pairs = []
    for s, row in zip(scores, lists[:, :C].tolist()):
        top = [i + 1 for i in sorted(range(I), key=lambda i: -s[i].item())[:C]]
        pairs += [(margin - (s[m - 1] - s[j - 1])).clamp(min=0) for m in row if m not in top for j in top if j not in row]
    return torch.stack(pairs).mean()


for name, f in [("ranking", ranking), ("repair", repair)]:
    x = scores.clone().requires_grad_()
    value = f(x)
    out |= {name: value.detach(), f"{name}.grad": torch.autograd.grad(value, x)[0]}
out |= {"scores": scores, "lists": lists, "negatives": negatives}

# Recommenders: 7 items, width 4, 2 heads, context 6.
V, D, H, T = 7, 4, 2, 5
sequences = torch.tensor([[3, 1, 7, 2, 5], [4, 4, 6, 0, 0]])
lengths = torch.tensor([5, 3])
out |= {"sequences": sequences, "lengths": lengths}


def transformer(prefix, tokens, allowed):
    """torch's encoder layer on embedded tokens; its weights go to the fixture under our names."""
    layer = nn.TransformerEncoderLayer(D, H, 4 * D, 0.0, "gelu", batch_first=True, norm_first=True)
    norm, embedding, positions, bias = nn.LayerNorm(D), torch.randn(V + 2, D), torch.randn(T + 2, D), torch.randn(V)
    for p in [*layer.parameters(), *norm.parameters()]:
        nn.init.normal_(p, 0.3, 0.6)
    attention = layer.self_attn
    names = {
        "norm1.weight": layer.norm1.weight, "norm1.bias": layer.norm1.bias, "norm2.weight": layer.norm2.weight, "norm2.bias": layer.norm2.bias,
        "qkv.weight": attention.in_proj_weight, "qkv.bias": attention.in_proj_bias,
        "out.weight": attention.out_proj.weight, "out.bias": attention.out_proj.bias,
        "up.weight": layer.linear1.weight, "up.bias": layer.linear1.bias, "down.weight": layer.linear2.weight, "down.bias": layer.linear2.bias,
    }  # fmt: skip
    out.update({f"{prefix}.blocks.0.{k}": v.detach().clone() for k, v in names.items()})
    out.update({f"{prefix}.norm.weight": norm.weight.detach(), f"{prefix}.norm.bias": norm.bias.detach()})
    out.update({f"{prefix}.tokens": embedding, f"{prefix}.positions": positions, f"{prefix}.bias": bias})
    x = embedding[tokens] + positions[: tokens.shape[1]]
    states = norm(layer(x, src_mask=~allowed.repeat_interleave(H, 0)))
    return states @ embedding[1 : V + 1].T + bias


with torch.no_grad():
    causal = torch.ones(T, T, dtype=torch.bool).tril().expand(2, T, T)
    out["sasrec.scores"] = transformer("sasrec", sequences, causal)
    masked = torch.cat([sequences, torch.zeros(2, 1, dtype=torch.long)], 1)
    masked[torch.arange(2), lengths] = V + 1
    visible = torch.arange(T + 1) <= lengths[:, None]
    filled = transformer("bert4rec", masked, visible[:, None, :].expand(2, T + 1, T + 1))
    out["bert4rec.scores"] = filled[torch.arange(2), lengths]

    # NARM, prefix by prefix.
    embedding, gru = torch.randn(V + 1, D), nn.GRU(D, 2 * D, batch_first=True)
    query, key, energy, decoder = torch.randn(2 * D, 2 * D), torch.randn(2 * D, 2 * D), torch.randn(1, 2 * D), torch.randn(D, 4 * D)
    h, _ = gru(embedding[sequences])
    rows = []
    for t in range(T):
        weight = (h[:, t, None] @ query.T + h[:, : t + 1] @ key.T).sigmoid() @ energy.T
        rows.append(torch.cat([(weight * h[:, : t + 1]).sum(1), h[:, t]], 1) @ decoder.T @ embedding[1:].T)
    out["narm.scores"] = torch.stack(rows, 1)
    out |= {"narm.tokens": embedding, "narm.query.weight": query, "narm.key.weight": key, "narm.energy.weight": energy, "narm.decoder.weight": decoder}
    out |= {f"narm.gru.{k}": v.clone() for k, v in gru.state_dict().items()}

path = Path(__file__).parents[2] / "crates/distill/tests/fixtures/model_extraction.safetensors"
save_file({k: v.detach().contiguous().clone() for k, v in out.items()}, path)
