"""Baum-Welch for hidden Markov models with Gaussian mixtures: expected statistics, what follows from them, the loop.

Letters: b utterances, t frames, d features, k states, m components of each. Statistics are sums over frames, in
float64: those of batches, and of processes, are added. Rabiner 1989, equations 40 and 52 to 54; over mini-batches
Cappe & Moulines 2009.
"""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.hmm.covariance import Moments, seen
from hmmtts.hmm.gaussian import CHUNK, Mixture, scores
from hmmtts.hmm.inference import prepare
from hmmtts.hmm.topology import Dense, LeftToRight

Chain = Dense | LeftToRight


class Model(NamedTuple):
    """Arcs shared by all utterances (those of a left-to-right model are [1 k]), and what the states emit."""

    arcs: Chain
    mixture: Mixture

    def topology(self, utterances: int) -> Chain:
        if isinstance(self.arcs, Dense):
            return self.arcs
        return type(self.arcs)._make(arc if arc is None else arc.expand(utterances, -1) for arc in self.arcs)

    def free(self) -> int:
        """Parameters that can be chosen freely, as AIC and BIC count them: probabilities less one for each sum."""
        (k, m), arcs = self.mixture.log_weight.shape, sum(arc.numel() for arc in self.arcs if arc is not None)
        sums = 1 + k if isinstance(self.arcs, Dense) else k
        return arcs - sums + k * (m - 1) + self.mixture.mean.numel() + self.mixture.covariance.free()


class Observed(NamedTuple):
    """A batch of utterances; beyond `frames` stands padding, which is not read."""

    x: Float[Tensor, "b t d"]
    frames: Int[Tensor, "b"]


class Statistics(NamedTuple):
    """Expectations given the observations, summed over utterances."""

    log_likelihood: Float[Tensor, ""]
    frames: Float[Tensor, ""]
    arcs: Chain  # counts, in the shape of the model's own arcs
    moments: Moments


class Fit(NamedTuple):
    model: Model
    log_likelihoods: list[float]  # nats per frame, before each iteration


@torch.no_grad()
def expect(model: Model, observed: Observed) -> Statistics:
    """The E step of one batch. An utterance that the model cannot make counts nowhere but in the likelihood, -inf."""
    x, frames = clean(observed)
    b, t, _ = x.shape
    result = scores(x.flatten(0, 1), model.mixture)
    k = result.log_obs.shape[-1]
    problem, backend = prepare(result.log_obs.view(b, t, k), model.topology(b), frames, None)
    found = backend.forward_backward(problem, counts=True)
    assert found.posterior is not None
    assert found.counts is not None
    weight = found.posterior.view(b * t, 1, k)
    if result.share is not None:
        weight = result.share * weight
    counts = type(model.arcs)._make(
        None if count is None else count.double().sum(0, keepdim=isinstance(model.arcs, LeftToRight))
        for count in found.counts
    )
    return Statistics(
        found.log_likelihood.sum(),
        frames.sum().to(x.device, torch.float64),
        counts,
        gather(model.mixture, x.flatten(0, 1), weight.flatten(1)),
    )


def clean(observed: Observed) -> Observed:
    """Zeros in the padding: what stands there may be NaN, and nothing times NaN is not nothing."""
    x, frames = observed
    if bool((frames == x.shape[1]).all()):
        return observed
    real = torch.arange(x.shape[1], device=x.device) < frames.to(x.device)[:, None]
    return Observed(torch.where(real[..., None], x, 0.0), frames)


def gather(mixture: Mixture, x: Float[Tensor, "n d"], weight: Float[Tensor, "n j"]) -> Moments:
    """Sums over frames that belong to the j = m * k components by `weight`; products around the mean of the means,
    a few thousand frames at a time, so that float32 loses nothing that matters."""
    k, m, d = mixture.mean.shape
    centre = mixture.mean.mean((0, 1))
    occupancy = torch.zeros(k, m, dtype=torch.float64, device=x.device)
    first, second = torch.zeros(k, m, d, dtype=torch.float64, device=x.device), None
    for i in range(0, len(x), CHUNK):
        y, w = x[i : i + CHUNK] - centre, weight[i : i + CHUNK]
        occupancy += w.sum(0).unflatten(0, (m, k)).T
        first += (w.T @ y).unflatten(0, (m, k)).transpose(0, 1)
        more = mixture.covariance.second(y, w).double()
        second = more if second is None else second.add_(more)
    assert second is not None
    centre = centre.double()
    return Moments(
        occupancy,
        first + occupancy[..., None] * centre,
        mixture.covariance.moved(second, occupancy, first, centre),
    )


def maximise(model: Model, statistics: Statistics, floor: float) -> Model:
    """The M step: the likeliest model whose variances are not below the floor; what was never seen stays."""
    return Model(_arcs(model.arcs, statistics.arcs), estimate(model.mixture, statistics.moments, floor))


