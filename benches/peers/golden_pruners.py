"""Golden values of autodidact-pruning's pruners: masks of torch.nn.utils.prune (global and per-layer L1) on weights without ties.

Run: python benches/peers/golden_pruners.py (writes crates/pruning/tests/fixtures/pruners.safetensors)
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.utils import prune

torch.manual_seed(0)
out = {}
shapes = {"a": (6, 5), "b": (4, 3, 3, 3), "c": (7, 8)}


def layers():
    made = {}
    for name, shape in shapes.items():
        module = torch.nn.Module()
        module.register_parameter("weight", torch.nn.Parameter(out[name].clone()))
        made[name] = module
    return made


for name, shape in shapes.items():
    out[name] = torch.randn(shape)
# 0.5 and 0.25 of 30, 108 and 56 weights, or of 194: halves to even among them.
for amount in (0.1, 0.25, 0.5, 0.75, 0.9):
    modules = layers()
    prune.global_unstructured([(m, "weight") for m in modules.values()], prune.L1Unstructured, amount=amount)
    for name, module in modules.items():
        out[f"global/{amount}/{name}"] = module.weight_mask.contiguous()
    modules = layers()
    for name, module in modules.items():
        prune.l1_unstructured(module, "weight", amount)
        out[f"layer/{amount}/{name}"] = module.weight_mask.contiguous()

folder = Path(__file__).resolve().parents[2] / "crates/pruning/tests/fixtures"
folder.mkdir(parents=True, exist_ok=True)
save_file(out, folder / "pruners.safetensors")
