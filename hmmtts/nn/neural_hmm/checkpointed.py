"""log p(x | text) by plain autograd: emissions in chunks of frames, kept or computed again in the backward pass.

The exact gradient, about three times slower than the posterior-weighted one; nothing here knows an equation for it.
b utterances, t frames, n states.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear, pad, relu
from torch.utils.checkpoint import checkpoint

from hmmtts import hmm
from hmmtts.nn.neural_hmm.outputs import exact, law, log_density
from hmmtts.nn.neural_hmm.posterior_backward import Net


def log_likelihood(
    net: Net,
    frames: Int[Tensor, "b"],
    states: Int[Tensor, "b"],
    floor: float,
    chunk: int = 16,
    recompute: bool = True,
) -> Float[Tensor, "b"]:
    size, most = net.x.shape[1], net.of_cells.shape[1]
    parts = []
    for start in range(0, size, chunk):
        # The states that any utterance can be in here.
        end = min(start + chunk, size)
        low = int((states - frames + start).clamp(min=0).amin())
        high = min(most, end)
        some = Net(
            net.of_frames[:, start:end], net.of_cells[:, low:high], net.weight, net.bias, net.x[:, start:end]
        )
        # use_reentrant=True fails under data-parallel training: it marks a parameter ready twice.
        found = checkpoint(_scores, *some, floor, use_reentrant=False) if recompute else _scores(*some, floor)
        parts.append([pad(part, (low, most - high)) for part in found])
    log_obs, leave = (torch.cat(column, 1) for column in zip(*parts, strict=True))
    return hmm.log_likelihood(log_obs, hmm.left_to_right_from_logits(leave), frames, states)


def _scores(of_frames, of_cells, weight, bias, x, floor):
    hidden = relu(of_frames[:, :, None] + of_cells[:, None])
    found = law(exact(linear(hidden, weight, bias)), floor)
    return log_density(x[:, :, None], found), found.leave
