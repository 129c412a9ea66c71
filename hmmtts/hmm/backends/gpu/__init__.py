"""The backend for CUDA devices: Triton kernels, one program per utterance.

Tensors on the CPU are taken where TRITON_INTERPRET=1 was set before Triton was first imported: slow, for tests.
"""

import math
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.hmm.backends.contract import ForwardBackward, Problem, Viterbi, check_values
from hmmtts.hmm.topology import Dense, LeftToRight

try:
    import triton
except ImportError as error:
    raise ImportError("Triton is not installed; CUDA builds of torch bring it") from error

from hmmtts.hmm.backends.gpu import best_path, dense, left_to_right

name = "gpu"

TILE = 2048  # cells of a matrix at a time: what the registers of one program hold


def log_likelihood(problem: Problem) -> Float[Tensor, "b"]:
    with torch.cuda.device_of(problem.log_obs):
        return _solver(problem).forward(keep=False).log_z()


def forward_backward(problem: Problem, counts: bool) -> ForwardBackward:
    with torch.cuda.device_of(problem.log_obs):
        solver = _solver(problem)
        return solver.backward(solver.forward(keep=True), counts)


def viterbi(problem: Problem) -> Viterbi:
    with torch.cuda.device_of(problem.log_obs):  # Triton launches on the current device
        return _solver(problem).viterbi()


class Forward(NamedTuple):
    """Cells of alpha [b t n] (empty if not kept) and of Z [b]."""

    alpha_m: Tensor
    alpha_e: Tensor
    z_m: Tensor
    z_e: Tensor

    def log_z(self) -> Float[Tensor, "b"]:
        return (self.z_e + self.z_m.log2()) * math.log(2)


@final
class LeftToRightSolver:
    def __init__(self, problem: Problem, topology: LeftToRight) -> None:
        self.log_obs, self.device = problem.log_obs.detach().contiguous(), problem.log_obs.device
        self.frames, self.states = problem.frames.to(self.device), problem.states.to(self.device)
        arcs = [arc.detach().contiguous() for arc in topology if arc is not None]
        self.shape, self.per_frame, self.skips = arcs[0].shape, topology.stay.ndim == 3, len(arcs) == 3
        self.arcs = [*arcs, arcs[0]][:3]  # a pointer for the skips that are not there
        self.grid = (len(self.log_obs),)
        block = triton.next_power_of_2(self.log_obs.shape[2])
        self.options: dict[str, Any] = {
            "PER_FRAME": self.per_frame,
            "SKIPS": self.skips,
            "BLOCK": block,
            "num_warps": warps(block, 2),
        }

    def forward(self, keep: bool) -> Forward:
        result = _empty_forward(self.log_obs, keep)
        left_to_right.forward[self.grid](*self._inputs(), *result, *self._sizes(), KEEP=keep, **self.options)
        return result

    def backward(self, result: Forward, counts: bool) -> ForwardBackward:
        posterior = torch.zeros_like(self.log_obs)
        taken = [posterior.new_zeros(self.shape if counts else 1) for _ in self.arcs]
        left_to_right.backward[self.grid](
            *self._inputs(), *result[:2], *self._sizes(), posterior, *taken, COUNT=counts, **self.options
        )
        kinds = taken if self.skips else taken[:2]
        return ForwardBackward(result.log_z(), posterior, LeftToRight(*kinds) if counts else None)

    def viterbi(self) -> Viterbi:
        steps = torch.empty_like(self.log_obs, dtype=torch.int8)
        score, last = _ends(self.log_obs)
        best_path.left_to_right[self.grid](
            *self._inputs(), steps, score, last, *self._sizes(), **self.options
        )
        return _trace(steps, score, last, self.frames, steps=True)

    def _inputs(self) -> tuple[Tensor, ...]:
        return self.log_obs, *self.arcs, self.frames, self.states

    def _sizes(self) -> tuple[int, int]:
        return self.log_obs.shape[1], self.log_obs.shape[2]


