"""Paths drawn from the posterior: filter forward, sample backward."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.hmm.backends import reference
from hmmtts.hmm.inference import prepare
from hmmtts.hmm.topology import Topology


def sample(
    log_obs: Float[Tensor, "b t n"],
    topology: Topology,
    frames: Int[Tensor, "b"],
    states: Int[Tensor, "b"] | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "b t"]:
    """One path per utterance from p(path | observations); padding is -1, and so is an impossible utterance.

    With `log_obs` zero the path is one of the model itself, given the number of frames.
    """
    problem = prepare(log_obs.double(), topology, frames, states, detach=True).problem
    alpha = reference.filter_forward(problem)
    last = problem.frames.to(alpha.device) - 1
    ends = reference.at_end(problem, alpha)
    possible = torch.isfinite(ends).any(1)
    state = _draw(ends, generator)
    path = torch.full(alpha.shape[:2], -1, dtype=torch.int64, device=alpha.device)
    for t in range(alpha.shape[1] - 1, -1, -1):
        before = _draw(alpha[:, t] + reference.into(problem.topology, t, state), generator)
        state = torch.where(t < last, before, state)
        path[:, t] = torch.where((t <= last) & possible, state, -1)
    return path


def _draw(log_weights: Float[Tensor, "b n"], generator: torch.Generator | None) -> Int[Tensor, "b"]:
    """One state of each row; state 0 where no state has weight."""
    top = log_weights.amax(1, keepdim=True)
    weights = torch.where(torch.isfinite(top), (log_weights - top).exp(), 1.0)
    return torch.multinomial(weights, 1, generator=generator)[:, 0]
