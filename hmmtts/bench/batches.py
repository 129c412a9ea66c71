"""Made-up batches as aligners and recognisers meet them, and their float64 answers.

Letters: b utterances, t frames, n states of a left-to-right model, k states of a dense one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.hmm import Dense, LeftToRight, log_likelihood, unweighted, viterbi

CHECKED = 2  # utterances whose answers are compared with float64


class Batch(NamedTuple):
    log_obs: Float[Tensor, "b t n"]
    topology: LeftToRight | Dense
    frames: Int[Tensor, "b"]
    states: Int[Tensor, "b"]


class Answer(NamedTuple):
    log_likelihood: Float[Tensor, "b"]
    posterior: Float[Tensor, "b t n"]


def left_to_right_batch(b: int, t: int, n: int) -> Batch:
    """Lengths that vary, and log-softmax scores around a noisy diagonal, as an attention aligner gives them."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randint(max(1, n // 2), n + 1, (b,), generator=generator)
    states[0] = n
    pace = t / n * (0.85 + 0.3 * torch.rand(b, generator=generator))
    frames = torch.clamp((states * pace).long(), min=states + 1, max=torch.tensor(t))
    frames[0] = t
    place = torch.arange(t)[None, :, None] * (states / frames)[:, None, None]
    away = (torch.arange(n) - place) / (0.1 * n)
    scores = 2 * torch.randn(b, t, n, generator=generator) - 0.5 * away**2
    log_obs = torch.log_softmax(scores, 2)
    return Batch(log_obs, unweighted(log_obs), frames, states)


def spread_batch(b: int, t: int, n: int, spread: float) -> Batch:
    """Emissions that differ by `spread` nats from cell to cell."""
    log_obs = spread * torch.randn(b, t, n, generator=torch.Generator().manual_seed(0))
    return Batch(log_obs, unweighted(log_obs), torch.full((b,), t), torch.full((b,), n))


def dense_batch(b: int, t: int, k: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    log_obs = 3 * torch.randn(b, t, k, generator=generator) - 60
    weights = torch.rand(k, k, generator=generator) + 0.01
    transition = (weights / weights.sum(1, keepdim=True)).log()
    initial = torch.full((k,), 1 / k).log()
    return Batch(log_obs, Dense(initial, transition), torch.full((b,), t), torch.full((b,), k))


def first(batch: Batch, utterances: int = CHECKED) -> Batch:
    topology = batch.topology
    if isinstance(topology, LeftToRight):
        topology = LeftToRight._make(arc if arc is None else arc[:utterances] for arc in topology)
    return Batch(batch.log_obs[:utterances], topology, batch.frames[:utterances], batch.states[:utterances])


def in_float64(batch: Batch) -> Batch:
    topology = type(batch.topology)._make(arc if arc is None else arc.double() for arc in batch.topology)
    return batch._replace(log_obs=batch.log_obs.double(), topology=topology)


def gradient(batch: Batch, by_arcs: bool = False) -> Answer:
    """Log-likelihoods and their gradient by the emissions (and the arcs), as a training step asks for them."""
    log_obs = batch.log_obs.detach().requires_grad_()
    topology = batch.topology
    if by_arcs:
        topology = type(topology)._make(
            arc if arc is None else arc.detach().requires_grad_() for arc in topology
        )
    total = log_likelihood(log_obs, topology, batch.frames, batch.states)
    total.sum().backward()
    assert log_obs.grad is not None
    return Answer(total.detach(), log_obs.grad)


def true_gradient(batch: Batch) -> Answer:
    """Of the first utterances, by the plain recursions in float64."""
    with forced("reference"):
        return gradient(in_float64(first(batch)))


def true_best_scores(batch: Batch) -> Float[Tensor, "b"]:
    with forced("reference"):
        return viterbi(*in_float64(first(batch))).score


@contextmanager
def forced(backend: str) -> Iterator[None]:
    """The named backend answers, whatever the environment says."""
    before = os.environ.get("HMMTTS_BACKEND")
    os.environ["HMMTTS_BACKEND"] = backend
    try:
        yield
    finally:
        if before is None:
            del os.environ["HMMTTS_BACKEND"]
        else:
            os.environ["HMMTTS_BACKEND"] = before
