"""Golden values of SCL: trl's DPO mixed with its likelihood of chosen responses; McNemar's test by scipy's distribution.

Needs the packages trl (1.16) and transformers beside requirements.txt. Run: python benches/peers/golden_self_correction.py
(writes crates/preference/tests/fixtures/self_correction.safetensors)
"""

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import torch
from safetensors.torch import save_file
from scipy.stats import chi2
from trl import DPOTrainer

PAIRS, LENGTH, BETA = 5, 7, 0.3
generator = torch.Generator().manual_seed(1)
lengths = torch.randint(2, LENGTH + 1, (2 * PAIRS,), generator=generator)
mask = torch.arange(LENGTH)[None] < lengths[:, None]
policy = (-0.05 - 2 * torch.rand(2 * PAIRS, LENGTH, generator=generator, dtype=torch.float64)) * mask
reference = (policy - 0.5 * torch.randn(policy.shape, generator=generator, dtype=torch.float64)) * mask
policy.requires_grad_(True)
out = {"lengths": lengths.double(), "policy": policy.detach().sum(1), "reference": reference.sum(1)}

zeros = torch.zeros_like(policy)
outputs = SimpleNamespace(log_probs=policy, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())
chosen, rejected = out["reference"].chunk(2)
# Completions begin at the second token, as trl shifts by one.
inputs = {
    "completion_mask": torch.nn.functional.pad(mask.long(), (1, 0)),
    "input_ids": torch.ones(2 * PAIRS, LENGTH + 1, dtype=torch.long),
    "attention_mask": torch.nn.functional.pad(mask.long(), (1, 0), value=1),
    "ref_chosen_logps": chosen,
    "ref_rejected_logps": rejected,
}
for mix in (0.1, 0.5):
    trainer = MagicMock(
        beta=BETA, ld_alpha=None, use_weighting=False, aux_loss_enabled=False, precompute_ref_logps=True,
        loss_types=["sigmoid", "sft"], loss_weights=[1 - mix, mix], label_smoothing=0.0, f_divergence_type="reverse_kl",
    )
    trainer.accelerator.device = torch.device("cpu")
    trainer.accelerator.gather_for_metrics = lambda x: x
    loss = DPOTrainer._compute_loss(trainer, lambda **_: outputs, dict(inputs), False)
    (gradient,) = torch.autograd.grad(loss, policy, retain_graph=True)
    # Of every token of a response the same.
    out[f"sft {mix}"], out[f"sft {mix}.gradient"] = loss.detach().reshape(1), gradient[:, 0].clone()

rows = []
for fix, broken in ((40, 65), (3, 1), (10, 200), (500, 380), (0, 6)):
    statistic = (abs(fix - broken) - 1) ** 2 / (fix + broken)
    rows.append([fix, broken, statistic, chi2.sf(statistic, 1)])
out["mcnemar"] = torch.tensor(rows, dtype=torch.float64)

path = Path(__file__).parents[2] / "crates/preference/tests/fixtures/self_correction.safetensors"
save_file({k: v.contiguous() for k, v in out.items()}, path)
