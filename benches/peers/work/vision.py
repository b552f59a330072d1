"""Images: views, scattering, training, dataset distillation."""

import numpy as np
import torch

from .common import Workers, peer, scrambled


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
