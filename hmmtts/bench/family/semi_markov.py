"""Semi-Markov forward-backward (log Z and posteriors) beside plain torch.

b utterances, t frames, s states, d durations. Ours is one multiply-add per (t, s, d); so are the peers, in Python's time.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from hmmtts.bench.batches import Answer, forced
from hmmtts.bench.peers import segment_loops
from hmmtts.bench.race import Contender, Effort, Run, race
from hmmtts.bench.record import Record
from hmmtts.bench.work import Work
from hmmtts.hmm import SemiMarkovDense, SemiMarkovLeftToRight, log_likelihood

CHECKED = 2  # utterances whose answers are compared with float64
PART = 4  # utterances that autograd's memory has room for at once


class Segmented(NamedTuple):
    log_obs: Tensor
    topology: SemiMarkovDense | SemiMarkovLeftToRight

    def take(self, first: int, last: int) -> "Segmented":
        topology = self.topology
        if isinstance(topology, SemiMarkovLeftToRight):
            topology = SemiMarkovLeftToRight(topology.durations[first:last])
        return Segmented(self.log_obs[first:last], topology)

    def double(self) -> "Segmented":
        arcs = (arc if arc is None else arc.double() for arc in self.topology)
        return Segmented(self.log_obs.double(), type(self.topology)._make(arcs))


def works(quick: bool) -> list[Work]:
    effort = Effort(seconds=1, rounds=3) if quick else Effort(seconds=20, rounds=40)
    dense, ordered = ((2, 30, 3, 5), (2, 30, 5, 8)) if quick else ((32, 1000, 10, 50), (16, 600, 100, 50))
    return [
        Work(
            f"hsmm_fb_{_sizes(dense)}",
            partial(_measure, f"hsmm_fb_{_sizes(dense)}", _dense, dense, 15, effort),
        ),
        Work(
            f"hsmm_ltr_{_sizes(ordered)}",
            partial(_measure, f"hsmm_ltr_{_sizes(ordered)}", _left_to_right, ordered, 150, effort),
        ),
    ]


def _sizes(shape: tuple[int, int, int, int]) -> str:
    return "b{}_t{}_s{}_d{}".format(*shape)


def _measure(
    work: str, make: Callable[..., Segmented], shape: tuple[int, ...], bar: float, effort: Effort
) -> list[Record]:
    batch = make(*shape)
    with forced("reference"):
        truth = _gradient(batch.take(0, CHECKED).double(), _ours)

    def error(answer: Answer) -> float:
        return float((answer.posterior[:CHECKED].double() - truth.posterior).abs().max())

    contenders = [
        Contender("ours", lambda batch: Run(lambda: _gradient(batch, _ours), lambda answer: answer), bar=bar),
        Contender("reference", _reference),
        Contender("torch_loop", _torch_loop),
    ]
    return race(work, batch, contenders, error, effort)


def _ours(batch: Segmented) -> Tensor:
    return log_likelihood(
        batch.log_obs, batch.topology, torch.full((len(batch.log_obs),), batch.log_obs.shape[1])
    )


def _reference(batch: Segmented) -> Run:
    def call() -> Answer:
        with forced("reference"):
            return _in_parts(batch, _ours)

    return Run(call, lambda answer: answer)


def _torch_loop(batch: Segmented) -> Run:
    return Run(
        lambda: _in_parts(batch, lambda part: segment_loops.log_likelihood(*part)), lambda answer: answer
    )


def _in_parts(batch: Segmented, total: Callable[[Segmented], Tensor]) -> Answer:
    b = len(batch.log_obs)
    parts = [_gradient(batch.take(i, i + PART), total) for i in range(0, b, PART)]
    return Answer(*(torch.cat(pieces) for pieces in zip(*parts, strict=True)))


def _gradient(batch: Segmented, total: Callable[[Segmented], Tensor]) -> Answer:
    log_obs = batch.log_obs.detach().requires_grad_()
    log_z = total(batch._replace(log_obs=log_obs))
    (posterior,) = torch.autograd.grad(log_z.sum(), log_obs)
    return Answer(log_z.detach(), posterior)


def _dense(b: int, t: int, k: int, d: int) -> Segmented:
    g = torch.Generator().manual_seed(0)
    transition = torch.randn(k, k, generator=g).fill_diagonal_(-math.inf).log_softmax(1)
    topology = SemiMarkovDense(
        torch.full((k,), -math.log(k)), transition, torch.randn(k, d, generator=g).log_softmax(1)
    )
    return Segmented(3 * torch.randn(b, t, k, generator=g) - 60, topology)


def _left_to_right(b: int, t: int, n: int, d: int) -> Segmented:
    g = torch.Generator().manual_seed(0)
    durations = torch.randn(b, n, d, generator=g).log_softmax(2)
    return Segmented(3 * torch.randn(b, t, n, generator=g) - 60, SemiMarkovLeftToRight(durations))
