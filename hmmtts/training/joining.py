"""Means over the data of all processes: every figure and every gradient as of one process that saw the joined batch.

A mean over the processes of each one's mean would weigh a frame by the company that it keeps: short batches would count
as much as long ones. So totals and counts are summed first, and divided once.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, distributed

from hmmtts.nn.lengths import Mean

Anything = TypeVar("Anything")


class Joined(NamedTuple):
    # This process's part: the mean of its gradients over all processes is the whole's.
    mine: dict[str, Tensor]
    whole: dict[str, Tensor]  # of the joined batch, without gradient


def joined(means: Mapping[str, Mean]) -> Joined:
    """A collective operation: every process must call it with the same names."""
    sums = _summed(means)
    counts = sums[:, 1].clamp(min=1)
    share = world_size() / counts
    return Joined(
        {name: (mean.total * share[place]).float() for place, (name, mean) in enumerate(means.items())},
        dict(zip(means, (sums[:, 0] / counts).float(), strict=True)),
    )


def shares(means: Mapping[str, Mean]) -> dict[str, Tensor]:
    """What `joined` multiplies the totals by; collective."""
    counts = _summed(means)[:, 1].clamp(min=1)
    return dict(zip(means, world_size() / counts, strict=True))


class Tally:
    """Sums over the batches of a validation."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self.sums = torch.zeros(len(self.names), 2, dtype=torch.float64)

    def add(self, means: Mapping[str, Mean]) -> None:
        if set(means) != set(self.names):
            raise ValueError(f"means must be of {', '.join(self.names)}, got {', '.join(means)}")
        self.sums = self.sums + _stacked({name: means[name] for name in self.names}, self.sums.device)

    def compute(self, device: torch.device) -> dict[str, Mean]:
        """Over all processes; collective."""
        sums = sum_over_processes(self.sums.to(device))
        return {name: Mean(*sums[place]) for place, name in enumerate(self.names)}


def _stacked(means: Mapping[str, Mean], device: torch.device) -> Tensor:
    parts = [part.detach().to(device, torch.float64) for mean in means.values() for part in mean]
    return torch.stack(parts).unflatten(0, (-1, 2))


def _summed(means: Mapping[str, Mean]) -> Tensor:
    return sum_over_processes(_stacked(means, next(iter(means.values())).total.device))


def sum_over_processes(sums: Tensor) -> Tensor:
    if world_size() > 1:
        distributed.all_reduce(sums)
    return sums


def gather(own: Anything) -> list[Anything]:
    """What every process has; collective."""
    everywhere = [own] * world_size()
    if world_size() > 1:
        distributed.all_gather_object(everywhere, own)
    return everywhere


def world_size() -> int:
    several = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if several else 1
