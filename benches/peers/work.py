"""The peers' side of the benchmark suite.

Each function makes the inputs and returns the work: a function of no arguments that does it once and returns the number by
which the two sides are compared. `peer` names the package that does the work.
"""

import itertools
import multiprocessing
from importlib.metadata import version

import numpy as np
import torch
from threadpoolctl import threadpool_limits


def peer(package):
    def mark(make):
        make.package = lambda: f"{package} {version(package)}"
        return make

    return mark


def scrambled(shape, phase, dtype=torch.float32):
    """The tensor of this shape that the other side makes too."""
    i = torch.arange(int(np.prod(shape)), dtype=torch.float64)
    return ((i * 12.9898 + phase).sin() * 43758.5453).frac().to(dtype).view(*shape)


class Workers:
    """A process per thread, alive between calls, as a DataLoader keeps them; each works with one thread."""

    def __init__(self):
        self.count = torch.get_num_threads()
        self.pool = multiprocessing.get_context("fork").Pool(self.count, self.one_thread)

    @staticmethod
    def one_thread():
        torch.set_num_threads(1)
        threadpool_limits(1)

    def __del__(self):
        self.pool.terminate()


@peer("torch")
def adamw_step(shapes, lr, weight_decay):
    params = [torch.nn.Parameter(scrambled(s, i)) for i, s in enumerate(shapes)]
    for i, p in enumerate(params):
        p.grad = scrambled(p.shape, 0.5 + i)
    optimizer = torch.optim.AdamW(params, lr=lr, weight_decay=weight_decay, foreach=True)

    def work():
        optimizer.step()
        return params[0].view(-1)[0].item()

    return work


@peer("torchvision")
def two_views(images, side):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (images, side, side, 3), dtype=np.uint8)
    pictures = [Image.fromarray(p) for p in pixels]
    global one_share  # Workers find it by name.
    views = [view(side, blur=1.0, solarize=0.0), view(side, blur=0.1, solarize=0.2)]

    def one_share(indices):
        return [torch.stack([v(pictures[i]) for i in indices]).numpy() for v in views]

    workers = Workers()
    shares = [range(k, images, workers.count) for k in range(workers.count)]
    return lambda: sum(len(v) for views in workers.pool.map(one_share, shares) for v in views)


def view(side, blur, solarize):
    from PIL import ImageFilter, ImageOps
    from torchvision import transforms as T

    def gaussian_blur(image):
        return image.filter(ImageFilter.GaussianBlur(radius=float(torch.empty(()).uniform_(0.1, 2.0))))

    return T.Compose([
        T.RandomResizedCrop(side, interpolation=T.InterpolationMode.BICUBIC),
        T.RandomHorizontalFlip(p=0.5),
        T.RandomApply([T.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)], p=0.8),
        T.RandomGrayscale(p=0.2),
        T.RandomApply([T.Lambda(gaussian_blur)], p=blur),
        T.RandomApply([T.Lambda(ImageOps.solarize)], p=solarize),
        T.ToTensor(),
        T.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ])


class TwoViews(torch.utils.data.Dataset):
    """Both views of pictures, as small images need them: no blur."""

    def __init__(self, images, side):
        from PIL import Image
        from torchvision import transforms as T

        pixels = np.random.default_rng(0).integers(0, 256, (images, side, side, 3), dtype=np.uint8)
        self.pictures = [Image.fromarray(p) for p in pixels]
        self.view = T.Compose([
            T.RandomResizedCrop(side, scale=(0.2, 1.0)),
            T.RandomHorizontalFlip(p=0.5),
            T.RandomApply([T.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4)], p=0.8),
            T.RandomGrayscale(p=0.2),
            T.ToTensor(),
            T.Normalize(mean=[0.5] * 3, std=[0.25] * 3),
        ])

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, i):
        return self.view(self.pictures[i]), self.view(self.pictures[i])


