"""Golden values of implicit process rewards: from logits, by PyTorch in double precision, sequence by sequence.

Run: python benches/peers/golden_implicit_prm.py (writes crates/preference/tests/fixtures/implicit_prm.safetensors)
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

ROWS, LENGTH, VOCABULARY, BETA = 6, 9, 7, 0.3
generator = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


tokens = torch.randint(0, VOCABULARY, (ROWS, LENGTH), generator=generator)
logits = {"policy": 2 * normal(ROWS, LENGTH, VOCABULARY), "reference": 2 * normal(ROWS, LENGTH, VOCABULARY)}
# Prompts of one or two tokens, responses of three to seven.
first = torch.arange(ROWS) % 2 + 1
last = first + torch.tensor([3, 4, 5, 6, 7, 4])
ends = [sorted({int(a) + 1, (int(a) + int(b)) // 2, int(b) - 1}) for a, b in zip(first, last)]
each = {name: F.log_softmax(l, -1).gather(2, tokens[..., None])[..., 0] for name, l in logits.items()}
each["policy"].requires_grad_(True)
mask = torch.zeros(ROWS, LENGTH, dtype=torch.bool)
steps, totals = torch.full((ROWS, 3), torch.nan, dtype=torch.float64), []
for i in range(ROWS):
    mask[i, first[i] : last[i]] = True
    start = int(first[i])
    for s, end in enumerate(ends[i]):
        part = slice(start, end + 1)
        steps[i, s] = BETA * (each["policy"][i, part] - each["reference"][i, part]).sum().detach()
        start = end + 1
    whole = slice(int(first[i]), int(last[i]))
    totals.append((each["policy"][i, whole] - each["reference"][i, whole]).sum())
correct = torch.tensor([True, False, False, True, True, False])
# As the published code has it: cross entropy of probabilities (fine in double precision).
loss = F.binary_cross_entropy(torch.sigmoid(BETA * torch.stack(totals)), correct.double())
(gradient,) = torch.autograd.grad(loss, each["policy"])
out = {
    "policy": each["policy"].detach(),
    "reference": each["reference"],
    "mask": mask,
    "ends": torch.tensor([e + [-1] * (3 - len(e)) for e in ends]),
    "steps": steps.nan_to_num(0.0),
    "correct": correct,
    "loss": loss.detach().reshape(1),
    "gradient": gradient,
}
path = Path(__file__).parents[2] / "crates/preference/tests/fixtures/implicit_prm.safetensors"
save_file({k: v.contiguous() for k, v in out.items()}, path)
