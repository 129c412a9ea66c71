"""Plain torch, written to be read: the recursions of Rabiner (1989) in the log domain, differentiated by autograd.

Slow, exact in any dtype, differentiable any number of times: the oracle for the other backends. Posteriors and
expected counts are taken as derivatives of log Z by emissions and arcs, independently of any backward recursion.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hmmtts.hmm.backends.contract import ForwardBackward, Problem, Viterbi, check_arcs, check_values, real
from hmmtts.hmm.topology import SHARED, Dense, LeftToRight, Topology

name = "reference"
NEVER = float("-inf")


def log_likelihood(problem: Problem) -> Float[Tensor, "b"]:
    return _total(problem, log_sum).double()


def forward_backward(problem: Problem, counts: bool = True) -> ForwardBackward:
    check_arcs(problem)  # before a shared model is given to each utterance
    return differentiate(problem, log_likelihood, counts)


def viterbi(problem: Problem) -> Viterbi:
    return trace(problem, _total)


def differentiate(
    problem: Problem, log_likelihood: Callable[[Problem], Float[Tensor, "b"]], counts: bool
) -> ForwardBackward:
    """Posteriors and expected counts as derivatives, whatever the recursion was."""
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


def trace(problem: Problem, total: Callable[..., Float[Tensor, "b"]]) -> Viterbi:
    """The best path is where the derivative of the best score is one; a tie goes to the lower state."""
    with torch.enable_grad():
        log_obs = problem.log_obs.detach().requires_grad_()
        score = total(problem._replace(log_obs=log_obs), log_max)
        (on_path,) = torch.autograd.grad(score.sum(), log_obs, materialize_grads=True)
    path = torch.where(on_path.amax(2) > 0.5, on_path.argmax(2), -1)
    return Viterbi(path, score.detach().double())


def filter_forward(problem: Problem, add=None) -> Float[Tensor, "b t n"]:
    """alpha_t(n): the log-weight of all paths (`add` = sum) that are in state n at frame t, emissions up to t included."""
    check_values(problem)
    add = add or log_sum
    log_obs, topology, _, _ = problem
    # Padding is masked before the recursion: NaN there would otherwise reach the gradients.
    cells = real(problem, log_obs)
    emissions = torch.where(cells, log_obs, NEVER).unbind(1)
    if isinstance(topology, LeftToRight):
        topology = _mask(topology, cells)
        start = torch.full_like(emissions[0], NEVER)
        start[:, 0] = 0
    else:
        assert isinstance(topology, Dense)
        start = topology.initial
    alpha = [start + emissions[0]]
    for t, emission in enumerate(emissions[1:]):
        alpha.append(_step(topology, t, alpha[-1], add) + emission)
    return torch.stack(alpha, 1)


def at_end(problem: Problem, alpha: Float[Tensor, "b t n"]) -> Float[Tensor, "b n"]:
    """The log-weight of all whole paths, by their last state."""
    _, topology, frames, states = problem
    b = torch.arange(len(alpha), device=alpha.device)
    last = frames.to(alpha.device) - 1
    ends = alpha[b, last]
    if isinstance(topology, LeftToRight):
        ends = ends + (topology.move if topology.move.ndim == 2 else topology.move[b, last])
        is_last = torch.arange(alpha.shape[2], device=alpha.device) == states.to(alpha.device)[:, None] - 1
        return torch.where(is_last, ends, NEVER)
    assert isinstance(topology, Dense)
    return ends if topology.final is None else ends + topology.final


def into(topology: Topology, t: int, state: Int[Tensor, "b"]) -> Float[Tensor, "b n"]:
    """The arcs from every state at frame t into the given state at t + 1."""
    if isinstance(topology, Dense):
        return topology.transition.T[state]
    assert isinstance(topology, LeftToRight)
    n = torch.arange(topology.stay.shape[-1], device=state.device)
    arcs = torch.full((len(state), len(n)), NEVER, dtype=topology.stay.dtype, device=state.device)
    for distance, arc in enumerate(topology):
        if arc is not None:
            arcs = torch.where(n == state[:, None] - distance, _at(arc, t), arcs)
    return arcs


def _mask(topology: LeftToRight, real: Bool[Tensor, "b t n"]) -> LeftToRight:
    arcs = (
        arc if arc is None else torch.where(real if arc.ndim == 3 else real[:, 0], arc, NEVER)
        for arc in topology
    )
    return LeftToRight._make(arcs)


def _total(problem: Problem, add) -> Float[Tensor, "b"]:
    total = add(at_end(problem, filter_forward(problem, add)), 1)
    # Of a path of weight zero nothing can be learned: cut the graph, so that its gradient is zero.
    return torch.where(torch.isfinite(total), total, NEVER)


def _step(topology: Topology, t: int, alpha: Float[Tensor, "b n"], add) -> Float[Tensor, "b n"]:
    if isinstance(topology, Dense):
        return add(alpha[:, :, None] + topology.transition, 1)
    assert isinstance(topology, LeftToRight)
    # Lower states first: a tie of the best path goes to the first term.
    terms = [_shift(alpha + _at(topology.move, t), 1), alpha + _at(topology.stay, t)]
    if topology.skip is not None:
        terms.insert(0, _shift(alpha + _at(topology.skip, t), 2))
    return add(torch.stack(terms), 0)


def _at(arc: Tensor, t: int) -> Float[Tensor, "b n"]:
    return arc[:, t] if arc.ndim == 3 else arc


def _shift(alpha: Float[Tensor, "b n"], by: int) -> Float[Tensor, "b n"]:
    return torch.nn.functional.pad(alpha, (by, 0), value=NEVER)[:, : alpha.shape[1]]


def log_sum(terms: Tensor, dim: int) -> Tensor:
    """logsumexp whose gradient is zero, not NaN, where every term is -inf."""
    top = terms.detach().amax(dim, keepdim=True)
    top = torch.where(torch.isfinite(top), top, 0.0)
    total = (terms - top).exp().sum(dim)
    possible = total > 0
    return torch.where(possible, torch.where(possible, total, 1.0).log() + top.squeeze(dim), NEVER)


def log_max(terms: Tensor, dim: int) -> Tensor:
    return terms.gather(dim, terms.argmax(dim, keepdim=True)).squeeze(dim)