@peer("lightly")
def barlow_twins_training(images, batch, side):
    from lightly.loss import BarlowTwinsLoss
    from torch import nn

    layers, width = [], 3
    for out, stride in ((32, 1), (64, 2), (128, 2), (256, 2)):
        layers += [nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
        width = out
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 512, bias=False)]
    layers += [nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Linear(512, 512, bias=False)]
    model, criterion = nn.Sequential(*layers), BarlowTwinsLoss(lambda_param=1 / 128)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-6)
    loader = torch.utils.data.DataLoader(
        TwoViews(images, side),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=torch.get_num_threads(),
        persistent_workers=True,
    )

    def work():
        for a, b in loader:
            loss = criterion(model(a), model(b))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    return work


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


@peer("torch")
def rankme(n, k):
    z = scrambled((n, k), 0.0)

    def work():
        singular = torch.linalg.svdvals(z)
        p = singular / singular.sum() + 1e-7
        return torch.exp(-(p * p.log()).sum()).item()

    return work


@peer("kymatio")
def scattering(n, size, j, l):
    import scipy.special

    # Kymatio imports a name that newer SciPy has dropped and that two-dimensional scattering does not use.
    if not hasattr(scipy.special, "sph_harm"):
        scipy.special.sph_harm = None
    from kymatio.torch import Scattering2D

    transform = Scattering2D(j, (size, size), L=l)
    x = scrambled((n, 3, size, size), 0.0)
    return lambda: transform(x).square().sum(dtype=torch.float64).item()


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


@peer("torch")
def trajectory_matching(width, depth, side, channels, steps, classes=10, per_class=10):
    layers = []
    for block in range(depth):
        conv = torch.nn.Conv2d(width if block else channels, width, 3, padding=1)
        layers += [conv, torch.nn.GroupNorm(width, width), torch.nn.ReLU(), torch.nn.AvgPool2d(2)]
    net = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(width * (side // 2**depth) ** 2, classes))
    names, shapes = zip(*[(n, p.shape) for n, p in net.named_parameters()])
    sizes = [s.numel() for s in shapes]
    path = 0.1 * scrambled((3, sum(sizes)), 0.0)
    m = classes * per_class
    images = scrambled((m, channels, side, side), 0.5).requires_grad_()
    labels, step_size = torch.arange(m) % classes, torch.tensor(0.01, requires_grad=True)

    def work():
        theta = path[0].clone().requires_grad_()
        for _ in range(steps):
            parts = {n: p.view(s) for n, p, s in zip(names, theta.split(sizes), shapes)}
            loss = torch.nn.functional.cross_entropy(torch.func.functional_call(net, parts, (images,)), labels)
            (grad,) = torch.autograd.grad(loss, theta, create_graph=True)
            theta = theta - step_size * grad
        distance = (theta - path[2]).square().sum() / (path[0] - path[2]).square().sum()
        torch.autograd.grad(distance, (images, step_size))
        return distance.item()

    return work


class Block(torch.nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.first, self.second = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.attend, self.project = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.widen, self.narrow = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (p.view(b, t, self.heads, -1).transpose(1, 2) for p in self.attend(self.first(x)).split(c, 2))
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).reshape(b, t, c))
        return x + self.narrow(torch.nn.functional.gelu(self.widen(self.second(x)), approximate="tanh"))


class Decoder(torch.nn.Module):
    def __init__(self, width, depth, heads, vocabulary, context):
        super().__init__()
        self.tokens, self.positions = torch.nn.Embedding(vocabulary, width), torch.nn.Embedding(context, width)
        self.blocks = torch.nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.last = torch.nn.LayerNorm(width)

    def forward(self, x):
        h = self.tokens(x) + self.positions.weight[: x.shape[1]]
        for block in self.blocks:
            h = block(h)
        return self.last(h) @ self.tokens.weight.T


@peer("torch")
def gpt_training(width, depth, heads, vocabulary, context, batch):
    torch.manual_seed(0)
    model = Decoder(width, depth, heads, vocabulary, context)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.02)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=1e-3)
    tokens = (scrambled((batch, context + 1), 0.0, torch.float64).abs() * vocabulary).long()
    x, y = tokens[:, :-1], tokens[:, 1:]

    def work():
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(x).view(-1, vocabulary), y.reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return work


