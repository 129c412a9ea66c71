"""Every path of a small model, written out: the truth that the recursions are held against."""

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from hmmtts.hmm import Dense, LeftToRight


class Enumerated(NamedTuple):
    log_likelihood: float
    posterior: Tensor  # [t n]
    counts: dict[str, Tensor]  # per frame [t n], or [k], [k k]
    best: list[int]
    best_score: float


def enumerate_paths(
    log_obs: Tensor, topology: LeftToRight | Dense, utterance: int, frames: int, states: int
) -> Enumerated:
    """All sums in Python's exact-rounding fsum, in float64; of equally good paths the one whose states are lowest."""
    x = log_obs[utterance].double()
    scored = []
    for path in itertools.product(range(states), repeat=frames):
        score = _score(x, topology, utterance, path, states)
        if score > -math.inf:
            scored.append((score, path))
    posterior = torch.zeros(frames, log_obs.shape[2], dtype=torch.float64)
    counts = {
        name: torch.zeros(_count_shape(name, arc, frames), dtype=torch.float64)
        for name, arc in _arcs(topology)
    }
    if not scored:
        return Enumerated(-math.inf, posterior, counts, [], -math.inf)
    top = max(score for score, _ in scored)
    log_z = top + math.log(math.fsum(math.exp(score - top) for score, _ in scored))
    for score, path in scored:
        weight = math.exp(score - log_z)
        for t, n in enumerate(path):
            posterior[t, n] += weight
        for name, place in _arcs_taken(topology, path):
            counts[name][place] += weight
    best = min(path for score, path in scored if score >= top - 1e-9)
    return Enumerated(log_z, posterior, counts, list(best), top)


def _arcs(topology):
    return [(name, arc) for name, arc in zip(topology._fields, topology, strict=True) if arc is not None]


def _count_shape(name: str, arc: Tensor, frames: int) -> tuple[int, ...]:
    return (frames, arc.shape[-1]) if name in LeftToRight._fields else tuple(arc.shape)


def _arcs_taken(topology, path):
    if isinstance(topology, LeftToRight):
        for t, n in enumerate(path):
            step = path[t + 1] - n if t + 1 < len(path) else 1
            yield LeftToRight._fields[step], (t, n)
        return
    yield "initial", (path[0],)
    for i, j in itertools.pairwise(path):
        yield "transition", (i, j)
    if topology.final is not None:
        yield "final", (path[-1],)


def _score(x: Tensor, topology, utterance: int, path: tuple[int, ...], states: int) -> float:
    terms = [float(x[t, n]) for t, n in enumerate(path)]
    if isinstance(topology, LeftToRight):
        steps = [b - a for a, b in itertools.pairwise(path)]
        if (
            path[0] != 0
            or path[-1] != states - 1
            or any(step not in range(2 + (topology.skip is not None)) for step in steps)
        ):
            return -math.inf
        for name, (t, n) in _arcs_taken(topology, path):
            arc = getattr(topology, name)[utterance]
            terms.append(float(arc[t, n] if arc.ndim == 2 else arc[n]))
    else:
        terms += [float(getattr(topology, name)[place]) for name, place in _arcs_taken(topology, path)]
    return -math.inf if -math.inf in terms else math.fsum(terms)
