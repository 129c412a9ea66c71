"""Dynamic time warping: which frame of one sequence belongs to which of another, exactly, for batches of pairs.

Letters: b pairs, t frames of the reference, u frames of the hypothesis, p cells of a path, c features. A path begins at
(0, 0) and ends in the last frames of both; its cost is the weighted sum of the cells that it enters. `ref_frames` and
`hyp_frames` say what is real; the padding may hold anything. Computed on the CPU, in float64.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Pattern = Literal["symmetric1", "symmetric2", "asymmetric"]
Metric = Literal["euclidean", "sqeuclidean", "cityblock", "cosine"]
Columns = tuple[Int[np.ndarray, "t"], Int[np.ndarray, "t"]]


class Warp(NamedTuple):
    """Cell i of a pair's path joins frame ref[b, i] with frame hyp[b, i]; beyond `length` both are -1.

    A pair with an empty side has no cells, and its cost is NaN.
    """

    cost: Float[Tensor, "b"]
    ref: Int[Tensor, "b p"]
    hyp: Int[Tensor, "b p"]
    length: Int[Tensor, "b"]


class SakoeChiba(NamedTuple):
    """Cells at most `radius` frames of the hypothesis away from the straight line between the two corners.

    Where both sides are equally long, that is |i - j| <= radius (Sakoe and Chiba 1978).
    """

    radius: float

    def columns(self, t: int, u: int) -> Columns:
        """The columns first <= j < last of every row."""
        if self.radius < 0:
            raise ValueError(f"radius must be at least 0, got {self.radius}")
        line = np.arange(t) * (u - 1) / max(1, t - 1)
        return _columns(line - self.radius, line + self.radius, u)


class Itakura(NamedTuple):
    """Cells of the parallelogram whose sides are `slope` times as steep as the line between the corners, or as flat
    (Itakura 1975, with slope 2).
    """

    slope: float = 2.0

    def columns(self, t: int, u: int) -> Columns:
        """The columns first <= j < last of every row."""
        if self.slope <= 1:
            raise ValueError(f"slope must be more than 1, got {self.slope}")
        x = np.arange(t) / max(1, t - 1)
        low = np.maximum(x / self.slope, 1 - (1 - x) * self.slope)
        high = np.minimum(x * self.slope, 1 - (1 - x) / self.slope)
        return _columns(low * (u - 1), high * (u - 1), u)


Band = SakoeChiba | Itakura


def dtw(
    cost: Float[Tensor, "b t u"],
    ref_frames: Int[Tensor, "b"],
    hyp_frames: Int[Tensor, "b"],
    pattern: Pattern = "symmetric1",
    band: Band | None = None,
) -> Warp:
    """The path of least cost through matrices of costs, where inf forbids a cell.

    symmetric1: steps (1, 1), (1, 0), (0, 1), each of weight 1; symmetric2: the diagonal has weight 2, so that costs
    divide by t + u; asymmetric: (1, 0), (1, 1), (1, 2), one cell for every frame of the reference. The first cell has
    weight 1. Of equally good steps the diagonal is taken, then the one that advances the reference alone.
    """
    pairs = plan(cost.shape, ref_frames, hyp_frames, band)
    nothing = np.empty((len(cost), 0, 0))
    warp = _best_path(Input(as_array(cost), nothing, nothing, GIVEN), pairs, pattern, band, cost.device)
    if bool((warp.cost == -torch.inf).any()):
        check_costs(cost, pairs)
    return warp


def dtw_sequences(
    ref: Float[Tensor, "b t c"],
    ref_frames: Int[Tensor, "b"],
    hyp: Float[Tensor, "b u c"],
    hyp_frames: Int[Tensor, "b"],
    metric: Metric = "euclidean",
    pattern: Pattern = "symmetric1",
    band: Band | None = None,
) -> Warp:
    """`dtw` of the distances between two sequences, whose matrix is never in memory as a whole."""
    if ref.shape[2] != hyp.shape[2]:
        raise ValueError(f"ref and hyp must have the same features, got {ref.shape[2]} and {hyp.shape[2]}")
    pairs = plan((len(ref), ref.shape[1], hyp.shape[1]), ref_frames, hyp_frames, band)
    number, scale = METRICS[_one_of("metric", metric, Metric)]
    sides = [x.detach().cpu().double() for x in (ref, hyp)]
    for name, x, lengths in zip(("ref", "hyp"), sides, pairs.lengths, strict=True):
        _refuse(name, ~torch.isfinite(x), lengths)
    if metric == "cosine":  # half the square of the distance between vectors of length one
        sides = [torch.nn.functional.normalize(x, dim=2) for x in sides]
    arrays = sides[0].contiguous().numpy(), sides[1].transpose(1, 2).contiguous().numpy()
    warp = _best_path(Input(np.empty((len(ref), 0, 0)), *arrays, number), pairs, pattern, band, ref.device)
    return warp._replace(cost=warp.cost * scale)


def distances(
    ref: Float[Tensor, "b t c"], hyp: Float[Tensor, "b u c"], metric: Metric = "sqeuclidean"
) -> Float[Tensor, "b t u"]:
    """All distances between the frames of two sequences, differentiable: the costs of soft-DTW."""
    _one_of("metric", metric, Metric)
    if metric == "cityblock":
        return torch.cdist(ref, hyp, p=1)
    if metric == "cosine":
        normalize = torch.nn.functional.normalize
        return 1 - normalize(ref, dim=2) @ normalize(hyp, dim=2).transpose(1, 2)
    # By matrix products, a frame would have a distance from itself.
    distance = torch.cdist(ref, hyp, compute_mode="donot_use_mm_for_euclid_dist")
    return distance if metric == "euclidean" else distance.square()


class Pairs(NamedTuple):
    """What the kernels are told of the pairs: their lengths, and the columns first <= j < last of every row."""

    frames: Int[np.ndarray, "b 2"]
    first: Int[np.ndarray, "b t"]
    last: Int[np.ndarray, "b t"]

    @property
    def lengths(self) -> tuple[Int[Tensor, "b"], Int[Tensor, "b"]]:
        ref, hyp = torch.from_numpy(self.frames).unbind(1)
        return ref, hyp

    @property
    def cells(self) -> Int[np.ndarray, "b"]:
        return (self.last - self.first).sum(1)


def plan(
    shape: Sequence[int], ref_frames: Int[Tensor, "b"], hyp_frames: Int[Tensor, "b"], band: Band | None
) -> Pairs:
    b, t, u = shape
    lengths = []
    for name, frames, longest in (("ref_frames", ref_frames, t), ("hyp_frames", hyp_frames, u)):
        given = frames.detach().cpu().numpy()
        if (
            given.shape != (b,)
            or given.dtype.kind != "i"
            or (b and not 0 <= given.min() <= given.max() <= longest)
        ):
            raise ValueError(
                f"{name} must be {b} integers from 0 to {longest}, one for each pair, got {given.tolist()}"
            )
        lengths.append(given)
    sizes = np.stack(lengths, 1).astype(np.int64)
    first, last = np.zeros((b, t), np.int64), np.zeros((b, t), np.int64)
    for pair, (rows, columns) in enumerate(sizes):
        if rows and columns:
            low, high = band.columns(rows, columns) if band else (0, columns)
            first[pair, :rows], last[pair, :rows] = low, high
    return Pairs(sizes, first, last)


def check_costs(cost: Float[Tensor, "b t u"], pairs: Pairs) -> None:
    _refuse("cost", ~(cost > -torch.inf), *pairs.lengths)


def as_array(cost: Float[Tensor, "b t u"]) -> Float[np.ndarray, "b t u"]:
    return cost.detach().cpu().double().contiguous().numpy()


def no_path(pair: int, pairs: Pairs, band: Band | None) -> ValueError:
    t, u = pairs.frames[pair]
    return ValueError(
        f"pair {pair} of {t} x {u} frames has no path of finite cost inside {band or 'its matrix'}: "
        "widen the band, allow more cells, or take the pattern symmetric1"
    )


GIVEN = 0
# The kernel's number of each metric, and what its costs are multiplied by.
METRICS: dict[str, tuple[int, float]] = {
    "euclidean": (1, 1.0),
    "sqeuclidean": (2, 1.0),
    "cityblock": (3, 1.0),
    "cosine": (2, 0.5),
}


class Input(NamedTuple):
    """Costs, or two sequences and the number of their metric."""

    cost: Float[np.ndarray, "b t u"]
    ref: Float[np.ndarray, "b t c"]
    hyp: Float[np.ndarray, "b c u"]
    metric: int


def _best_path(given: Input, pairs: Pairs, pattern: Pattern, band: Band | None, device: torch.device) -> Warp:
    from hmmtts.hmm.backends.cpu import warping
    from hmmtts.hmm.backends.cpu.pool import over_batch

    number = get_args(Pattern).index(_one_of("pattern", pattern, Pattern))
    warping.make_ready()
    b, longest = len(pairs.frames), int((pairs.frames.sum(1) - 1).max(initial=0))
    ref, hyp = torch.empty(b, longest, dtype=torch.int64), torch.empty(b, longest, dtype=torch.int64)
    cost, length = torch.empty(b, dtype=torch.float64), torch.empty(b, dtype=torch.int64)
    outputs = [x.numpy() for x in (ref, hyp, length, cost)]
    over_batch(
        lambda queue: warping.best_path(queue, *given, number, *pairs, *outputs),
        pairs.cells * max(1, given.ref.shape[2] // 4),
    )
    if bool((cost == torch.inf).any()):
        raise no_path(int((cost == torch.inf).nonzero()[0]), pairs, band)
    return Warp(*(x.to(device) for x in (cost, ref, hyp, length)))


def _columns(low: Float[np.ndarray, "t"], high: Float[np.ndarray, "t"], u: int) -> Columns:
    if len(low) == 1:  # one frame of the reference meets all of the hypothesis
        return np.zeros(1, np.int64), np.full(1, u)
    first = np.clip(np.ceil(low - 1e-9), 0, u - 1).astype(np.int64)
    last = np.clip(np.floor(high + 1e-9) + 1, first + 1, u).astype(np.int64)
    return first, last


def _one_of(name: str, value: str, choice) -> str:
    if value not in get_args(choice):
        raise ValueError(f"{name} must be one of {', '.join(get_args(choice))}, got {value!r}")
    return value


def _refuse(name: str, bad: Bool[Tensor, "b *sizes"], *lengths: Int[Tensor, "b"]) -> None:
    """A bad number in the padding is nothing; elsewhere it is an error that says where."""
    if not bool(bad.any()):
        return
    bad = bad.cpu()
    for axis, length in enumerate(lengths, start=1):
        real = torch.arange(bad.shape[axis]) < length[:, None]
        bad = bad & real.view(len(bad), *(bad.shape[axis] if i == axis else 1 for i in range(1, bad.ndim)))
    if bool(bad.any()):
        where = bad.nonzero()[0].tolist()
        raise ValueError(
            f"{name} is not a number or infinite at {where}; look for what made it before the warping"
        )
