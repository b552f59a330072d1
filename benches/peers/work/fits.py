"""Fits of curves and kernels, singular values, neighbours."""

import itertools

import numpy as np
import torch

from .common import Workers, peer, scrambled


@peer("scipy")
def annealing_fit(s1, s2, losses, analytic):
    from scipy.optimize import minimize
    from scipy.special import huber

    s1, s2, logs = np.array(s1), np.array(s2), np.log(losses)
    log_s1 = np.log(s1)
    delta = 1e-3

    def objective(x):
        l0, a, c, alpha = x
        predicted = l0 + a * s1 ** (-alpha) - c * s2
        if predicted.min() <= 0:
            return 1e10
        return huber(delta, logs - np.log(predicted)).sum()

    def with_gradient(x):
        l0, a, c, alpha = x
        power = s1 ** (-alpha)
        predicted = l0 + a * power - c * s2
        if predicted.min() <= 0:
            return 1e10, np.zeros(4)
        residual = logs - np.log(predicted)
        slope = -np.clip(residual, -delta, delta) / predicted
        gradient = [slope.sum(), slope @ power, -slope @ s2, -a * (slope * power) @ log_s1]
        return huber(delta, residual).sum(), np.array(gradient)

    global one_start  # Workers find it by name.

    def one_start(start):
        options = {"maxiter": 100_000, "ftol": 1e-9, "gtol": 1e-6}
        if not analytic:
            options["eps"] = 1e-8
        function = with_gradient if analytic else objective
        found = minimize(function, start, jac=analytic, method="L-BFGS-B", bounds=[(0, np.inf)] * 4, options=options)
        return found.fun

    starts = list(itertools.product((0.1, 2.1), (1, 11.5, 22), (1, 11.5, 22), (0, 0.4, 0.8)))
    workers = Workers()
    return lambda: min(workers.pool.map(one_start, starts))


@peer("scipy")
def chinchilla_fit(n, d, losses, starts, analytic):
    from scipy.optimize import minimize
    from scipy.special import huber

    log_n, log_d, logs = np.log(n), np.log(d), np.log(losses)
    delta = 1e-3
    np.seterr(all="ignore")  # Line searches try points far outside.

    def objective(x):
        a, b, e, alpha, beta = x
        predicted = np.log(np.exp(a - alpha * log_n) + np.exp(b - beta * log_d) + np.exp(e))
        return huber(delta, logs - predicted).sum()

    def with_gradient(x):
        a, b, e, alpha, beta = x
        first, second, third = np.exp(a - alpha * log_n), np.exp(b - beta * log_d), np.exp(e)
        total = first + second + third
        residual = logs - np.log(total)
        slope = -np.clip(residual, -delta, delta) / total
        u, v = slope * first, slope * second
        return huber(delta, residual).sum(), np.array([u.sum(), v.sum(), third * slope.sum(), -u @ log_n, -v @ log_d])

    global one_chinchilla_start  # Workers find it by name.

    def one_chinchilla_start(start):
        # The default tolerance stops far above the minimum of so small an objective.
        options = {"maxiter": 10_000, "maxfun": 100_000, "ftol": 1e-13, "gtol": 1e-10}
        function = with_gradient if analytic else objective
        return minimize(function, start, jac=analytic, method="L-BFGS-B", options=options).fun

    workers = Workers()
    return lambda: np.nanmin(workers.pool.map(one_chinchilla_start, starts))


@peer("scikit-learn")
def ridge_chain(n, d, steps):
    from sklearn.kernel_ridge import KernelRidge

    x = scrambled((n, d), 0.0, torch.float64).numpy()
    y = scrambled((n, 1), 0.5, torch.float64).numpy()

    def work():
        targets = y
        for _ in range(steps):
            predictions = KernelRidge(alpha=0.2, kernel="rbf", gamma=0.3).fit(x, targets).predict(x)
            targets = 0.3 * y + 0.7 * predictions
        return predictions[0, 0]

    return work


@peer("torch")
def rankme(n, k):
    z = scrambled((n, k), 0.0)

    def work():
        singular = torch.linalg.svdvals(z)
        p = singular / singular.sum() + 1e-7
        return torch.exp(-(p * p.log()).sum()).item()

    return work


@peer("torch")
def weighted_knn(queries, bank, d, k, classes):
    normalise = torch.nn.functional.normalize
    features = normalise(scrambled((bank, d), 0.0), dim=1).T.contiguous()
    labels = torch.arange(bank) % classes
    q = scrambled((queries, d), 0.5)

    def work():
        similarity, index = (normalise(q, dim=1) @ features).topk(k, dim=1)
        votes = ((similarity - 1.0) / 0.07).exp()
        scores = torch.zeros(queries, classes).scatter_add_(1, labels[index], votes)
        return scores[0, 0].item()

    return work
