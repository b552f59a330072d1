"""Losses on embeddings and logits, with their gradients."""

import torch

from .common import peer, scrambled


def loss_and_gradient(loss, n, d):
    za = scrambled((n, d), 0.0)
    zb = za + 0.5 * scrambled((n, d), 0.5)
    za.requires_grad_(), zb.requires_grad_()

    def work():
        value = loss(za, zb)
        torch.autograd.grad(value, (za, zb))
        return value.item()

    return work


@peer("lightly")
def barlow_twins(n, d):
    from lightly.loss import BarlowTwinsLoss

    return loss_and_gradient(BarlowTwinsLoss(lambda_param=5e-3), n, d)


@peer("torch")
def mixed_barlow_twins(n, d):
    batch_norm = torch.nn.BatchNorm1d(d, affine=False)
    partner = torch.arange(n).roll(-1)

    def loss(za, zb, alpha=0.3, weight=4 / 128):
        a, b, m = batch_norm(za), batch_norm(zb), batch_norm((za + zb) / 2)
        c = a.T @ b / n
        on = (c.diagonal() - 1).square().sum()
        off = c.square().sum() - c.diagonal().square().sum()
        reg = 0
        for z in (a, b):
            target = alpha * (a.T @ z) / n + (1 - alpha) * (b[partner].T @ z) / n
            reg = reg + (m.T @ z / n - target).square().sum()
        return on + off / 128 + weight * reg

    return loss_and_gradient(loss, n, d)


@peer("torch")
def amcl(n, d, low=0.1, high=1.0, beta=0.01, hidden=128):
    d = d // 2
    first, last = (0.1 * scrambled((hidden, width), phase) for width, phase in ((d, 0.25), (hidden, 0.75)))
    biases = [0.1 * scrambled((hidden,), phase) for phase in (0.25, 0.75)]
    positive = torch.arange(2 * n).roll(n)
    pair, rows, linear = torch.eye(n, dtype=bool).repeat(2, 2), torch.arange(2 * n), torch.nn.functional.linear

    def loss(za, zb):
        z = torch.cat([za.view(n, 2, d), zb.view(n, 2, d)]).transpose(0, 1)
        z = torch.nn.functional.normalize(z, dim=2)
        phi = linear(linear(z, first, biases[0]).relu(), last, biases[1])
        tau = low + (high - low) * (phi @ phi.mT).sigmoid()
        logits = (z @ z.mT / tau).masked_fill(torch.eye(2 * n, dtype=bool), -torch.inf)
        contrast = torch.nn.functional.cross_entropy(logits.flatten(0, 1), positive.repeat(2))
        omega = d / 2 * tau.log() + 1 / tau
        above = omega[:, rows, positive].mean()
        below = omega.masked_fill(pair, 0).sum() / (4 * n * (2 * n - 2))
        return 2 * (contrast + beta * (above - below))

    return loss_and_gradient(loss, n, d * 2)


@peer("torch")
def isogclr(n, d, gamma=0.8, eta=0.03, beta=0.5, rho=0.4, clip=3.0):
    tau, s, momentum = torch.full((n,), 0.1), torch.zeros(n), torch.zeros(n)
    others = 1 - torch.eye(n).repeat(2, 2)

    def loss(za, zb):
        nonlocal tau, s, momentum
        za, zb = torch.nn.functional.normalize(za), torch.nn.functional.normalize(zb)
        z = torch.cat([za, zb])
        h = z @ z.T - (za * zb).sum(1).repeat(2)[:, None]
        with torch.no_grad():
            scaled = h / tau.repeat(2)[:, None]
            e = scaled.exp() * others
            g = e.sum(1) / (2 * n - 2)
            before = s.repeat(2)
            average = torch.where(before == 0, g, (1 - gamma) * before + gamma * g)
            weights = e / average[:, None]
            slope = average.log() + rho - (weights * scaled).sum(1) / (2 * n - 2)
            momentum = (1 - beta) * momentum + beta * slope.view(2, n).mean(0).clamp(-clip, clip)
            tau = (tau - eta * momentum).clamp(0.05, 1.0)
            s = average.view(2, n).mean(0)
        return (weights * h).sum() / (2 * n - 2) / n

    return loss_and_gradient(loss, n, d)


@peer("lightly")
def nt_xent(n, d):
    from lightly.loss import NTXentLoss

    return loss_and_gradient(NTXentLoss(temperature=0.5), n, d)


