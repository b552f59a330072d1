"""Golden values of the scattering transform, from Kymatio.

Run: python benches/peers/golden_scattering.py   (writes crates/ssl/tests/fixtures/scattering.safetensors; needs kymatio 0.3.0)
"""

from pathlib import Path

import scipy.special
import torch
from safetensors.torch import save_file

# Kymatio imports a name that newer SciPy has dropped and that two-dimensional scattering does not use.
if not hasattr(scipy.special, "sph_harm"):
    scipy.special.sph_harm = None
from kymatio.torch import Scattering2D  # noqa: E402

torch.manual_seed(0)
out = {}
for j, l, n in [(2, 4, 32), (3, 6, 32), (1, 3, 20), (2, 8, 28)]:
    x = torch.randn(2, 1, n, n)
    s = Scattering2D(j, (n, n), L=l, max_order=2)(x)
    out[f"j{j}l{l}n{n}.x"] = x
    out[f"j{j}l{l}n{n}.s"] = s.flatten(1, 2).contiguous()

path = Path(__file__).parents[2] / "crates/ssl/tests/fixtures/scattering.safetensors"
save_file(out, path)
