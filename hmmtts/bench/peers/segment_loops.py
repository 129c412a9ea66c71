"""A semi-Markov forward pass as one writes it with torch: a loop over the frames, and at each a sum over the durations.

Differentiated by autograd. b utterances, t frames, n states, d durations.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from hmmtts.hmm import SemiMarkovDense, SemiMarkovLeftToRight

NEVER = -1e30


def log_likelihood(
    log_obs: Float[Tensor, "b t n"], topology: SemiMarkovDense | SemiMarkovLeftToRight
) -> Float[Tensor, "b"]:
    """Of utterances that fill all frames and states."""
    b, _, n = log_obs.shape
    durations = topology.durations.clamp(min=NEVER).expand(b, n, -1).flip(-1)
    window = log_obs.new_full(
        (b, n, durations.shape[-1]), NEVER
    )  # entered so long ago, emissions since then included
    if isinstance(topology, SemiMarkovDense):
        entry, transition = topology.initial.expand(b, n), topology.transition.clamp(min=NEVER)
    else:
        entry = torch.where(torch.arange(n) == 0, 0.0, NEVER).to(log_obs).expand(b, n)
    ended = entry
    for emission in log_obs.unbind(1):
        window = torch.cat([window[:, :, 1:], entry[:, :, None]], 2) + emission[:, :, None]
        ended = torch.logsumexp(window + durations, 2)
        if isinstance(topology, SemiMarkovDense):
            entry = torch.logsumexp(ended[:, :, None] + transition, 1)
        else:
            entry = pad(ended[:, :-1], (1, 0), value=NEVER)
    return torch.logsumexp(ended, 1) if isinstance(topology, SemiMarkovDense) else ended[:, -1]
