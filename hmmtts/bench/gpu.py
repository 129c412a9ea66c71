"""Is the `gpu` backend right on this device, and how fast? For scripts/gpu_check.py.

Letters: b utterances, t frames, n states of a left-to-right model, k states of a dense one.
"""

import math
import platform
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hmmtts.bench.batches import (
    Batch,
    dense_batch,
    forced,
    gradient,
    in_float64,
    left_to_right_batch,
)
from hmmtts.bench.record import Record
from hmmtts.bench.timing import interleave
from hmmtts.hmm import Dense, LeftToRight, expected_counts, log_likelihood, posteriors, viterbi

KINDS = (
    "static", "static_skip", "per_frame", "per_frame_skip", "forbidden_stay", "dense", "dense_final", "dense_sparse",
)  # fmt: skip
BARS = {
    torch.float32: {"log Z": 1e-8, "posterior": 1e-5, "counts": 1e-5, "score": 1e-8},
    torch.float64: {"log Z": 1e-12, "posterior": 1e-10, "counts": 1e-10, "score": 1e-12},
}


class Check(NamedTuple):
    """One comparison with the reference in float64; what is above one is compared relative to itself."""

    case: str
    quantity: str
    error: float
    bar: float

    @property
    def passed(self) -> bool:
        return self.error <= self.bar


class Sizes(NamedTuple):
    parity: list[tuple[int, int, int]]
    spreads: list[float]
    left_to_right: list[tuple[int, int, int]]
    dense: list[tuple[int, int, int]]
    rounds: int


REAL = Sizes(
    parity=[(1, 1, 1), (7, 50, 33), (4, 300, 150), (1, 2000, 40)],
    spreads=[1.0, 1000.0],
    left_to_right=[(16, 600, 100), (32, 1000, 200), (128, 1000, 200), (4, 2000, 1000)],
    dense=[(16, 500, 10), (16, 500, 50), (16, 500, 200)],
    rounds=20,
)
# For Triton's interpreter, which takes a millisecond per frame and utterance.
TINY = Sizes(
    parity=[(1, 1, 1), (3, 6, 5)],
    spreads=[1.0, 1000.0],
    left_to_right=[(2, 8, 5)],
    dense=[(2, 6, 3)],
    rounds=1,
)


def versions(device: torch.device) -> dict[str, str]:
    import triton

    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device)
        if cuda
        else f"{platform.processor()} (Triton's interpreter)",
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": torch.version.cuda or "none",
        "python": platform.python_version(),
    }


def parity(sizes: Sizes, device: torch.device) -> Iterator[Check]:
    """Every kind of arc in both precisions, with lengths that vary, impossible cells and padding full of NaN."""
    for dtype in (torch.float32, torch.float64):
        for shape in sizes.parity:
            for spread in sizes.spreads:
                for kind in KINDS:
                    batch = made_up(kind, shape, spread, dtype)
                    case = f"{kind} {list(shape)} spread {spread:g} {str(dtype).removeprefix('torch.')}"
                    for quantity, error in compare(batch, device).items():
                        yield Check(case, quantity, error, BARS[dtype][quantity])


