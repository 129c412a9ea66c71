"""The fast backend for CPUs: numba kernels over numpy views of the tensors, the batch shared among a few threads."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.hmm.backends.contract import ForwardBackward, Problem, Viterbi, check_arcs, check_values
from hmmtts.hmm.backends.cpu import best_path, dense, left_to_right, log_domain
from hmmtts.hmm.backends.cpu.compile import compiled_once
from hmmtts.hmm.backends.cpu.left_to_right import BAD_VALUE, DONE, IMPRECISE, OUT_OF_RANGE
from hmmtts.hmm.backends.cpu.pool import over_batch
from hmmtts.hmm.backends.cpu.product import padded
from hmmtts.hmm.topology import Dense, LeftToRight

name = "cpu"

LIKELIHOOD, POSTERIORS, COUNTS = (
    0,
    1,
    2,
)  # what a kernel is to compute, each including what stands before it
# In float32 the rounding of a few transitions does not average out: fewer states than these are done in float64.
FEW_STATES = 8
# Arcs are rounded the same way at every frame: by more than 1e-8 of a log Z below this times the frames, at worst.
SMALL_LOG_Z = 12.0
# Underflow costs at most TINY of a frame's mass (see dense.py): at most 1e-9 of Z may be lost that way.
LOST = {torch.float32: 1e-9 / 1e-38, torch.float64: 1e-15 / 1e-307}


def log_likelihood(problem: Problem) -> Float[Tensor, "b"]:
    return _forward_backward(problem, LIKELIHOOD).log_likelihood


def forward_backward(problem: Problem, counts: bool) -> ForwardBackward:
    return _forward_backward(problem, COUNTS if counts else POSTERIORS)


def viterbi(problem: Problem) -> Viterbi:
    make_ready()
    log_obs, topology, frames, states = problem
    b, t, _ = log_obs.shape
    path, score = (torch.empty(b, t, dtype=torch.int64), torch.empty(b, dtype=torch.float64))
    status = np.zeros(b, np.int64)
    x, lengths, outputs = (_array(log_obs), frames.numpy(), (path.numpy(), score.numpy(), status))
    if isinstance(topology, LeftToRight):
        arcs, per_frame, skips = _arcs(topology)

        def run(queue: np.ndarray) -> None:
            best_path.viterbi(queue, x, *arcs, per_frame, skips, lengths, states.numpy(), *outputs)
    else:
        check_arcs(problem)
        scores = _dense_scores(topology)

        def run(queue: np.ndarray) -> None:
            dense.viterbi(queue, x, *scores, lengths, *outputs)

    over_batch(run, _cells(problem))
    if any(status.tolist()):
        check_values(problem)
    return Viterbi(path, score)


@compiled_once
def make_ready() -> None:
    """Call every kernel once, on the smallest input, in both precisions."""
    for dtype in (torch.float32, torch.float64):
        log_obs, one = torch.zeros(1, 2, 2, dtype=dtype), torch.tensor([2])
        arc = torch.zeros(1, 2, dtype=dtype)
        square = torch.zeros(2, 2, dtype=dtype)
        for topology in (LeftToRight(arc, arc), Dense(square[0], square)):
            problem = Problem(log_obs, topology, one, one)
            _forward_backward(problem, COUNTS)
            _forward_backward(problem._replace(log_obs=log_obs - 1e9 * torch.eye(2, dtype=dtype)), COUNTS)
            viterbi(problem)


def _forward_backward(problem: Problem, wanted: int) -> ForwardBackward:
    make_ready()
    if isinstance(problem.topology, LeftToRight):
        return _left_to_right(problem, problem.topology, wanted)
    return _dense(problem, problem.topology, wanted)


def _left_to_right(problem: Problem, topology: LeftToRight, wanted: int) -> ForwardBackward:
    log_obs, _, frames, states = problem
    b = len(frames)
    arcs, per_frame, skips = _arcs(topology)
    inputs = (_array(log_obs), *arcs, per_frame, skips, frames.numpy(), states.numpy())
    log_z, status = np.empty(b), np.zeros(b, np.int64)
    posterior = np.empty(log_obs.shape if wanted else (b, 1, 1), inputs[0].dtype)
    unused = np.empty((b, 1, 1), inputs[0].dtype)
    counts = [np.empty_like(arc) if wanted == COUNTS else unused for arc in arcs]
    outputs = (posterior, *counts, log_z, status)

    def extended(queue: np.ndarray) -> None:
        left_to_right.forward_backward(queue, *inputs, wanted, *outputs)

    def exact(queue: np.ndarray, wanted: int = wanted) -> None:
        log_domain.forward_backward(queue, *inputs, wanted, *outputs)

    over_batch(extended if log_obs.dtype == torch.float32 else exact, _cells(problem))
    _finish(problem, status, exact)
    if wanted == LIKELIHOOD:
        return ForwardBackward(torch.from_numpy(log_z), None, None)
    if wanted == POSTERIORS:
        return ForwardBackward(torch.from_numpy(log_z), torch.from_numpy(posterior), None)
    taken = [torch.from_numpy(count if per_frame else count[:, 0]) for count in counts]
    return ForwardBackward(
        torch.from_numpy(log_z), torch.from_numpy(posterior), LeftToRight(*taken[: 3 if skips else 2])
    )


def _dense(problem: Problem, topology: Dense, wanted: int) -> ForwardBackward:
    check_arcs(problem)
    log_obs, _, frames, _ = problem
    b, _, k = log_obs.shape
    if k < FEW_STATES and log_obs.dtype == torch.float32:
        return _in_double(problem, topology, wanted)
    x, log_z, status = (_array(log_obs), torch.empty(b, dtype=torch.float64), np.zeros(b, np.int64))
    scores = _dense_scores(topology)
    if wanted == LIKELIHOOD and not _forgiving(scores):
        wanted = POSTERIORS  # only the backward pass tells whether underflow did harm
    posterior = torch.empty(log_obs.shape if wanted else (b, 1, 1), dtype=log_obs.dtype)
    n = b if wanted == COUNTS else 0
    counts = [torch.empty(shape, dtype=log_obs.dtype) for shape in ((n, k), (n, k, k), (n, k))]
    outputs = (posterior.numpy(), *(count.numpy() for count in counts), log_z.numpy(), status)

    # Scores need not be log-probabilities: exp must not overflow. The kernel takes the transposed matrix too.
    highest = [max(float(score.max()), -1e30) for score in scores]
    weights = [np.exp(score.astype(np.float64) - top) for score, top in zip(scores, highest, strict=True)]
    probabilities = [padded(weight.astype(x.dtype)) for weight in (*weights, weights[1].T)]

    def scaled(queue: np.ndarray) -> None:
        dense.forward_backward(
            queue, x, *probabilities, frames.numpy(), wanted, LOST[log_obs.dtype], *outputs
        )

    def exact(queue: np.ndarray, wanted: int = wanted) -> None:
        dense.log_domain(queue, x, *scores, frames.numpy(), wanted, *outputs)

    over_batch(scaled, _cells(problem))
    log_z += highest[0] + highest[1] * (frames.double() - 1) + highest[2]
    small = (log_z.abs() < SMALL_LOG_Z * frames) & torch.from_numpy(status == DONE)
    _finish(problem, status, exact)
    if log_obs.dtype == torch.float32 and bool(small.any()):
        part = problem._replace(log_obs=log_obs[small], frames=frames[small], states=problem.states[small])
        log_z[small] = _in_double(part, topology, LIKELIHOOD).log_likelihood
    if wanted == LIKELIHOOD:
        return ForwardBackward(log_z, None, None)
    final = None if topology.final is None else counts[2]
    return ForwardBackward(log_z, posterior, Dense(counts[0], counts[1], final) if wanted == COUNTS else None)


def _in_double(problem: Problem, topology: Dense, wanted: int) -> ForwardBackward:
    wide = Dense._make(None if arc is None else arc.double() for arc in topology)
    result = _dense(problem._replace(log_obs=problem.log_obs.double(), topology=wide), wide, wanted)
    if result.posterior is None or result.counts is None:
        return result._replace(posterior=None if result.posterior is None else result.posterior.float())
    counts = Dense._make(None if count is None else count.float() for count in result.counts)
    return ForwardBackward(result.log_likelihood, result.posterior.float(), counts)


def _finish(problem: Problem, status: np.ndarray, exact: Callable[..., None]) -> None:
    """Say what is wrong with a bad utterance; do again in the log domain what the fast kernel could not do."""
    if not any(status.tolist()):  # of so few numbers quicker than numpy's
        return
    # Kernels write the status they leave behind: find both kinds before either is done again.
    imprecise, out_of_range = (np.flatnonzero(status == kind) for kind in (IMPRECISE, OUT_OF_RANGE))
    cells = _cells(problem)
    over_batch(lambda queue: exact(queue, LIKELIHOOD), cells, imprecise)
    over_batch(exact, cells, out_of_range)
    if (status == BAD_VALUE).any():
        check_values(problem)


def _forgiving(scores: tuple[np.ndarray, ...]) -> bool:
    """No arc so unlikely that a state lost to underflow could come to matter."""
    return all(bool((score > -20).all()) for score in scores)


def _array(x: Tensor) -> np.ndarray:
    return (x.detach() if x.requires_grad else x).contiguous().numpy()


def _arcs(topology: LeftToRight) -> tuple[list[np.ndarray], bool, bool]:
    """Arcs as [b, 1 or t, n], an empty array for no skips; whether they change with time, and whether there are skips."""
    per_frame = topology.stay.ndim == 3
    arcs = [_array(arc) for arc in topology if arc is not None]
    arcs = arcs if per_frame else [arc[:, None] for arc in arcs]
    if topology.skip is None:
        arcs.append(np.empty((len(arcs[0]), 1, 0), arcs[0].dtype))
    return arcs, per_frame, topology.skip is not None


def _dense_scores(topology: Dense) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    initial, transition = _array(topology.initial), _array(topology.transition)
    return (initial, transition, np.zeros_like(initial) if topology.final is None else _array(topology.final))


def _cells(problem: Problem) -> np.ndarray:
    return problem.frames.numpy() * problem.states.numpy()
