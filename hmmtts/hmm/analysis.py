"""What a topology says before any data: whether its rows are probabilities, how long it stays, where it gets.

k states. A row is what leaves a state: its arcs and, where a model can end, its end.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hmmtts.hmm.topology import Dense, LeftToRight

DOUBLINGS = (
    60  # of the number of steps: more than enough for any chain that float64 can tell from a standstill
)


class Analysis(NamedTuple):
    durations: Float[Tensor, "k"]  # expected frames of one visit; inf: never left
    visits: Float[Tensor, "k"]  # expected frames in each state from start to end; inf where it need not end
    stationary: Float[
        Tensor, "k"
    ]  # share of the frames in the long run, a new utterance following where one ends
    reachable: Bool[Tensor, "k"]  # from the start
    reaches_end: Bool[Tensor, "k"]
    entropy: Float[Tensor, "k"]  # of each row, in nats: 0 is certain
    entropy_rate: float  # nats per frame in the long run


def as_dense(topology: LeftToRight, utterance: int = 0, states: int | None = None) -> Dense:
    """One utterance's chain as a matrix, whose last state ends by its move."""
    if topology.stay.ndim == 3:
        raise ValueError(
            "arcs that change from frame to frame are no one matrix; take those of a frame: arc[:, t]"
        )
    n = topology.stay.shape[1] if states is None else states
    transition = torch.full((n, n), -torch.inf, dtype=topology.stay.dtype, device=topology.stay.device)
    for distance, arc in enumerate(topology):
        if arc is not None:
            transition.diagonal(distance).copy_(arc[utterance, : max(0, n - distance)])
    initial, final = transition.new_full((2, n), -torch.inf)
    initial[0], final[-1] = 0.0, topology.move[utterance, n - 1]
    return Dense(initial, transition, final)


def validate(topology: Dense | LeftToRight, atol: float = 1e-5) -> None:
    """ValueError that names the row that is no distribution, or the state from which no path ends.

    A row may sum to one by itself or together with its end. Scores that are not meant to be probabilities need not
    pass: the kernels take them as they are.
    """
    if isinstance(topology, LeftToRight):
        for utterance in range(len(topology.stay)):
            _validate(as_dense(topology, utterance), f" of utterance {utterance}", atol)
    else:
        _validate(topology, "", atol)


def _validate(model: Dense, where: str, atol: float) -> None:
    transition, end = _probabilities(model)
    named = {"initial": model.initial.exp()[None].double(), "transition": transition}
    for name, rows in named.items():
        sums = rows.sum(1)
        wrong = (sums - 1).abs() > atol
        if name == "transition" and model.final is not None:
            wrong &= (sums + end - 1).abs() > atol
        if bool((wrong | sums.isnan()).any()):
            row = int((wrong | sums.isnan()).nonzero()[0])
            ends = (
                f" and {float(end[row]):g} for the end"
                if name == "transition" and model.final is not None
                else ""
            )
            raise ValueError(
                f"row {row} of {name}{where} sums to {float(sums[row]):g}{ends}, not to 1: normalise it"
            )
    lost = _reachable(model) & ~_reaches_end(model)
    if bool(lost.any()):
        raise ValueError(f"state {int(lost.nonzero()[0])}{where} can be reached but no path from it ends")


def analyse(model: Dense) -> Analysis:
    """Of a validated model; everything in float64."""
    transition, end = _probabilities(model)
    initial = model.initial.exp().double()
    ending = end if model.final is not None else torch.zeros_like(end)
    total = transition.sum(1) + ending
    ending = torch.where(
        total > 1 + 1e-6, 0.0, ending
    )  # an end that is a weight beside a whole row, not a part of it
    k = len(initial)
    endless = ~_possible(torch.eye(k, dtype=torch.bool) | (transition > 0), ending > 0)
    reachable = _reachable(model)
    if bool((reachable & endless).any()):
        visits = torch.where(reachable, torch.inf, 0.0).double()
    else:
        inside = reachable.double()
        kept = transition * inside[:, None] * inside
        visits = torch.linalg.solve(torch.eye(k, dtype=torch.float64) - kept.T, initial)
    restarted = transition + ending[:, None] * initial
    # Of the chain that waits half the time, which has the same shares and no period; squared, it doubles its steps.
    lazy = (torch.eye(k, dtype=torch.float64) + restarted) / 2
    for _ in range(DOUBLINGS):
        lazy = lazy @ lazy
        lazy /= lazy.sum(1, keepdim=True)
    stationary = initial @ lazy
    entropy = -(torch.special.xlogy(transition, transition).sum(1) + torch.special.xlogy(ending, ending))
    return Analysis(
        1 / (1 - transition.diagonal()),
        visits,
        stationary,
        reachable,
        _reaches_end(model),
        entropy.clamp(min=0.0),
        float((stationary * entropy).sum()),
    )


def _probabilities(model: Dense) -> tuple[Float[Tensor, "k k"], Float[Tensor, "k"]]:
    transition = model.transition.detach().cpu().double().exp()
    return transition, torch.ones(
        len(transition)
    ).double() if model.final is None else model.final.detach().cpu().double().exp()


def _reachable(model: Dense) -> Bool[Tensor, "k"]:
    return _possible((model.transition > -torch.inf).cpu().T, (model.initial > -torch.inf).cpu())


def _reaches_end(model: Dense) -> Bool[Tensor, "k"]:
    ends = (
        torch.ones_like(model.initial, dtype=torch.bool) if model.final is None else model.final > -torch.inf
    )
    return _possible((model.transition > -torch.inf).cpu(), ends.cpu())


def _possible(follows: Bool[Tensor, "k k"], goal: Bool[Tensor, "k"]) -> Bool[Tensor, "k"]:
    """The states from which the goal can be reached."""
    while True:
        wider = goal | (follows & goal).any(1)
        if torch.equal(wider, goal):
            return goal
        goal = wider
