"""Soft-DTW: the least cost over warping paths, smoothed so that every path has a gradient.

Cuturi and Blondel 2017: the minimum becomes -gamma log sum exp(-cost / gamma). It lies below the cost of `dtw` by at most
gamma times the logarithm of the number of paths, and tends to it as gamma tends to 0. b pairs, t and u their frames.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.hmm.dtw import Band, Pairs, as_array, check_costs, no_path, plan


def soft_dtw(
    cost: Float[Tensor, "b t u"],
    ref_frames: Int[Tensor, "b"],
    hyp_frames: Int[Tensor, "b"],
    gamma: float = 1.0,
    band: Band | None = None,
) -> Float[Tensor, "b"]:
    """The soft cost of each pair (pattern symmetric1), float64, once differentiable by the costs.

    The gradient is the share of the paths, each weighed by exp(-cost / gamma), that enter a cell. No side may be empty.
    """
    if not gamma > 0:
        raise ValueError(f"gamma must be more than 0, got {gamma}; for the hard minimum use dtw")
    pairs = plan(cost.shape, ref_frames, hyp_frames, band)
    if (pairs.frames < 1).any():
        raise ValueError(
            f"pair {int((pairs.frames < 1).any(1).argmax())} has an empty side, which no path can match"
        )
    return _SoftDTW.apply(cost, float(gamma), pairs, band, torch.is_grad_enabled())


class _SoftDTW(torch.autograd.Function):
    @staticmethod
    def forward(ctx, cost: Tensor, gamma: float, pairs: Pairs, band: Band | None, learning: bool) -> Tensor:
        from hmmtts.hmm.backends.cpu import soft_warping
        from hmmtts.hmm.backends.cpu.pool import over_batch

        soft_warping.make_ready()
        check_costs(cost, pairs)
        x, wanted = as_array(cost), learning and ctx.needs_input_grad[0]
        total = torch.empty(len(x), dtype=torch.float64)
        share = torch.empty(x.shape if wanted else (len(x), 1, 1), dtype=torch.float64)
        over_batch(
            lambda queue: soft_warping.soft_path(
                queue, x, gamma, *pairs, wanted, total.numpy(), share.numpy()
            ),
            pairs.cells,
        )
        if bool((total == torch.inf).any()):
            raise no_path(int((total == torch.inf).nonzero()[0]), pairs, band)
        ctx.save_for_backward(share.to(cost))
        return total.to(cost.device)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        (share,) = ctx.saved_tensors
        return share * grad.to(share)[:, None, None], None, None, None, None