@peer("torch")
def spectral(n, d):
    def loss(za, zb):
        inner = za @ zb.T
        positive = inner.diagonal()
        negative = (inner.square().sum() - positive.square().sum()) / (n * (n - 1))
        return negative - 2 * positive.mean()

    return loss_and_gradient(loss, n, d)


@peer("torch")
def supcon(n, d):
    labels = (torch.arange(n) % 10).repeat(2)
    own = torch.eye(2 * n, dtype=torch.bool)

    def loss(za, zb, tau=0.5):
        z = torch.nn.functional.normalize(torch.cat([za, zb]))
        logits = (z @ z.T / tau).masked_fill(own, -torch.inf)
        positive = (labels[:, None] == labels).logical_and(~own)
        log_p = logits.log_softmax(1).masked_fill(~positive, 0)
        return -(log_p.sum(1) / positive.sum(1)).mean()

    return loss_and_gradient(loss, n, d)


@peer("lightly")
def vicreg(n, d):
    from lightly.loss import VICRegLoss

    return loss_and_gradient(VICRegLoss(), n, d)


def logits(b, c):
    s, t = (4 * scrambled((b, c), phase) for phase in (0.0, 0.5))
    return s.requires_grad_(), t, torch.arange(b) % c


@peer("torch")
def nkd(b, c, gamma=3.5, temperature=3.0):
    s, t, y = logits(b, c)
    at = y[:, None]
    others = torch.ones_like(t, dtype=torch.bool).scatter(1, at, False)

    def work():
        log_s = s.log_softmax(1).gather(1, at)
        target = -(t.softmax(1).gather(1, at) * log_s).mean()
        n_s = (s[others].view(b, -1) / temperature).log_softmax(1)
        n_t = (t[others].view(b, -1) / temperature).softmax(1)
        loss = target - gamma * temperature**2 * (n_t * n_s).sum(1).mean()
        torch.autograd.grad(loss, s)
        return loss.item()

    return work


def sigmoid_divergence(b, c, probabilities, tau=2.0):
    """Of the two Bernoulli distributions that `probabilities` makes of the logits of student and teacher."""
    s, t, _ = logits(b, c)

    def work():
        q, p = probabilities(s / tau, t / tau)
        loss = tau**2 * (q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()).sum() / b
        torch.autograd.grad(loss, s)
        return loss.item()

    return work


@peer("torch")
def binary_kl(b, c):
    return sigmoid_divergence(b, c, lambda s, t: (t.sigmoid(), s.sigmoid()))


@peer("torch")
def binary_kl_norm(b, c):
    return sigmoid_divergence(b, c, lambda s, t: (0.5, (s - t).sigmoid()))


@peer("torch")
def uskd(b, c, features, alpha=0.1, beta=0.1, mu=0.1):
    s, _, y = logits(b, c)
    at = y[:, None]
    feature = scrambled((b, features), 0.25).requires_grad_()
    head = torch.nn.Linear(features, c)
    head.weight.data = scrambled((c, features), 0.6) / 16
    head.bias.data = scrambled((c,), 0.75) / 16
    zipf = 1 / torch.arange(1, c + 1)
    inputs = (s, feature, *head.parameters())

    def work():
        log_s = s.log_softmax(1)
        square = s.softmax(1).gather(1, at) ** 2
        label = (square + 1 - square.mean(0, True)).detach()
        target = -(label * log_s.gather(1, at)).sum(1).mean()
        w = head(feature)
        smooth = torch.zeros_like(s).scatter(1, at, 0.9) + 0.1 / c
        weak = -(smooth * w.log_softmax(1)).sum(1).mean()
        p = w.softmax(1)
        score = p / (1 - p.gather(1, at) + 1e-6) + log_s / (1 - log_s.gather(1, at) + 1e-6)
        rank = score.argsort(dim=1, descending=True).argsort(1)
        others = torch.ones_like(s, dtype=torch.bool).scatter(1, at, False)
        z = zipf.repeat(b, 1).gather(1, rank)[others].view(b, -1)
        z = (z / z.sum(1, keepdim=True)).detach()
        other = -(z * s[others].view(b, -1).log_softmax(1)).sum(1).mean()
        loss = alpha * target + beta * other + mu * weak
        torch.autograd.grad(loss, inputs)
        return loss.item()

    return work
