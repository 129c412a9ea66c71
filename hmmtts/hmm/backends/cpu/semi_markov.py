"""Semi-Markov models on CPUs: numba kernels that compute in float64, whatever the precision of the emissions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.hmm.backends import semi_markov as plain
from hmmtts.hmm.backends.contract import ForwardBackward, Problem, Viterbi, check_observations
from hmmtts.hmm.backends.cpu import semi_markov_best_path as best_path
from hmmtts.hmm.backends.cpu import semi_markov_dense as dense
from hmmtts.hmm.backends.cpu import semi_markov_dense_extended as dense_extended
from hmmtts.hmm.backends.cpu import semi_markov_left_to_right as left_to_right
from hmmtts.hmm.backends.cpu.compile import compiled_once
from hmmtts.hmm.backends.cpu.left_to_right import BAD_VALUE, OUT_OF_RANGE
from hmmtts.hmm.backends.cpu.pool import over_batch
from hmmtts.hmm.backends.cpu.product import padded
from hmmtts.hmm.topology import SemiMarkovDense, SemiMarkovLeftToRight

name = "cpu"

LIKELIHOOD, POSTERIORS, COUNTS = 0, 1, 2  # what a kernel is to compute, each including what stands before it
HIGH = (
    5.0  # nats: scores of arcs beyond are no probabilities, and scaling every few frames would not hold them
)


def log_likelihood(problem: Problem) -> Float[Tensor, "b"]:
    return _forward_backward(problem, LIKELIHOOD).log_likelihood


def forward_backward(problem: Problem, counts: bool) -> ForwardBackward:
    return _forward_backward(problem, COUNTS if counts else POSTERIORS)


def viterbi(problem: Problem) -> Viterbi:
    make_ready()
    b, t, _ = problem.log_obs.shape
    x, frames, states = _array(problem.log_obs), problem.frames.numpy(), problem.states.numpy()
    path, score = torch.empty(b, t, dtype=torch.int64), torch.empty(b, dtype=torch.float64)
    status = np.zeros(b, np.int64)
    outputs = (path.numpy(), score.numpy(), status)
    run: Callable[[np.ndarray], Any]
    if isinstance(problem.topology, SemiMarkovLeftToRight):
        durations = _array(problem.topology.durations)
        run = lambda queue: best_path.left_to_right(queue, x, durations, frames, states, *outputs)  # noqa: E731
    else:
        assert isinstance(problem.topology, SemiMarkovDense)
        scores = _scores(problem.topology)
        run = lambda queue: best_path.dense(queue, x, *scores, frames, *outputs)  # noqa: E731
    over_batch(run, _cells(problem))
    for i in _out_of_range(problem, status):
        path[i], score[i] = (part[0] for part in plain.viterbi(_one(problem, i)))
    return Viterbi(path, score)


@compiled_once
def make_ready() -> None:
    """Call every kernel once, on the smallest input."""
    log_obs, two = torch.zeros(1, 2, 2), torch.tensor([2])
    row, square = torch.zeros(2), torch.zeros(2, 2)
    # What scaling cannot hold needs the extended kernel.
    for topology in (
        SemiMarkovLeftToRight(torch.zeros(1, 2, 2)),
        SemiMarkovDense(row, square, square),
        SemiMarkovDense(row, square + 2 * HIGH, square),
    ):
        problem = Problem(log_obs, topology, two, two)
        _forward_backward(problem, COUNTS)
        viterbi(problem)


def _forward_backward(problem: Problem, wanted: int) -> ForwardBackward:
    make_ready()
    if isinstance(problem.topology, SemiMarkovLeftToRight):
        return _left_to_right(problem, problem.topology, wanted)
    assert isinstance(problem.topology, SemiMarkovDense)
    return _dense(problem, problem.topology, wanted)


def _left_to_right(problem: Problem, topology: SemiMarkovLeftToRight, wanted: int) -> ForwardBackward:
    b, t, n = problem.log_obs.shape
    x, durations = _array(problem.log_obs), _array(topology.durations)
    log_z, status = torch.empty(b, dtype=torch.float64), np.zeros(b, np.int64)
    posterior = torch.empty(b if wanted else 0, t, n, dtype=torch.float64)
    counts = torch.empty(b if wanted == COUNTS else 0, *durations.shape[1:], dtype=torch.float64)
    outputs = (posterior.numpy(), counts.numpy(), log_z.numpy(), status)
    frames, states = problem.frames.numpy(), problem.states.numpy()
    over_batch(
        lambda queue: left_to_right.forward_backward(queue, x, durations, frames, states, wanted, *outputs),
        _cells(problem),
    )
    result = ForwardBackward(log_z, posterior, SemiMarkovLeftToRight(counts))
    _redo_out_of_range(problem, status, wanted, result)
    return _as_wanted(problem, wanted, result)


def _dense(problem: Problem, topology: SemiMarkovDense, wanted: int) -> ForwardBackward:
    b, t, k = problem.log_obs.shape
    x, scores = _array(problem.log_obs), _scores(topology)
    initial, transition, durations, final = scores
    log_z, status = torch.empty(b, dtype=torch.float64), np.zeros(b, np.int64)
    posterior = torch.empty(b, t, k, dtype=torch.float64)
    counted, n = wanted == COUNTS, b if wanted == COUNTS else 0
    counts = [torch.empty(n, *score.shape, dtype=torch.float64) for score in scores]
    outputs = (posterior.numpy(), *(count.numpy() for count in counts), log_z.numpy(), status)
    frames, cells = problem.frames.numpy(), _cells(problem)

    def extended(queue: np.ndarray) -> None:
        dense_extended.forward_backward(queue, x, *scores, frames, counted, *outputs)

    if max(float(score.max()) for score in scores) < HIGH:
        rows = [padded(np.exp(score)) for score in (transition, transition.T, durations)]
        laws = (np.exp(initial), *rows, np.exp(final))
        over_batch(lambda queue: dense.forward_backward(queue, x, *laws, frames, counted, *outputs), cells)
        over_batch(extended, cells, np.flatnonzero(status == OUT_OF_RANGE))
    else:
        over_batch(extended, cells)
    result = ForwardBackward(log_z, posterior, SemiMarkovDense(*counts))
    _redo_out_of_range(problem, status, wanted, result)
    if topology.final is None:
        result = result._replace(counts=SemiMarkovDense(*counts[:3]))
    return _as_wanted(problem, wanted, result)


def _out_of_range(problem: Problem, status: np.ndarray) -> list[int]:
    """Utterances with scores that plain torch must do, slowly; what is wrong with a bad one is said."""
    if (status == BAD_VALUE).any():
        check_observations(problem)
    return [int(i) for i in np.flatnonzero(status == OUT_OF_RANGE)]


def _redo_out_of_range(problem: Problem, status: np.ndarray, wanted: int, result: ForwardBackward) -> None:
    for i in _out_of_range(problem, status):
        one = plain.forward_backward(_one(problem, i), counts=wanted == COUNTS)
        result.log_likelihood[i] = one.log_likelihood[0]
        if wanted:
            assert result.posterior is not None
            assert one.posterior is not None
            result.posterior[i] = one.posterior[0]
        if one.counts is not None and result.counts is not None:
            for whole, part in zip(result.counts, one.counts, strict=True):
                if part is not None:
                    whole[i] = part[0]


def _one(problem: Problem, i: int) -> Problem:
    """One utterance of the batch, in float64."""
    topology = problem.topology
    arcs = [None if arc is None else arc.detach().double() for arc in topology]
    if isinstance(topology, SemiMarkovLeftToRight):
        arcs = [arc[i : i + 1] for arc in arcs if arc is not None]
    return Problem(
        problem.log_obs[i : i + 1].detach().double(),
        type(topology)._make(arcs),
        problem.frames[i : i + 1],
        problem.states[i : i + 1],
    )


def _as_wanted(problem: Problem, wanted: int, result: ForwardBackward) -> ForwardBackward:
    """In the precision of the emissions, and only what was asked for."""
    dtype = problem.log_obs.dtype
    if wanted == LIKELIHOOD:
        return ForwardBackward(result.log_likelihood, None, None)
    assert result.posterior is not None
    assert result.counts is not None
    posterior, counts = result.posterior.to(dtype), None
    if wanted == COUNTS:
        counts = type(result.counts)._make(None if arc is None else arc.to(dtype) for arc in result.counts)
    return ForwardBackward(result.log_likelihood, posterior, counts)


def _array(x: Tensor) -> np.ndarray:
    return x.detach().to(torch.float64).contiguous().numpy()


def _scores(topology: SemiMarkovDense) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    initial, transition, durations = (_array(arc) for arc in topology[:3])
    final = np.zeros_like(initial) if topology.final is None else _array(topology.final)
    return initial, transition, durations, final


def _cells(problem: Problem) -> np.ndarray:
    return problem.frames.numpy() * problem.states.numpy() * problem.topology.durations.shape[-1]
