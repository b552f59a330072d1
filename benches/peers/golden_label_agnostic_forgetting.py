"""Golden values of label-agnostic forgetting: both losses and their gradients, written with torch's own modules; the divergence of the
autoencoder from its prior (torch.distributions); boosted stumps (xgboost).

Run: python benches/peers/golden_label_agnostic_forgetting.py (needs torch, safetensors, xgboost; writes
crates/unlearning/tests/fixtures/label_agnostic_forgetting.safetensors)
"""

from pathlib import Path

import numpy as np
import torch
import xgboost
from safetensors.torch import save_file
from torch.distributions import Normal, kl_divergence

torch.manual_seed(0)
out = {}

e_r, e_f = torch.randn(5, 6, dtype=torch.double), torch.randn(3, 6, dtype=torch.double)
t_r, t_f = e_r + 0.3 * torch.randn_like(e_r), e_f + 0.3 * torch.randn_like(e_f)
hat_r, hat_f = e_r + torch.randn_like(e_r), e_f + torch.randn_like(e_f)
for name, value in {"e_r": e_r, "e_f": e_f, "t_r": t_r, "t_f": t_f, "hat_r": hat_r, "hat_f": hat_f}.items():
    out[name] = value.clone()
e_r.requires_grad_()
e_f.requires_grad_()


def rho(hat, e):
    s = torch.nn.MSELoss(reduction="none")(hat, e).sum(1)
    return torch.exp(s / (s + 1)).sum()


loss = rho(hat_r, e_r) - rho(hat_f, e_f)
out["unlearning"] = loss.detach().reshape(1)
out["unlearning/e_r"], out["unlearning/e_f"] = torch.autograd.grad(loss, [e_r, e_f])

cosine = torch.nn.CosineEmbeddingLoss(reduction="none")
for tau in (1.0, 20.0):
    d_r, d_f = cosine(e_r, t_r, torch.ones(5)), cosine(e_f, t_f, torch.ones(3))
    loss = 0.0
    for i in range(5):
        loss = loss + d_r[i] - torch.logsumexp(d_f / tau, 0)
    out[f"alignment/{tau}"] = loss.detach().reshape(1)
    out[f"alignment/{tau}/e_r"], out[f"alignment/{tau}/e_f"] = torch.autograd.grad(loss, [e_r, e_f])

mu, log_variance = torch.randn(4, 3, dtype=torch.double), torch.randn(4, 3, dtype=torch.double)
prior = Normal(torch.zeros_like(mu), torch.ones_like(mu))
out["mu"], out["log_variance"] = mu, log_variance
out["kl"] = kl_divergence(Normal(mu, (log_variance / 2).exp()), prior).sum().reshape(1)

rng = np.random.default_rng(0)
x = np.sort(rng.dirichlet(np.ones(4), 80), axis=1)[:, ::-1].copy()
y = (x[:, 0] + 0.3 * rng.standard_normal(80) > 0.5).astype(np.float32)
model = xgboost.XGBClassifier(
    n_estimators=12, max_depth=1, tree_method="exact", base_score=0.5, learning_rate=0.3, reg_lambda=1.0
).fit(x.astype(np.float32), y)
out["x"] = torch.tensor(x.astype(np.float32)).double()
out["y"] = torch.tensor(y).long()
out["margins"] = torch.tensor(model.predict(x.astype(np.float32), output_margin=True)).double()

folder = Path(__file__).resolve().parents[2] / "crates/unlearning/tests/fixtures"
folder.mkdir(parents=True, exist_ok=True)
save_file({k: v.contiguous() for k, v in out.items()}, folder / "label_agnostic_forgetting.safetensors")
