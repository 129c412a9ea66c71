"""Every segmentation of a few frames, written out: the truth that the semi-Markov recursions are held against."""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from hmmtts.hmm import SemiMarkovDense, SemiMarkovLeftToRight

Topology = SemiMarkovDense | SemiMarkovLeftToRight


class Enumerated(NamedTuple):
    log_likelihood: float
    posterior: Tensor  # [t n]
    counts: dict[str, Tensor]
    best: list[int]
    best_score: float
    second: float  # score of the best other path: equal to the best where there is a tie


def compositions(total: int, longest: int) -> Iterator[tuple[int, ...]]:
    """All ways to write a number as a sum of durations."""
    if total == 0:
        yield ()
    for d in range(1, min(total, longest) + 1):
        for rest in compositions(total - d, longest):
            yield (d, *rest)


def sequences(topology: Topology, segments: int, states: int) -> Iterator[tuple[int, ...]]:
    if isinstance(topology, SemiMarkovLeftToRight):
        if segments == states:
            yield tuple(range(states))
        return
    stack: list[tuple[int, ...]] = [()]
    while stack:
        path = stack.pop()
        if len(path) == segments:
            yield path
        else:
            stack += [(*path, k) for k in range(states) if not path or path[-1] != k]


def enumerate_segmentations(
    log_obs: Tensor, topology: Topology, utterance: int, frames: int, states: int
) -> Enumerated:
    """All sums in Python's exact-rounding fsum, in float64."""
    x = log_obs[utterance].double()
    left_to_right = isinstance(topology, SemiMarkovLeftToRight)
    durations = (topology.durations[utterance] if left_to_right else topology.durations).double()
    scored = []
    for lengths in compositions(frames, durations.shape[1]):
        for path in sequences(topology, len(lengths), states):
            score = _score(x, topology, durations, path, lengths)
            if score > -math.inf:
                scored.append((score, path, lengths))
    posterior = torch.zeros(frames, log_obs.shape[2], dtype=torch.float64)
    counts = {
        name: torch.zeros_like(durations if name == "durations" else arc.double())
        for name, arc in topology._asdict().items()
        if arc is not None
    }
    if not scored:
        return Enumerated(-math.inf, posterior, counts, [], -math.inf, -math.inf)
    top = max(score for score, _, _ in scored)
    log_z = top + math.log(math.fsum(math.exp(score - top) for score, _, _ in scored))
    for score, path, lengths in scored:
        weight, t = math.exp(score - log_z), 0
        for k, d in zip(path, lengths, strict=True):
            posterior[t : t + d, k] += weight
            counts["durations"][k, d - 1] += weight
            t += d
        if not left_to_right:
            counts["initial"][path[0]] += weight
            for i, j in itertools.pairwise(path):
                counts["transition"][i, j] += weight
            if "final" in counts:
                counts["final"][path[-1]] += weight
    ranked = sorted(scored, reverse=True)
    second = ranked[1][0] if len(ranked) > 1 else -math.inf
    _, path, lengths = ranked[0]
    best = [k for k, d in zip(path, lengths, strict=True) for _ in range(d)]
    return Enumerated(log_z, posterior, counts, best, top, second)


def _score(x: Tensor, topology: Topology, durations: Tensor, path, lengths) -> float:
    terms, t = [], 0
    for k, d in zip(path, lengths, strict=True):
        terms += [float(x[u, k]) for u in range(t, t + d)] + [float(durations[k, d - 1])]
        t += d
    if isinstance(topology, SemiMarkovDense):
        terms += [float(topology.initial[path[0]])]
        terms += [float(topology.transition[i, j]) for i, j in itertools.pairwise(path)]
        if topology.final is not None:
            terms += [float(topology.final[path[-1]])]
    return -math.inf if -math.inf in terms else math.fsum(terms)
