"""What a semi-Markov problem must be before a backend gets it. b utterances, t frames, n or k states, d durations."""

import torch
from torch import Tensor

from hmmtts.hmm.backends.contract import Problem
from hmmtts.hmm.topology import SemiMarkovDense, SemiMarkovLeftToRight, check_diagonal


def shapes(topology: SemiMarkovLeftToRight | SemiMarkovDense, b: int, n: int) -> list[list[tuple[int, ...]]]:
    """What each arc may look like: any number of durations, but the same for all states."""
    longest = topology.durations.shape[-1]
    if isinstance(topology, SemiMarkovLeftToRight):
        return [[(b, n, longest)]]
    return [[(n,)], [(n, n)], [(n, longest)], [(n,)]]


def checked(problem: Problem) -> Problem:
    """The same problem without arcs of absent states, or a ValueError that says which arc or utterance is impossible."""
    log_obs, topology, frames, states = problem
    assert isinstance(topology, SemiMarkovLeftToRight | SemiMarkovDense)
    if topology.durations.shape[-1] == 0:
        raise ValueError("durations must have at least one column, for a duration of one frame; got none")
    if isinstance(topology, SemiMarkovLeftToRight):
        real = torch.arange(log_obs.shape[2], device=log_obs.device) < states.to(log_obs.device)[:, None]
        _check_values("durations", topology.durations, real[:, :, None])
    else:
        for name, arc in topology._asdict().items():
            if arc is not None:
                _check_values(name, arc, torch.ones_like(arc, dtype=torch.bool))
        check_diagonal(topology.transition)
        if bool((states < log_obs.shape[2]).any()):
            absent = (
                torch.arange(log_obs.shape[2], device=log_obs.device) >= states.to(log_obs.device)[:, None]
            )
            problem = problem._replace(log_obs=log_obs.masked_fill(absent[:, None], float("-inf")))
    _check_lengths(topology, frames, states)
    return problem


def _check_values(name: str, arc: Tensor, real: Tensor) -> None:
    bad = ~(arc < float("inf")) & real  # NaN or +inf
    if bool(bad.any()):
        where = bad.nonzero()[0].tolist()
        raise ValueError(
            f"{name} holds {float(arc[tuple(where)])} at {where}; arcs are log-probabilities, finite or -inf"
        )


def _check_lengths(topology: SemiMarkovLeftToRight | SemiMarkovDense, frames: Tensor, states: Tensor) -> None:
    with torch.no_grad():
        fewest, most = (limit.cpu() for limit in topology.total_frames(states))
    wrong = (frames < fewest) | (frames > most)
    if not bool(wrong.any()):
        return
    bad = int(wrong.nonzero()[0])
    if fewest[bad] > most[bad]:
        rule = "whose durations and arcs allow no path of any length: look for a row that is -inf throughout"
    elif frames[bad] < fewest[bad]:
        rule = f"which need at least {int(fewest[bad])}: leave it out by topology.feasible(frames, states), or allow shorter durations"
    else:
        rule = f"which last at most {int(most[bad])}: leave it out by topology.feasible(frames, states), or allow longer durations"
    raise ValueError(f"utterance {bad} has {int(frames[bad])} frames for {int(states[bad])} states, {rule}")
