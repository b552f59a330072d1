"""Golden fit and held-out errors of the learning-rate annealing law on public loss curves of a 100 M-parameter model, from SciPy.

The curves are those of github.com/thu-yao-01-luo/MultiPowerLaw (MIT licence, copyright 2025 Kairong Luo), folder
loss_curve_repo/csv_100: peak 3e-4, 2160 steps of warm-up, every other rate as in the files' own column.

Run: python benches/peers/golden_annealing.py FOLDER   (writes crates/scaling/tests/fixtures/annealing.json)
"""

import json
import sys
from itertools import product
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.signal import lfilter
from scipy.special import huber

PEAK, END, WARMUP, LAMBDA = 3e-4, 3e-5, 2160, 0.999
FITTED = ["cosine_24000", "constant_24000"]
HELD_OUT = ["wsd_20000_24000", "wsdld_20000_24000", "constant_72000", "cosine_72000", "wsdcon_9", "wsdcon_3", "wsdcon_18"]


def rates(run: str) -> np.ndarray:
    kind, *numbers = run.split("_")
    total = 16_000 if kind == "wsdcon" else int(numbers[-1])
    step = np.arange(WARMUP, total)
    after = (step - 20_000).clip(0) / 4000
    match kind:
        case "constant":
            lrs = np.full(len(step), PEAK)
        case "cosine":
            lrs = END + (PEAK - END) * (1 + np.cos(np.pi * (step - WARMUP) / (total - WARMUP))) / 2
        case "wsd":
            lrs = PEAK * (END / PEAK) ** after
        case "wsdld":
            lrs = PEAK + (END - PEAK) * after
        case "wsdcon":
            lrs = np.where(step < 8000, PEAK, int(numbers[0]) * 1e-5)
    return np.concatenate([np.linspace(0, PEAK, WARMUP), lrs])


def load(run: str) -> tuple[np.ndarray, ...]:
    """Steps, losses and the areas there; S1 sums the true rates of the warm-up, S2 starts after it."""
    step, column, loss = np.genfromtxt(Path(sys.argv[1]) / f"{run}.csv", delimiter=",", skip_header=1).T
    step, lrs = step.astype(int), rates(run)
    np.testing.assert_allclose(lrs[step], column, rtol=1e-9)
    drops = np.concatenate([np.zeros(WARMUP + 1), -np.diff(lrs[WARMUP:])])
    s2 = np.cumsum(lfilter([1], [1, -LAMBDA], drops))
    return step, loss, np.cumsum(lrs)[step], s2[step]


def law(p, s1, s2):
    return p[0] + p[1] * s1 ** -p[3] - p[2] * s2


curves = {run: load(run) for run in FITTED + HELD_OUT}
loss, s1, s2 = (np.concatenate([curves[run][k] for run in FITTED]) for k in (1, 2, 3))


def objective(p):
    with np.errstate(over="ignore", invalid="ignore"):  # starts far outside
        predicted = law(p, s1, s2)
    return huber(1e-3, np.log(loss) - np.log(predicted)).sum() if (predicted > 0).all() else 1e9


starts = product([0.1, 2.1], [1, 11.5, 22], [1, 11.5, 22], [0, 0.4, 0.8])
fits = [minimize(objective, x, method="L-BFGS-B", bounds=[(0, None)] * 4) for x in starts]
x = min(fits, key=lambda f: f.fun).x
for _ in range(10):  # finite differences stop early
    x = minimize(objective, x, method="Nelder-Mead", options=dict(xatol=1e-11, fatol=1e-18, maxiter=10_000)).x

error = lambda run: np.abs(law(x, *curves[run][2:]) / curves[run][1] - 1).mean()
golden = {
    "source": "loss curves: github.com/thu-yao-01-luo/MultiPowerLaw, loss_curve_repo/csv_100, MIT licence, copyright 2025 Kairong Luo",
    "law": dict(zip(["l0", "a", "c", "alpha"], x)),
    "objective": objective(x),
    "errors": {run: error(run) for run in HELD_OUT},
    "runs": {run: list(zip(map(int, curve[0]), curve[1])) for run, curve in curves.items()},
}
runs = ",\n".join(f"{json.dumps(run)}:{json.dumps(points, separators=(',', ':'))}" for run, points in golden.pop("runs").items())
head = json.dumps(golden, indent=1).removesuffix("\n}")
path = Path(__file__).parents[2] / "crates/scaling/tests/fixtures/annealing.json"
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(f'{head},\n "runs": {{\n{runs}\n}}\n}}\n')
