"""Paths drawn from the posterior: filter forward, sample backward."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.hmm.backends import reference, semi_markov
from hmmtts.hmm.backends.contract import Problem
from hmmtts.hmm.inference import prepare
from hmmtts.hmm.topology import SemiMarkov, SemiMarkovDense, Topology


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
    if isinstance(topology, SemiMarkov):
        return _segments(problem, generator)
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


def _segments(problem: Problem, generator: torch.Generator | None) -> Int[Tensor, "b t"]:
    """Segments from the last to the first: a state, how long it has lasted, and the state before it."""
    log_obs, topology, frames, _ = problem
    assert isinstance(topology, SemiMarkov)
    ends = semi_markov.completed(problem)
    b, t, n = ends.shape
    rows = torch.arange(b, device=ends.device)
    d = torch.arange(1, topology.durations.shape[-1] + 1, device=ends.device)
    durations = topology.durations.expand(b, n, -1)
    path = torch.full((b, t), -1, dtype=torch.int64, device=ends.device)
    left = frames.to(ends.device)  # frames whose state is not known yet
    by_state = semi_markov.at_end(problem, ends)
    left = torch.where(torch.isfinite(by_state).any(1), left, 0)
    while bool((left > 0).any()):
        state = _draw(by_state, generator)
        began = left[:, None] - d
        # Emissions of the segment, were it 1, 2, ... frames long.
        inside = log_obs[rows[:, None], began.clamp(min=0), state[:, None]]
        before = ends[rows[:, None], (began - 1).clamp(min=0)]  # [b d n]
        into = torch.stack(
            [semi_markov.follow(topology, ended)[rows, state] for ended in before.unbind(1)], 1
        )
        first = semi_markov.start(topology, ends[:, 0])[rows, state]
        entry = torch.where(began > 0, into, torch.where(began == 0, first[:, None], -torch.inf))
        lasted = 1 + _draw(entry + durations[rows, state] + inside.cumsum(1), generator)
        lasted = torch.where(left > 0, lasted, 0)
        places = torch.arange(t, device=ends.device)
        segment = (places >= (left - lasted)[:, None]) & (places < left[:, None])
        path = torch.where(segment, state[:, None], path)
        left = left - lasted
        by_state = ends[rows, (left - 1).clamp(min=0)] + _into(topology, state)
    return path


def _into(topology: SemiMarkov, state: Int[Tensor, "b"]) -> Float[Tensor, "b n"]:
    """The arcs from every state into the given one."""
    if isinstance(topology, SemiMarkovDense):
        return topology.transition.T[state]
    n = torch.arange(topology.durations.shape[1], device=state.device)
    return torch.where(n == state[:, None] - 1, 0.0, -torch.inf)


def _draw(log_weights: Float[Tensor, "b n"], generator: torch.Generator | None) -> Int[Tensor, "b"]:
    """One state of each row; state 0 where no state has weight."""
    top = log_weights.amax(1, keepdim=True)
    weights = torch.where(torch.isfinite(top), (log_weights - top).exp(), 1.0)
    return torch.multinomial(weights, 1, generator=generator)[:, 0]