def made_up(kind: str, shape: tuple[int, int, int], spread: float, dtype: torch.dtype) -> Batch:
    b, t, n = shape
    generator = torch.Generator().manual_seed(b + t + n)

    def draw(*size: int) -> Tensor:
        return (spread * torch.randn(*size, generator=generator)).to(dtype)

    log_obs = draw(*shape)
    log_obs[torch.rand(*shape, generator=generator) < 0.01] = -math.inf
    states = torch.randint(max(1, n // 2), n + 1, (b,), generator=generator)
    frames = torch.randint(3 * t // 4 + 1, t + 1, (b,), generator=generator).maximum(states)
    states[0], frames[0] = n, t
    if kind.startswith("dense"):
        initial, transition, final = draw(n), draw(n, n), draw(n)
        if kind == "dense_sparse":
            transition[torch.rand(n, n, generator=generator) < 0.4] = -math.inf
        log_obs = _padded(log_obs, frames, torch.full((b,), n))
        return Batch(
            log_obs, Dense(initial, transition, final if kind == "dense_final" else None), frames, states
        )
    size = shape if kind.startswith("per_frame") else (b, n)
    arcs = [draw(*size) for _ in range(3 if kind.endswith("skip") else 2)]
    if kind == "forbidden_stay":
        arcs[0][:, ::3] = -math.inf
    if kind.startswith("per_frame"):
        arcs = [_padded(arc, frames, states) for arc in arcs]
    return Batch(_padded(log_obs, frames, states), LeftToRight(*arcs), frames, states)


def _padded(x: Tensor, frames: Tensor, states: Tensor) -> Tensor:
    """Padding may hold anything, and must reach no result."""
    t = torch.arange(x.shape[1]) < frames[:, None]
    n = torch.arange(x.shape[2]) < states[:, None]
    return x.masked_fill(~(t[:, :, None] & n[:, None]), math.nan)


def compare(batch: Batch, device: torch.device) -> dict[str, float]:
    """Largest errors of the `gpu` backend against the reference in float64."""
    exact = on(in_float64(batch), device)
    with forced("reference"):
        truth = log_likelihood(*exact), posteriors(*exact), expected_counts(*exact), viterbi(*exact).score
    there = on(batch, device)
    with forced("gpu"):
        found = log_likelihood(*there), posteriors(*there), expected_counts(*there), viterbi(*there)
    counts = [
        _error(x, y) for x, y in zip(found[2], truth[2], strict=True) if x is not None and y is not None
    ]
    scores = torch.stack([path_score(exact, b, found[3].path[b]) for b in range(len(batch.frames))])
    return {
        "log Z": _error(found[0], truth[0]),
        "posterior": _error(found[1], truth[1]),
        "counts": max(counts),
        # The path's own score, added up here: a right score beside a wrong path would be no use.
        "score": max(_error(scores, truth[3]), _error(found[3].score, truth[3])),
    }


def path_score(batch: Batch, b: int, path: Tensor) -> Tensor:
    """The score of an utterance's path, -inf for none; a path that takes a step that does not exist raises."""
    frames, states, topology = int(batch.frames[b]), int(batch.states[b]), batch.topology
    if bool((path < 0).all()):
        return torch.tensor(-math.inf, dtype=torch.float64, device=path.device)
    if bool((path[:frames] < 0).any()) or bool((path[frames:] >= 0).any()):
        raise AssertionError(f"utterance {b} has {frames} frames and the path {path.tolist()}")
    path = path[:frames]
    t = torch.arange(frames, device=path.device)
    score = batch.log_obs[b][t, path].sum()
    if isinstance(topology, Dense):
        score = score + topology.initial[path[0]] + topology.transition[path[:-1], path[1:]].sum()
        return score if topology.final is None else score + topology.final[path[-1]]
    steps = torch.cat([path[1:], path.new_tensor([states])]) - path
    for distance, arc in enumerate(topology):
        taken = steps == distance
        if arc is None:
            continue
        of_utterance = arc[b] if arc.ndim == 3 else arc[b].expand(frames, -1)
        score = score + of_utterance[t, path][taken].sum()
        steps = torch.where(taken, 0, steps)
    if bool(steps.any()):
        raise AssertionError(f"utterance {b} takes steps that do not exist: {path.tolist()}")
    return score


def _error(found: Tensor, truth: Tensor) -> float:
    """The largest difference, relative where the truth is above one; infinite where only one of them is."""
    found, truth = found.double(), truth.double()
    difference = torch.where(found == truth, 0.0, (found - truth).abs() / truth.abs().clamp(min=1.0))
    worst = float(difference.max())
    return math.inf if math.isnan(worst) else worst


def speed(sizes: Sizes, device: torch.device) -> Iterator[Record]:
    """Wall time, the answer waited for: `ours` and the plain torch recursion on the device, `cpu` on the host."""
    for shape in sizes.left_to_right:
        batch, name = on(left_to_right_batch(*shape), device), "b{}_t{}_s{}".format(*shape)
        yield from _time(f"ltr_grad_{name}", batch, gradient, sizes.rounds)
        yield from _time(f"ltr_viterbi_{name}", batch, _viterbi, sizes.rounds)
    for shape in sizes.dense:
        batch, name = on(dense_batch(*shape), device), "b{}_t{}_k{}".format(*shape)
        yield from _time(f"dense_grad_{name}", batch, _dense_gradient, sizes.rounds)
        yield from _time(f"dense_viterbi_{name}", batch, _viterbi, sizes.rounds)


def _dense_gradient(batch: Batch) -> Any:
    return gradient(batch, by_arcs=True)


def _viterbi(batch: Batch) -> Any:
    return viterbi(*batch)


def _time(work: str, batch: Batch, task: Callable[[Batch], Any], rounds: int) -> Iterator[Record]:
    def by(backend: str, batch: Batch) -> Callable[[], None]:
        def call() -> None:
            with forced(backend):
                task(batch)
            if batch.log_obs.is_cuda:
                torch.cuda.synchronize(batch.log_obs.device)

        return call

    calls = {
        "ours": by("gpu", batch),
        "reference": by("reference", batch),
        "cpu": by("cpu", on(batch, torch.device("cpu"))),
    }
    for call in calls.values():
        call()  # also compiles
    times = interleave(calls, seconds=10, rounds=rounds)
    for name, taken in times.items():
        yield Record(work, name, taken.wall, "ms wall", taken.wall / times["ours"].wall)


def on(batch: Batch, device: torch.device) -> Batch:
    topology = type(batch.topology)._make(None if arc is None else arc.to(device) for arc in batch.topology)
    return batch._replace(log_obs=batch.log_obs.to(device), topology=topology)
