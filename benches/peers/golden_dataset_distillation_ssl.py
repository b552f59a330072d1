"""Golden values of KRR-ST: predictions by scikit-learn's KernelRidge, loss and gradients by autograd through a dense solve. In f64.

Run: python benches/peers/golden_dataset_distillation_ssl.py
(writes crates/distill/tests/fixtures/dataset_distillation_ssl.safetensors)
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from sklearn.kernel_ridge import KernelRidge

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
out = {}
# More features than images, and fewer.
for name, m, p in (("dual", 5, 9), ("primal", 12, 4)):
    f_s, f_t, y_s, y_t = torch.randn(m, p), torch.randn(7, p), torch.randn(m, 3), torch.randn(7, 3)
    one = lambda f: torch.cat([f, torch.ones(len(f), 1)], 1)
    fixed = KernelRidge(alpha=0.3, kernel="precomputed").fit((one(f_s) @ one(f_s).T).numpy(), y_s.numpy())
    out |= {f"{name}_f_s": f_s, f"{name}_f_t": f_t, f"{name}_y_s": y_s, f"{name}_y_t": y_t}
    out[f"{name}_fixed"] = torch.from_numpy(fixed.predict((one(f_t) @ one(f_s).T).numpy()))
    a, b = f_s.clone().requires_grad_(), y_s.clone().requires_grad_()
    k = one(a) @ one(a).T
    predicted = one(f_t) @ one(a).T @ torch.linalg.solve(k + 1e-3 * k.detach().trace() * torch.eye(m), b)
    loss = (predicted - y_t).square().mean()
    grads = torch.autograd.grad(loss, (a, b))
    out |= {f"{name}_loss": loss.detach(), f"{name}_grad_f": grads[0], f"{name}_grad_y": grads[1]}

to = Path(__file__).parents[2] / "crates/distill/tests/fixtures/dataset_distillation_ssl.safetensors"
save_file({k: v.detach().clone().contiguous() for k, v in out.items()}, to)
