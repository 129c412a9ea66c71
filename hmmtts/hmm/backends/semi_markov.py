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
from hmmtts.hmm.backends.reference import _log_max, _log_sum
from hmmtts.hmm.topology import SHARED, SemiMarkovDense, SemiMarkovLeftToRight

name = "reference"
NEVER = float("-inf")


def log_likelihood(problem: Problem) -> Float[Tensor, "b"]:
    return _total(problem, _log_sum).double()


def forward_backward(problem: Problem, counts: bool = True) -> ForwardBackward:
    topology, utterances = problem.topology, problem.log_obs.shape[0]
    if isinstance(topology, SHARED):  # shared by the utterances, but its counts are wanted for each of them
        topology = type(topology)._make(
            None if arc is None else arc.expand(utterances, *arc.shape) for arc in topology
        )
    with torch.enable_grad():
        log_obs = problem.log_obs.detach().requires_grad_()
        leaves = type(topology)._make(
            None if arc is None else arc.detach().requires_grad_() for arc in topology
        )
        log_z = log_likelihood(problem._replace(log_obs=log_obs, topology=leaves))
        wanted = [log_obs, *(arc for arc in leaves if arc is not None)]
        gradients = iter(torch.autograd.grad(log_z.sum(), wanted, allow_unused=True, materialize_grads=True))
    posterior = next(gradients)
    taken = type(topology)._make(None if arc is None else next(gradients) for arc in leaves)
    return ForwardBackward(log_z.detach(), posterior, taken if counts else None)


def viterbi(problem: Problem) -> Viterbi:
    """The best path is where the derivative of the best score is one."""
    with torch.enable_grad():
        log_obs = problem.log_obs.detach().requires_grad_()
        score = _total(problem._replace(log_obs=log_obs), _log_max)
        (on_path,) = torch.autograd.grad(score.sum(), log_obs, materialize_grads=True)
    path = torch.where(on_path.amax(2) > 0.5, on_path.argmax(2), -1)
    return Viterbi(path, score.detach().double())


def completed(problem: Problem, add=_log_sum) -> Float[Tensor, "b t n"]:
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
    topology: SemiMarkovLeftToRight | SemiMarkovDense, ended: Float[Tensor, "b n"], add=_log_sum
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
