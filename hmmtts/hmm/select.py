"""How many states, and how many Gaussians in each: every candidate is trained, and judged by data that it has not seen.

Letters: b utterances, t frames, d features. Three judges: the likelihood of held-out utterances (cross-validation),
which needs no assumption and costs a training per fold; BIC = p log n - 2 log L (Schwarz 1978), which finds the true
model among the candidates if there is one and n is large; AIC = 2 p - 2 log L (Akaike 1974), which leans to larger
models. p counts the free parameters, n the frames, L is the likelihood of the data trained on.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal, NamedTuple

import torch

from hmmtts.hmm import em, start
from hmmtts.hmm.covariance import Covariance, Diagonal
from hmmtts.hmm.em import Model, Observed

Judge = Literal["held_out", "aic", "bic"]


class Candidate(NamedTuple):
    states: int
    components: int


class Training(NamedTuple):
    """How a candidate is trained: EM from k-means, the best of `tries` by the likelihood of the training data."""

    covariance: type[Covariance] = Diagonal
    topology: Literal["dense", "left_to_right"] = "dense"
    tries: int = 3
    iterations: int = 100
    tolerance: float = 1e-4
    floor: float = 1e-3


class Judged(NamedTuple):
    """Log-likelihoods are nats per frame. `error` is the standard error, over the folds, of what `held_out` lacks to
    the best candidate's: folds differ from each other in the same way for all, which says nothing of a candidate."""

    candidate: Candidate
    free: int
    trained: float
    held_out: float
    error: float
    aic: float
    bic: float


def judge(
    observed: Observed,
    states: Sequence[int],
    components: Sequence[int],
    folds: int = 5,
    training: Training = Training(),  # noqa: B008 (immutable)
    workers: int | None = None,
    seed: int = 0,
) -> list[Judged]:
    """All combinations. `workers` threads (torch's number of threads, if not given) train them side by side; the
    answer does not depend on how many they are."""
    if not 2 <= folds <= len(observed.frames):
        raise ValueError(
            f"folds must lie between 2 and the number of utterances, {len(observed.frames)}, got {folds}"
        )
    observed = em.clean(observed)
    order = torch.randperm(len(observed.frames), generator=torch.Generator().manual_seed(seed))
    parts = order.tensor_split(folds)
    candidates = list(itertools.starmap(Candidate, itertools.product(states, components)))
    jobs: list[Callable[[], tuple[Model, float]]] = []
    for candidate in candidates:
        jobs.append(partial(_train, observed, None, candidate, training, seed))
        jobs += [
            partial(_train, _without(observed, part), _only(observed, part), candidate, training, seed + i)
            for i, part in enumerate(parts, 1)
        ]
    with ThreadPoolExecutor(workers or torch.get_num_threads()) as pool:
        results = list(pool.map(lambda job: job(), jobs))
    by_candidate = [results[i : i + folds + 1] for i in range(0, len(results), folds + 1)]
    unseen = torch.tensor([[value for _, value in found[1:]] for found in by_candidate], dtype=torch.float64)
    lacking = unseen[unseen.mean(1).argmax()] - unseen
    errors = lacking.std(1) / folds**0.5
    frames = int(observed.frames.sum())
    return [
        _judged(candidate, frames, found[0], float(held_out), float(error))
        for candidate, found, held_out, error in zip(
            candidates, by_candidate, unseen.mean(1), errors, strict=True
        )
    ]


def best(judged: Sequence[Judged], by: Judge = "held_out") -> Judged:
    if by == "held_out":
        return max(judged, key=lambda each: each.held_out)
    return min(judged, key=lambda each: each.aic if by == "aic" else each.bic)


def begin(
    observed: Observed, candidate: Candidate, training: Training, generator: torch.Generator | None
) -> Model:
    """Where EM starts."""
    k, m = candidate
    if training.topology == "dense":
        label = start.by_sound(observed, k, generator)
        arcs: em.Chain = start.dense_arcs(label, k)
    else:
        label = start.in_order(observed, k)
        arcs = start.ordered_arcs(observed.frames, k)
    return Model(arcs, start.mixture(observed, label, training.covariance, k, m, training.floor, generator))


def _train(
    observed: Observed, unseen: Observed | None, candidate: Candidate, training: Training, seed: int
) -> tuple[Model, float]:
    """The best of several tries, and nats per frame of the unseen utterances, or else of those it was trained on."""
    generator = torch.Generator().manual_seed(seed)
    fits = []
    for _ in range(training.tries):
        first = begin(observed, candidate, training, generator)
        fits.append(em.fit(first, [observed], training.iterations, training.tolerance, training.floor))
    model = max(fits, key=lambda fit: fit.log_likelihoods[-1]).model
    statistics = em.expect(model, observed if unseen is None else unseen)
    return model, float(statistics.log_likelihood / statistics.frames)


def _judged(
    candidate: Candidate, frames: int, whole: tuple[Model, float], held_out: float, error: float
) -> Judged:
    model, trained = whole
    free, surprise = model.free(), -2 * trained * frames
    aic, bic = surprise + 2 * free, surprise + free * math.log(frames)
    return Judged(candidate, free, trained, held_out, error, aic, bic)


def _only(observed: Observed, part: torch.Tensor) -> Observed:
    return Observed(*(value[part] for value in observed))


def _without(observed: Observed, part: torch.Tensor) -> Observed:
    kept = torch.ones(len(observed.frames), dtype=torch.bool)
    kept[part] = False
    return Observed(*(value[kept] for value in observed))