def _arcs(before: Chain, counts: Chain) -> Chain:
    if isinstance(before, Dense) and isinstance(counts, Dense):
        return _dense(before, counts)
    present = [i for i, arc in enumerate(before) if arc is not None]
    shares = _log_shares(
        *(torch.stack([arc for arc in part if arc is not None], -1) for part in (counts, before))
    )
    taken = dict(zip(present, shares.unbind(-1), strict=True))
    return type(before)._make(taken.get(i) for i in range(len(before)))


def _dense(before: Dense, counts: Dense) -> Dense:
    initial = _log_shares(counts.initial, before.initial)
    if before.final is None or counts.final is None:
        return Dense(initial, _log_shares(counts.transition, before.transition))
    leaving = _log_shares(
        torch.cat([counts.transition, counts.final[:, None]], 1),
        torch.cat([before.transition, before.final[:, None]], 1),
    )
    return Dense(initial, leaving[:, :-1], leaving[:, -1])


def _log_shares(counts: Float[Tensor, "*k s"], before: Float[Tensor, "*k s"]) -> Float[Tensor, "*k s"]:
    total = counts.sum(-1, keepdim=True)
    return torch.where(seen(total), (counts / total).log().to(before.dtype), before)


def estimate(before: Mixture, moments: Moments, floor: float) -> Mixture:
    """The likeliest mixture; the moments decide it, `before` says what a component is that no frame belongs to."""
    dtype = before.mean.dtype
    count = moments.occupancy[..., None]
    mean = torch.where(seen(count), moments.first / count, before.mean.double())
    covariance = before.covariance.estimate(moments, mean, floor)
    return Mixture(
        _log_shares(moments.occupancy, before.log_weight),
        mean.to(dtype),
        type(covariance)._make(part.to(dtype) for part in covariance),
    )


def add(first: Statistics, second: Statistics) -> Statistics:
    return _each(torch.add, first, second)


def blend(before: Statistics, new: Statistics, rate: float) -> Statistics:
    """Statistics per frame, of which a new batch replaces the share `rate`."""
    return _each(lambda a, b: (1 - rate) * a / before.frames + rate * b / new.frames, before, new)


def over_processes(statistics: Statistics) -> Statistics:
    """The sum over all processes of torch.distributed, the same to the last bit in each."""
    parts: list[Tensor] = []
    _each(parts.append, statistics)
    joined = torch.cat([part.flatten() for part in parts])
    torch.distributed.all_reduce(joined)
    summed = iter(joined.split([part.numel() for part in parts]))
    return _each(lambda part: next(summed).view_as(part), statistics)


def _each(how: Callable, *parts):
    """`how` of every tensor in equally built NamedTuples."""
    if parts[0] is None:
        return None
    if isinstance(parts[0], Tensor):
        return how(*parts)
    return type(parts[0])._make(_each(how, *inner) for inner in zip(*parts, strict=True))


def alone(statistics: Statistics) -> Statistics:
    return statistics


def fit(
    model: Model,
    batches: Sequence[Observed],
    iterations: int,
    tolerance: float,
    floor: float,
    together: Callable[[Statistics], Statistics] = alone,
) -> Fit:
    """Until an iteration gains less than `tolerance` nats per frame. `together=over_processes`: each process has
    batches of its own, and all come to the same model."""
    if not batches:
        raise ValueError("batches must hold at least one batch: there is nothing to learn from")
    history: list[float] = []
    for _ in range(iterations):
        statistics = together(reduce(add, (expect(model, batch) for batch in batches)))
        history.append(_per_frame(statistics))
        model = maximise(model, statistics, floor)
        if len(history) > 1 and history[-1] - history[-2] < tolerance:
            break
    return Fit(model, history)


def fit_stepwise(
    model: Model,
    batches: Sequence[Observed],
    steps: int,
    decay: float,
    floor: float,
    generator: torch.Generator | None = None,
    together: Callable[[Statistics], Statistics] = alone,
) -> Fit:
    """A model after every batch: the statistics of step i replace the share (i + 2)^-decay of those before.

    decay between 0.5 (forgets fast) and 1 (every batch counts the same). All processes take the same number of steps.
    """
    if not batches:
        raise ValueError("batches must hold at least one batch: there is nothing to learn from")
    if not 0.5 < decay <= 1:
        raise ValueError(f"decay must be more than 0.5 and at most 1, got {decay}: else it does not converge")
    history: list[float] = []
    known: Statistics | None = None
    order: list[int] = []
    for step in range(steps):
        order = order or torch.randperm(len(batches), generator=generator).tolist()
        new = together(expect(model, batches[order.pop()]))
        history.append(_per_frame(new))
        known = blend(new, new, 1.0) if known is None else blend(known, new, (step + 2) ** -decay)
        model = maximise(model, known, floor)
    return Fit(model, history)


def _per_frame(statistics: Statistics) -> float:
    value = float(statistics.log_likelihood / statistics.frames)
    if not math.isfinite(value):
        raise ValueError(
            f"the log-likelihood is {value}: an utterance cannot be made by this model at all; start from another one"
        )
    return value
