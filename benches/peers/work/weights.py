"""Work on the weights of a network: a step of an optimizer, pruning."""

import torch

from .common import peer, scrambled


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
