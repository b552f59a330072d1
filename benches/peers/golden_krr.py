"""Golden predictions of kernel ridge regression, plain and self-distilled, from scikit-learn.

Run: python benches/peers/golden_krr.py   (writes crates/distill/tests/fixtures/krr.safetensors)
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.kernel_ridge import KernelRidge

rng = np.random.default_rng(0)
x, y, at = rng.normal(size=(30, 4)), rng.normal(size=(30, 3)), rng.normal(size=(7, 4))
out = {"x": x, "y": y, "at": at}
kernels = {"rbf": dict(kernel="rbf", gamma=0.3), "laplacian": dict(kernel="laplacian", gamma=0.3), "linear": dict(kernel="linear")}
for name, kernel in kernels.items():
    targets = y
    for step in range(1, 5):
        # scikit-learn's alpha is the ridge penalty; the ground truth's weight is 0.3.
        model = KernelRidge(alpha=0.2, **kernel).fit(x, targets)
        out[f"{name}.{step}"] = model.predict(at)
        targets = 0.3 * y + 0.7 * model.predict(x)

path = Path(__file__).parents[2] / "crates/distill/tests/fixtures/krr.safetensors"
path.parent.mkdir(parents=True, exist_ok=True)
save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, path)
