"""Golden values of the tail model of `inductive-bias`: SciPy's non-central chi-squared, and its exact log-cdf by mpmath.

    python golden_inductive_bias.py OUT.safetensors
"""

import sys

import mpmath as mp
import numpy as np
import torch
from safetensors.torch import save_file
from scipy import stats
from scipy.optimize import minimize

mp.mp.dps = 60


def ln_cdf(df, nc, x):
    """ln P[ncx2(df, nc) <= x] as the Poisson mixture of incomplete gamma functions, in 60 digits."""
    a, l, total = mp.mpf(df) / 2, mp.mpf(nc) / 2, mp.mpf(0)
    for j in range(5000):
        term = mp.exp(-l) * l**j / mp.factorial(j) * mp.gammainc(a + j, 0, mp.mpf(x) / 2, regularized=True)
        total += term
        if j > l and term < total * mp.mpf(10) ** -30:
            return float(mp.log(total))


points = [(10, 5, 3), (10, 5, 8), (50, 20, 30), (200, 100, 150), (200, 100, 20), (1000, 500, 100), (3, 0.5, 20), (1, 30, 1e-3)]
cdf = [(*p, ln_cdf(*p)) for p in points]
pdf = [(df, nc, x, stats.ncx2.logpdf(x, df, nc)) for df, nc, x in [(10, 5, 13), (200, 100, 200), (2.5, 0.1, 0.3), (1, 30, 50)]]

rng = np.random.default_rng(0)
errors = 0.02 * stats.ncx2.rvs(8, 20, size=500, random_state=rng)


def nll(p):
    df, nc, scale = np.exp(p)
    return -np.mean(stats.ncx2.logpdf(errors / scale, df, nc) - np.log(scale))


options = dict(xatol=1e-12, fatol=1e-15, maxiter=50000, maxfev=50000)
fits = [minimize(nll, np.log(start), method="Nelder-Mead", options=options) for start in [(8, 20, 0.02), (20, 5, 0.02), (4, 30, 0.02)]]
best = min(fits, key=lambda r: r.fun)
df, nc, scale = np.exp(best.x)
ks = stats.kstest(errors, lambda e: stats.ncx2.cdf(e / scale, df, nc)).statistic
print("fit", df, nc, scale, best.fun, ks)

tensor = lambda v: torch.tensor(v, dtype=torch.float64)
save_file(
    {"cdf": tensor(cdf), "pdf": tensor(pdf), "errors": tensor(errors), "fit": tensor([df, nc, scale, best.fun, ks])}, sys.argv[1]
)
