"""Time of two Barlow Twins views of 512 images of 32x32 with torchvision's per-image PIL pipeline, on all cores.

The peer of examples/augment_speed.rs: the images are PIL images, the result is one tensor per view. Work is spread over
one process per core, kept alive between rounds, as a DataLoader does; the time includes nothing but the transforms and the
hand-over of the results.
"""

import multiprocessing as mp
import statistics
import time

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torchvision import transforms as T


class Blur:
    def __init__(self, p):
        self.p = p

    def __call__(self, image):
        if torch.rand(()) < self.p:
            return image.filter(ImageFilter.GaussianBlur(radius=float(torch.empty(()).uniform_(0.1, 2.0))))
        return image


class Solarize:
    def __init__(self, p):
        self.p = p

    def __call__(self, image):
        return ImageOps.solarize(image) if torch.rand(()) < self.p else image


def view(blur, solarize):
    return T.Compose([
        T.RandomResizedCrop(32, interpolation=T.InterpolationMode.BICUBIC),
        T.RandomHorizontalFlip(p=0.5),
        T.RandomApply([T.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)], p=0.8),
        T.RandomGrayscale(p=0.2),
        Blur(blur),
        Solarize(solarize),
        T.ToTensor(),
        T.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ])


VIEWS = (view(1.0, 0.0), view(0.1, 0.2))
PIXELS = np.random.default_rng(0).integers(0, 256, (512, 32, 32, 3), dtype=np.uint8)
IMAGES = [Image.fromarray(p) for p in PIXELS]


def work(share):
    torch.set_num_threads(1)
    return [torch.stack([v(IMAGES[i]) for i in share]).numpy() for v in VIEWS]


if __name__ == "__main__":
    cores = mp.cpu_count()
    shares = [range(k, 512, cores) for k in range(cores)]
    with mp.get_context("fork").Pool(cores) as pool:
        times = []
        for _ in range(8):
            start = time.perf_counter()
            pool.map(work, shares)
            times.append(time.perf_counter() - start)
    print(f"two views on {cores} cores: median {statistics.median(times[2:]) * 1000:.1f} ms")