@final
class DenseSolver:
    def __init__(self, problem: Problem, topology: Dense) -> None:
        self.log_obs = problem.log_obs.detach().contiguous()
        self.frames = problem.frames.to(self.log_obs.device)
        self.initial, self.transition = (
            arc.detach().contiguous() for arc in (topology.initial, topology.transition)
        )
        self.has_final = topology.final is not None
        self.final = (
            torch.zeros_like(self.initial) if topology.final is None else topology.final.detach().contiguous()
        )
        self.grid = (len(self.log_obs),)
        self.sizes = self.log_obs.shape[1], self.log_obs.shape[2]
        block = triton.next_power_of_2(self.sizes[1])
        rows = min(block, max(1, TILE // block))
        self.options = {"BLOCK": block, "ROWS": rows, "num_warps": warps(rows * block, 8)}

    def forward(self, keep: bool) -> Forward:
        result = _empty_forward(self.log_obs, keep)
        dense.forward[self.grid](
            self.log_obs, self.initial, *_cells(self.transition), self.final, self.frames, *result, *self.sizes,
            KEEP=keep, **self.options,
        )  # fmt: skip
        return result

    def backward(self, result: Forward, counts: bool) -> ForwardBackward:
        posterior = torch.zeros_like(self.log_obs)
        worth = _doubles(self.log_obs, 2, self.log_obs.shape if counts else (1,))
        scales = _doubles(self.log_obs, 2, self.log_obs.shape[:2] if counts else (1,))
        dense.backward[self.grid](
            self.log_obs, *_cells(self.transition.T.contiguous()), self.final, self.frames, *result[:2],
            *self.sizes, posterior, *worth, *scales, COUNT=counts, **self.options,
        )  # fmt: skip
        taken = None
        if counts:
            b, k = self.grid[0], self.sizes[1]
            arcs = posterior.new_empty(b, k, k)
            dense.count[b, triton.cdiv(k, self.options["ROWS"])](
                *_cells(self.transition), self.frames, *result[:2], *worth, *scales, *self.sizes, arcs,
                **self.options,
            )  # fmt: skip
            last = posterior[torch.arange(b, device=posterior.device), self.frames - 1]
            taken = Dense(posterior[:, 0].clone(), arcs, last if self.has_final else None)
        return ForwardBackward(result.log_z(), posterior, taken)

    def viterbi(self) -> Viterbi:
        before = torch.empty_like(self.log_obs, dtype=torch.int32)
        score, last = _ends(self.log_obs)
        best_path.dense[self.grid](
            self.log_obs, self.initial, self.transition, self.final, self.frames, before, score, last,
            *self.sizes, **self.options,
        )  # fmt: skip
        return _trace(before, score, last, self.frames, steps=False)


def _solver(problem: Problem) -> LeftToRightSolver | DenseSolver:
    device = problem.log_obs.device
    if device.type != "cuda" and not triton.knobs.runtime.interpret:
        raise ValueError(
            f"HMMTTS_BACKEND=gpu needs log_obs on a CUDA device, got {device}; move it there, or unset HMMTTS_BACKEND"
        )
    check_values(problem)
    if isinstance(problem.topology, LeftToRight):
        return LeftToRightSolver(problem, problem.topology)
    assert isinstance(problem.topology, Dense)
    return DenseSolver(problem, problem.topology)


def warps(cells: int, each: int) -> int:
    """Threads for so many cells, several to each: more would only wait for one another at every frame."""
    return min(8, max(1, cells // (32 * each)))


def _empty_forward(log_obs: Tensor, keep: bool) -> Forward:
    cells = log_obs.shape if keep else (1,)
    return Forward(*_doubles(log_obs, 2, cells), *_doubles(log_obs, 2, log_obs.shape[:1]))


def _doubles(like: Tensor, count: int, shape: tuple[int, ...]) -> list[Tensor]:
    return [like.new_empty(shape, dtype=torch.float64) for _ in range(count)]


def _cells(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Mantissas, and exponents in the precision of the scores, of a matrix that every frame reads."""
    y = scores.double() / math.log(2)
    e = y.floor()
    return torch.exp2(y - e.clamp(min=-1e307)), e.to(scores.dtype)


def _ends(log_obs: Tensor) -> tuple[Tensor, Tensor]:
    b = len(log_obs)
    return log_obs.new_empty(b, dtype=torch.float64), log_obs.new_empty(b, dtype=torch.int64)


def _trace(pointers: Tensor, score: Tensor, last: Tensor, frames: Tensor, steps: bool) -> Viterbi:
    b, t, n = pointers.shape
    path = torch.full((b, t), -1, dtype=torch.int64, device=pointers.device)
    best_path.trace[(b,)](pointers, score, last, frames, path, t, n, STEPS=steps, num_warps=1)
    return Viterbi(path, score)
