"""Golden values of preference losses: trl's trainers on given log-probabilities, and formulas where trl has none.

Needs the packages trl (1.16) and transformers beside requirements.txt. Run: python benches/peers/golden_preference_losses.py
(writes crates/preference/tests/fixtures/losses.safetensors)
"""

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from trl import DPOTrainer, KTOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

PAIRS, LENGTH, BETA = 5, 9, 0.3
generator = torch.Generator().manual_seed(0)


def token_log_probs():
    lengths = torch.randint(2, LENGTH, (2 * PAIRS,), generator=generator)
    mask = torch.arange(LENGTH)[None] < lengths[:, None]
    values = torch.rand(2 * PAIRS, LENGTH, generator=generator, dtype=torch.float64)
    return (-0.05 - 2 * values) * mask, mask


policy, mask = token_log_probs()
reference = (policy - 0.5 * torch.randn(policy.shape, generator=generator, dtype=torch.float64)) * mask
policy.requires_grad_(True)
lengths = mask.sum(1)
out = {"lengths": lengths.double(), "policy": policy.detach().sum(1), "reference": reference.sum(1)}


def keep(name, loss):
    """The mean loss, and its gradient with respect to each response's log-probability."""
    (gradient,) = torch.autograd.grad(loss, policy, retain_graph=True)
    out[name], out[name + ".gradient"] = loss.detach().reshape(1), gradient[:, 0].clone()


def model_of(values):
    zeros = torch.zeros_like(values)
    return lambda **_: SimpleNamespace(log_probs=values, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())


def trainer(**fields):
    mock = MagicMock(beta=BETA, ld_alpha=None, use_weighting=False, aux_loss_enabled=False, precompute_ref_logps=True)
    mock.accelerator.device = torch.device("cpu")
    mock.accelerator.gather_for_metrics = lambda x: x
    for name, value in fields.items():
        setattr(mock, name, value)
    return mock


# Completions begin at the second token, as trl shifts by one.
inputs = {
    "completion_mask": F.pad(mask.long(), (1, 0)),
    "input_ids": torch.ones(2 * PAIRS, LENGTH + 1, dtype=torch.long),
    "attention_mask": F.pad(mask.long(), (1, 0), value=1),
}
chosen, rejected = out["reference"].chunk(2)
for name in ("sigmoid", "hinge", "ipo", "nca_pair", "robust"):
    mock = trainer(
        loss_types=[name], loss_weights=[1.0], label_smoothing=0.1, f_divergence_type="reverse_kl"
    )
    data = {**inputs, "ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
    keep(name, DPOTrainer._compute_loss(mock, model_of(policy), data, False))

kl = torch.tensor([0.4, 0.1, 0.3], dtype=torch.float64)
desirable = torch.arange(2 * PAIRS) % 3 != 1
mock = trainer(
    loss_type="kto", calculate_KL=True, desirable_weight=1.0, undesirable_weight=1.5, _compute_kl_logps=lambda *_: kl
)
data = {**inputs, "label": desirable, "ref_logps": out["reference"], "ref_KL_logps": torch.zeros(3, dtype=torch.float64)}
loss = KTOTrainer._compute_loss(mock, model_of(policy), data, False)
keep("kto", loss.mean())
out["desirable"], out["kl"] = desirable, kl.mean().reshape(1)

w, l = policy.sum(1).chunk(2)
w_mean, l_mean = (policy.sum(1) / lengths).chunk(2)
for name, pair, gamma in (("cpo", (w, l), 0.0), ("simpo", (w_mean, l_mean), 0.5)):
    kind = "sigmoid" if name == "cpo" else "simpo"
    mock = trainer(alpha=0.0, loss_type=kind, label_smoothing=0.0, simpo_gamma=gamma)
    keep(name, CPOTrainer.cpo_loss(mock, *pair)[0].mean())
# In 32 bits, as trl computes it.
keep("orpo", -ORPOTrainer.odds_ratio_loss(trainer(beta=1.0), w_mean, l_mean)[0].mean())

# No trainer has these: soft labels as a cross entropy of two Bernoulli distributions, and SLiC.
h = (w - chosen) - (l - rejected)
target = torch.linspace(0, 1, PAIRS, dtype=torch.float64)
keep("soft_label", F.binary_cross_entropy_with_logits(BETA * h, target))
out["target"] = target
keep("slic", torch.clamp(1 - (w - l), min=0).mean())

path = Path(__file__).parents[2] / "crates/preference/tests/fixtures/losses.safetensors"
path.parent.mkdir(exist_ok=True)
save_file({k: v.contiguous() for k, v in out.items()}, path)
