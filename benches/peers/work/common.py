"""What the parts share: the mark of a peer, inputs, workers."""

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
