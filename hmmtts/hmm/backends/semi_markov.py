"""Semi-Markov models in plain torch, written to be read, in the log domain, differentiated by autograd.

The recursion is that of residual durations (Yu and Kobayashi 2003): F_t(n, r) is the log-weight of all paths that are
in state n at frame t with r frames still to come after it, so that

    F_t(n, r) = b_t(n) + log( F_{t-1}(n, r + 1)  +  entry_t(n) dur(n, r + 1) )

costs one multiply-add for every frame, state and duration. Like `reference`, it is slow, exact in any dtype, and the
oracle of the fast backend, whose recursion over whole segments is another one.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.hmm.backends.contract import ForwardBackward, Problem, Viterbi, check_observations
from hmmtts.hmm.backends.reference import differentiate, log_sum, trace
from hmmtts.hmm.topology import SemiMarkovDense, SemiMarkovLeftToRight

name = "reference"
NEVER = float("-inf")


def log_likelihood(problem: Problem) -> Float[Tensor, "b"]:
    return _total(problem, log_sum).double()


def forward_backward(problem: Problem, counts: bool = True) -> ForwardBackward:
    return differentiate(problem, log_likelihood, counts)


def viterbi(problem: Problem) -> Viterbi:
    return trace(problem, _total)


def completed(problem: Problem, add=log_sum) -> Float[Tensor, "b t n"]:
    """The log-weight of all paths (`add` = sum) whose segment of state n ends with frame t: F_t(n, 0)."""
    check_observations(problem)
    log_obs, topology, frames, states = problem
    assert isinstance(topology, SemiMarkovLeftToRight | SemiMarkovDense)
    real_frame = torch.arange(log_obs.shape[1], device=log_obs.device) < frames.to(log_obs.device)[:, None]
    real_state = torch.arange(log_obs.shape[2], device=log_obs.device) < states.to(log_obs.device)[:, None]
    # Padding is masked before the recursion: NaN there would otherwise reach the gradients.
    emissions = torch.where(real_frame[:, :, None] & real_state[:, None], log_obs, NEVER).unbind(1)
    durations = topology.durations
    if isinstance(topology, SemiMarkovLeftToRight):
        durations = torch.where(real_state[:, :, None], durations, NEVER)
    entry, residual = start(topology, emissions[0]), None
    ends = []
    for emission in emissions:
        entered = entry[:, :, None] + durations
        residual = entered if residual is None else add(torch.stack([entered, _older(residual)]), 0)
        residual = residual + emission[:, :, None]
        ends.append(residual[:, :, 0])
        entry = follow(topology, ends[-1], add)
    return torch.stack(ends, 1)


def start(
    topology: SemiMarkovLeftToRight | SemiMarkovDense, like: Float[Tensor, "b n"]
) -> Float[Tensor, "b n"]:
    """The log-weight of entering each state with the first frame."""
    if isinstance(topology, SemiMarkovDense):
        return topology.initial.expand_as(like)
    first = torch.arange(like.shape[1], device=like.device) == 0
    return torch.where(first, 0.0, NEVER).to(like.dtype).expand_as(like)


def follow(
    topology: SemiMarkovLeftToRight | SemiMarkovDense, ended: Float[Tensor, "b n"], add=log_sum
) -> Float[Tensor, "b n"]:
    """The log-weight of entering each state after segments that have ended."""
    if isinstance(topology, SemiMarkovDense):
        return add(ended[:, :, None] + topology.transition, 1)
    return torch.nn.functional.pad(ended, (1, 0), value=NEVER)[:, : ended.shape[1]]


def at_end(problem: Problem, ends: Float[Tensor, "b t n"]) -> Float[Tensor, "b n"]:
    """The log-weight of all whole paths, by their last state."""
    _, topology, frames, states = problem
    last = ends[torch.arange(len(ends), device=ends.device), frames.to(ends.device) - 1]
    if isinstance(topology, SemiMarkovDense):
        return last if topology.final is None else last + topology.final
    is_last = torch.arange(ends.shape[2], device=ends.device) == states.to(ends.device)[:, None] - 1
    return torch.where(is_last, last, NEVER)


def _older(residual: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
    """One frame later, one frame less is still to come."""
    return torch.nn.functional.pad(residual[:, :, 1:], (0, 1), value=NEVER)


def _total(problem: Problem, add) -> Float[Tensor, "b"]:
    total = add(at_end(problem, completed(problem, add)), 1)
    # Of a path of weight zero nothing can be learned: cut the graph, so that its gradient is zero.
    return torch.where(torch.isfinite(total), total, NEVER)
