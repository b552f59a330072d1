"""Golden values of preference logic: sums over enumerated worlds in PyTorch and mpmath, truth tables and minimal forms by sympy.

Needs the package sympy beside requirements.txt. Run: python benches/peers/golden_preference_logic.py
(writes crates/preference/tests/fixtures/preference_logic.safetensors)
"""

import itertools
import random
from pathlib import Path

import mpmath
import numpy as np
import sympy
import torch
from safetensors.torch import save_file
from sympy.logic.boolalg import And, Implies, Not, Or, SOPform, Xor, false, true

random.seed(0)
generator = torch.Generator().manual_seed(0)
out = {}


def text(lines):
    return torch.tensor(list("\n".join(lines).encode()), dtype=torch.uint8)


def worlds(n):
    return list(itertools.product([True, False], repeat=n))


def log_ratio(marks, log_probs):
    """log N - log D, every world a product of its probabilities."""
    n, p = log_probs.shape[1], log_probs.exp()
    above, below = torch.zeros(len(p)).double(), torch.zeros(len(p)).double()
    for mark, world in zip(marks, worlds(n)):
        product = torch.ones(len(p)).double()
        for i, truth in enumerate(world):
            product = product * (p[:, i] if truth else 1 - p[:, i])
        if mark in "+*":
            above = above + product
        if mark in "-*":
            below = below + product
    return above.log() - below.log()


def keep(name, all_marks, log_probs):
    losses, gradients = [], []
    for marks in all_marks:
        x = log_probs.clone().requires_grad_(True)
        loss = -torch.nn.functional.logsigmoid(log_ratio(marks, x))
        gradients.append(torch.autograd.grad(loss.sum(), x)[0])
        losses.append(loss.detach())
    out[f"{name}.marks"] = text(all_marks)
    out[f"{name}.log_probs"] = log_probs
    out[f"{name}.losses"], out[f"{name}.gradients"] = torch.stack(losses), torch.stack(gradients)


def has_both(marks):
    return any(m in "+*" for m in marks) and any(m in "-*" for m in marks)


def draw(n, count):
    found = []
    while len(found) < count:
        marks = "".join(random.choice("*+-.") for _ in range(2**n))
        if has_both(marks):
            found.append(marks)
    return found


def log_probs(rows, n):
    return -0.02 - 2.5 * torch.rand(rows, n, generator=generator, dtype=torch.float64)


two = [m for m in map("".join, itertools.product(".+-*", repeat=4)) if has_both(m)]
keep("two", two, log_probs(4, 2))
keep("three", draw(3, 30), log_probs(3, 3))
keep("four", draw(4, 15), log_probs(3, 4))

# Far from and near certainty, where doubles cancel: 50 digits.
mpmath.mp.dps = 50
extreme = [(-1e-5, -60.0), (-60.0, -1e-5), (-2e-6, -2e-6), (-300.0, -250.0), (-0.69, -0.7)]
rows = []
for marks in two:
    values = []
    for pair in extreme:
        p = [mpmath.exp(mpmath.mpf(x)) for x in pair]
        total = {"+": mpmath.mpf(0), "-": mpmath.mpf(0)}
        for mark, world in zip(marks, worlds(2)):
            product = mpmath.fprod(q if truth else 1 - q for q, truth in zip(p, world))
            for sign in "+-" if mark == "*" else mark.replace(".", ""):
                total[sign] += product
        values.append(float(mpmath.log(total["+"] / total["-"])))
    rows.append(values)
out["extreme.log_probs"] = torch.tensor(extreme, dtype=torch.float64)
out["extreme.rho"] = torch.tensor(rows, dtype=torch.float64)

# Whether the log-ratio is monotone, by its derivative's sign on a grid: w up, l down, a third winner up.
def monotone(marks, n, grid):
    p = np.stack(np.meshgrid(*[grid] * n, indexing="ij"))
    for i, sign in zip(range(n), (1, -1, 1)):
        def count(signs, truth):
            total = 0.0
            for mark, world in zip(marks, worlds(n)):
                if mark in signs and world[i] == truth:
                    total = total + np.prod([p[j] if world[j] else 1 - p[j] for j in range(n) if j != i], axis=0)
            return total
        slope = count("+*", True) * count("-*", False) - count("+*", False) * count("-*", True)
        if np.min(sign * slope) < -1e-9:
            return False
    return True


def is_monotone(all_marks, n, grid):
    return torch.tensor([monotone(m, n, grid) for m in all_marks], dtype=torch.uint8)


out["two.monotone"] = is_monotone(two, 2, np.linspace(0, 1, 41))
# Drawn marks are hardly ever monotone: half of these differ in one row from ones that are.
base = ["++++----", "+*+*-.-.", "*-+.--..", "+.+.-.-.", "*+*+.-.-", "++--++--", "+++.-.--"]
near = []
for marks in base:
    near.append(marks)
    for _ in range(12):
        row = random.randrange(8)
        near.append(marks[:row] + random.choice("*+-.") + marks[row + 1 :])
near = [m for m in near if has_both(m)] + draw(3, 60)
out["three_monotone.marks"] = text(near)
out["three_monotone"] = is_monotone(near, 3, np.linspace(0, 1, 21))

# Formulas as text, with their truth tables (bit r for row r), and the size of sympy's minimal sums of products.
names = ["w", "l", "w_ref", "l_ref"]
symbols = sympy.symbols(names)


def formula(depth):
    kind = random.randrange(9) if depth else random.choice([0, 0, 0, 0, 0, 0, 7])
    if kind in (0, 1):
        k = random.randrange(4)
        return names[k], symbols[k]
    if kind == 7 and not depth:
        return random.choice([("true", true), ("false", false)])
    a, x = formula(depth - 1)
    if kind == 2:
        return f"not ({a})", Not(x)
    b, y = formula(depth - 1)
    sign, join = [("and", And), ("or", Or), ("->", Implies), ("xor", Xor)][kind % 4]
    return f"({a}) {sign} ({b})", join(x, y)


def holds(f, world):
    return bool(f.subs(dict(zip(symbols, world)))) if f not in (true, false) else f == true


lines = []
for _ in range(60):
    words, f = formula(4)
    bits = sum(holds(f, world) << r for r, world in enumerate(worlds(4)))
    lines.append(f"{bits} {words}")
out["formulas"] = text(lines)

sizes = []
for bits in random.sample(range(1, 2**16 - 1), 100):
    minterms = [[int(t) for t in world] for r, world in enumerate(worlds(4)) if bits >> r & 1]
    terms = SOPform(symbols, minterms)
    terms = terms.args if isinstance(terms, Or) else [terms]
    sizes.append([bits, len(terms), sum(len(t.args) if isinstance(t, And) else 1 for t in terms)])
out["minimal"] = torch.tensor(sizes)

path = Path(__file__).parents[2] / "crates/preference/tests/fixtures/preference_logic.safetensors"
save_file({k: v.contiguous() for k, v in out.items()}, path)
print(path, {k: tuple(v.shape) for k, v in out.items()}, out["two.monotone"].sum(), out["three_monotone"].sum())
