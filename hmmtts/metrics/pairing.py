"""Which frame of a reference belongs to which frame of a hypothesis: by index, or along an exact DTW path.

Letters: b utterances, t and u frames of the two sides, p pairs, c coefficients. Both ways give the same `Pairs`, so
every frame-wise figure is written once, for tensors that are already paired.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from numba import njit
from torch import Tensor


class Pairs(NamedTuple):
    """Pair p of utterance b joins frame ref[b, p] with frame hyp[b, p]; what lies beyond `length` is padding."""

    ref: Int[Tensor, "b p"]
    hyp: Int[Tensor, "b p"]
    length: Int[Tensor, "b"]


def valid(lengths: Int[Tensor, "b"], size: int) -> Bool[Tensor, "b {size}"]:
    """True inside each utterance, False in its padding."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def select(x: Shaped[Tensor, "b t *c"], index: Int[Tensor, "b p"]) -> Shaped[Tensor, "b p *c"]:
    """The frames of x that one side of the pairs names."""
    return x[torch.arange(len(x), device=x.device)[:, None], index.to(x.device)]


def by_index(ref_frames: Int[Tensor, "b"], hyp_frames: Int[Tensor, "b"]) -> Pairs:
    """Frame i with frame i, until the shorter side ends."""
    length = torch.minimum(ref_frames, hyp_frames)
    longest = int(length.max()) if len(length) else 0
    index = torch.arange(longest, device=length.device).expand(len(length), longest)
    index = torch.where(valid(length, longest), index, 0)
    return Pairs(index, index, length)


def by_dtw(
    ref: Float[Tensor, "b t c"],
    ref_frames: Int[Tensor, "b"],
    hyp: Float[Tensor, "b u c"],
    hyp_frames: Int[Tensor, "b"],
) -> Pairs:
    """The path of least summed Euclidean distance; see `dtw_path`. An empty side has no pairs."""
    paths = [
        dtw_path(r[:t].double().cpu().numpy(), h[:u].double().cpu().numpy())
        for r, t, h, u in zip(
            ref.detach(), ref_frames.tolist(), hyp.detach(), hyp_frames.tolist(), strict=True
        )
    ]
    length = torch.tensor([len(path) for path in paths], dtype=torch.long)
    padded = torch.zeros(len(paths), max(map(len, paths), default=0), 2, dtype=torch.long)
    for row, path in zip(padded, paths, strict=True):
        row[: len(path)] = torch.from_numpy(path)
    padded, length = padded.to(ref.device), length.to(ref.device)
    return Pairs(padded[..., 0], padded[..., 1], length)


def dtw_path(ref: Float[np.ndarray, "t c"], hyp: Float[np.ndarray, "u c"]) -> Int[np.ndarray, "p 2"]:
    """The exact DTW path from (0, 0) to the last frames: steps (1,1), (0,1), (1,0), all of weight 1."""
    if len(ref) == 0 or len(hyp) == 0:
        return np.zeros((0, 2), dtype=np.int64)
    return _backtrack(_arrivals(np.ascontiguousarray(ref, np.float64), np.ascontiguousarray(hyp, np.float64)))


DIAGONAL, ADVANCE_REF, ADVANCE_HYP = 0, 1, 2


@njit(cache=True, nogil=True)
def _arrivals(ref, hyp):  # pragma: no cover - compiled
    """The step by which the best path enters each cell (Sakoe and Chiba 1978, eq. 4, symmetric P = 0, weights 1)."""
    rows, columns, width = len(ref), len(hyp), ref.shape[1]
    step = np.zeros((rows, columns), dtype=np.uint8)
    cost = np.full(columns, np.inf)  # of the row before; overwritten from the left
    for i in range(rows):
        diagonal = 0.0 if i == 0 else np.inf  # what stood one row up and one column left
        left = np.inf
        for j in range(columns):
            up = cost[j]
            best, by = diagonal, DIAGONAL
            if up < best:
                best, by = up, ADVANCE_REF
            if left < best:
                best, by = left, ADVANCE_HYP
            square = 0.0
            for d in range(width):
                square += (ref[i, d] - hyp[j, d]) ** 2
            left = best + np.sqrt(square)
            step[i, j] = by
            cost[j] = left
            diagonal = up
    return step


@njit(cache=True, nogil=True)
def _backtrack(step):  # pragma: no cover - compiled
    i, j = step.shape[0] - 1, step.shape[1] - 1
    path = np.empty((i + j + 1, 2), dtype=np.int64)
    at = i + j
    path[at] = i, j
    while i > 0 or j > 0:
        by = step[i, j]
        if by != ADVANCE_HYP:
            i -= 1
        if by != ADVANCE_REF:
            j -= 1
        at -= 1
        path[at] = i, j
    return path[at:]
