"""States that know their neighbours: how a sound begins depends on the sound before it, how it ends on the one after.

Every state of a symbol's first or last EDGE has a variant for each neighbour heard in training. A variant's mean leans
on the mean of all its kind by PRIOR frames (MAP, Gauvain and Lee 1994, eq. 21), so that what was heard once says little;
variances, weights and durations are those of the kind. A neighbour never heard before means the kind itself.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from hmmtts.align.mixtures import LEAST, Counts, Mixtures
from hmmtts.align.script import Inventory, Script, sound

EDGE = 2  # states
PRIOR = 4.0  # frames
ANY = ""  # a neighbour that does not matter; also the one beyond the ends

Variant = tuple[int, str, str]  # state, sound before, sound after


def variants(inventory: Inventory, script: Script) -> list[Variant]:
    """The state at each place of the script's chain, and the neighbours that it knows."""
    sounds = [ANY, *(sound(symbol) for symbol in script.symbols), ANY]
    found = []
    for before, name, after in zip(sounds, sounds[1:], sounds[2:], strict=False):
        states = inventory.states(name)
        for n, state in enumerate(states):
            left = before if n < EDGE else ANY
            right = after if n >= len(states) - EDGE else ANY
            found.append((state, left, right))
    return found


class Expanded(NamedTuple):
    model: Mixtures  # the kinds, then their variants
    numbers: dict[Variant, int]
    kinds: Int[Tensor, "m"]  # of each state of the model; a kind is its own


def expand(model: Mixtures, inventory: Inventory, scripts: Iterable[Script]) -> Expanded:
    """Every variant heard, as yet equal to its kind."""
    heard = sorted({variant for script in scripts for variant in variants(inventory, script)})
    numbers = {variant: inventory.size + i for i, variant in enumerate(heard)}
    kinds = torch.tensor([*range(inventory.size), *(state for state, _, _ in heard)])
    return Expanded(Mixtures(*(field[kinds] for field in model)), numbers, kinds)


def estimate_in_context(counts: Counts, before: Mixtures, kinds: Int[Tensor, "m"]) -> Mixtures:
    """The M step for the means alone."""
    c = before.mean.shape[-1]
    occupancy, first, _ = counts.moments.split([1, c, c], -1)
    frames = torch.zeros_like(occupancy).index_add_(0, kinds, occupancy)
    total = torch.zeros_like(first).index_add_(0, kinds, first)
    mean = torch.where(frames > LEAST, total / frames.clamp(min=1e-3), before.mean.double())[kinds]
    return before._replace(mean=((first + PRIOR * mean) / (occupancy + PRIOR)).float())
