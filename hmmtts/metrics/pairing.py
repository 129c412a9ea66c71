"""Which frame of a reference belongs to which frame of a hypothesis: by index, or along an exact DTW path.

Letters: b utterances, t and u frames of the two sides, p pairs, c coefficients. Both ways give the same `Pairs`, so
every frame-wise figure is written once, for tensors that are already paired.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from hmmtts.hmm.dtw import dtw_sequences


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
    """The path of least summed Euclidean distance: steps (1,1), (0,1), (1,0), all of weight 1. An empty side has no
    pairs.
    """
    warp = dtw_sequences(ref, ref_frames, hyp, hyp_frames)
    longest = int(warp.length.max()) if len(warp.length) else 0
    return Pairs(warp.ref[:, :longest].clamp(min=0), warp.hyp[:, :longest].clamp(min=0), warp.length)
