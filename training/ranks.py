"""Several processes train one model, each with its share of every batch: `torchrun --nproc-per-node N -m ...`.

PyTorch's threads wait for one another more than they compute in a small model; processes meet once a step.
"""

import os
from collections.abc import Iterable

import torch
from torch import distributed


def meet() -> tuple[int, int]:
    """The number of this process and how many there are: 0 and 1 without torchrun."""
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    return distributed.get_rank(), distributed.get_world_size()


def part() -> None:
    """End together: whoever ends while others still speak to it is aborted."""
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def share_values(values: Iterable[torch.Tensor]) -> None:
    """Everybody gets the values of process 0, and has waited for it."""
    if distributed.is_initialized():
        for value in values:
            distributed.broadcast(value.detach(), 0)


def average_gradients(parameters: Iterable[torch.Tensor]) -> None:
    """Everybody's gradients become the mean of all."""
    if distributed.is_initialized():
        gradients = [value.grad for value in parameters if value.grad is not None]
        together = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(together)
        for gradient, mean in zip(gradients, together.split([one.numel() for one in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient) / distributed.get_world_size())