@peer("transformers")
def generation(folder, prompts, new):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    longest = max(map(len, prompts))
    tokens = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])

    def work():
        kwargs = dict(do_sample=False, max_new_tokens=new, min_new_tokens=new, pad_token_id=0, eos_token_id=None)
        return model.generate(tokens, attention_mask=mask, **kwargs)[:, longest:].sum().item()

    return work


@peer("trl")
def dpo(pairs, length, width, vocabulary, beta):
    from trl.trainer.utils import selective_log_softmax

    hidden = scrambled((2 * pairs, length, width), 0.0).requires_grad_()
    head = (scrambled((vocabulary, width), 0.5) * 0.1).requires_grad_()
    tokens = (torch.arange(2 * pairs * length) * 7919 % vocabulary).view(2 * pairs, length)

    def work():
        hidden.grad = head.grad = None
        chosen, rejected = selective_log_softmax(hidden @ head.T, tokens).sum(1).chunk(2)
        loss = -torch.nn.functional.logsigmoid(beta * (chosen - rejected)).mean()
        loss.backward()
        return loss.item()

    return work


@peer("trl")
def dpo_training(lengths, batch, prompt, vocabulary, width, depth, heads, context, beta, lr):
    from trl.trainer.utils import selective_log_softmax

    model = Decoder(width, depth, heads, vocabulary, context)
    for p in model.parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    lengths, pairs, longest = torch.tensor(lengths), len(lengths) // 2, prompt + max(lengths)
    tokens = (scrambled((2 * pairs, longest), 0.0, torch.float64).abs() * vocabulary).long()
    places = torch.arange(1, longest)
    mask = (places >= prompt) & (places < prompt + lengths[:, None])

    def log_probs(rows):
        x = tokens[rows]
        each = selective_log_softmax(model(x[:, :-1]), x[:, 1:])
        return (each * mask[rows]).sum(1)

    with torch.no_grad():
        reference = log_probs(torch.arange(2 * pairs))

    def work():
        index = torch.randperm(pairs)[:batch]
        rows = torch.cat([index, index + pairs])
        chosen, rejected = (log_probs(rows) - reference[rows]).chunk(2)
        loss = -torch.nn.functional.logsigmoid(beta * (chosen - rejected)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return work


@peer("torch")
def preference_losses(pairs, beta):
    def side(phase):
        return -(scrambled((pairs,), phase).abs() * 40 + 1)

    chosen, rejected = side(0.0).requires_grad_(), side(0.5).requires_grad_()
    margin_of_reference = side(0.25) - side(0.75)
    logsigmoid = torch.nn.functional.logsigmoid

    def work():
        chosen.grad = rejected.grad = None
        margin = chosen - rejected - margin_of_reference
        w, l = chosen / 20, rejected / 20
        odds = (w - l) - (torch.log1p(-torch.exp(w)) - torch.log1p(-torch.exp(l)))
        each = -logsigmoid(beta * margin) + (margin - 1 / (2 * beta)) ** 2 - logsigmoid(2 * (w - l) - 1) - logsigmoid(odds)
        loss = each.mean()
        loss.backward()
        return loss.item()

    return work


@peer("torch")
def global_pruning(tensors, side, amount):
    from torch.nn.utils import prune

    modules = [torch.nn.Linear(side, side, bias=False) for _ in range(tensors)]
    for i, m in enumerate(modules):
        m.weight.data = scrambled((side, side), 0.01 * i)

    def work():
        prune.global_unstructured([(m, "weight") for m in modules], prune.L1Unstructured, amount=amount)
        kept = modules[0].weight_mask.mean().item()
        for m in modules:
            prune.remove(m, "weight")
        return kept

    return work
