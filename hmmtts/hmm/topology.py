"""Which state may follow which: arcs as log-probabilities, and the checks that they describe a possible model.

Letters: b utterances, t frames, n states of a left-to-right model, k states of a dense one. Scores need not be
normalised; a forbidden arc is -inf, never merely unlikely.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Arcs = Float[Tensor, "b n"] | Float[Tensor, "b t n"]


class LeftToRight(NamedTuple):
    """States in order: stay, move to the next, or skip one.

    The arc at (t, n) leaves state n after frame t; arcs without a time axis hold at every frame. A path starts in
    state 0 and ends by taking `move` of the last state after the last frame, so that durations have a full law.
    """

    stay: Arcs
    move: Arcs
    skip: Arcs | None = None

    def fewest_frames(self, states: Int[Tensor, "b"]) -> Int[Tensor, "b"]:
        """Length of the shortest path, which skips wherever a skip is ever allowed (0 states: 0)."""
        states = states.to(self.stay.device)
        if self.skip is None:
            return states
        allowed = torch.isfinite(self.skip)
        allowed = allowed if allowed.ndim == 2 else allowed.any(1)
        shortest = [
            torch.zeros_like(states),
            torch.ones_like(states),
        ]  # frames to stand in no state, in state 0
        for n in range(1, self.stay.shape[-1]):
            one = shortest[n] + 1
            two = torch.where(allowed[:, n - 2], shortest[n - 1] + 1, one) if n >= 2 else one
            shortest.append(torch.minimum(one, two))
        return torch.stack(shortest, 1).gather(1, states[:, None].long())[:, 0]

    def feasible(self, frames: Int[Tensor, "b"], states: Int[Tensor, "b"]) -> Bool[Tensor, "b"]:
        """Which utterances have frames enough for their states: mask the others out of a loss before calling."""
        return frames.to(self.stay.device) >= self.fewest_frames(states)


class Dense(NamedTuple):
    """Any state may follow any other; the same model for every utterance."""

    initial: Float[Tensor, "k"]
    transition: Float[Tensor, "k k"]  # from row to column
    final: Float[Tensor, "k"] | None = None  # None: a path may end anywhere, at no cost

    def feasible(self, frames: Int[Tensor, "b"], states: Int[Tensor, "b"]) -> Bool[Tensor, "b"]:
        return (frames >= 1) & (states >= 1)


Topology = LeftToRight | Dense


def left_to_right(stay: Arcs) -> LeftToRight:
    """A normalised model without skips, from the log-probability of staying."""
    # log(1 - e^x), accurate at both ends (Maechler 2012, "Accurately computing log(1 - exp(-|a|))").
    move = torch.where(stay > -0.6931, torch.log(-torch.expm1(stay)), torch.log1p(-torch.exp(stay)))
    return LeftToRight(stay, move)


def left_to_right_from_logits(leave: Arcs) -> LeftToRight:
    """A normalised model without skips, from the logit of leaving: gradients live at every logit."""
    log_sigmoid = torch.nn.functional.logsigmoid
    return LeftToRight(stay=log_sigmoid(-leave), move=log_sigmoid(leave))


def unweighted(like: Float[Tensor, "b t n"]) -> LeftToRight:
    """Every monotone path counts the same: the forward-sum of CTC-style aligners."""
    zero = like.new_zeros(like.shape[0], like.shape[2])
    return LeftToRight(zero, zero)


def dense(
    initial: Float[Tensor, "k"], transition: Float[Tensor, "k k"], final: Float[Tensor, "k"] | None = None
) -> Dense:
    """A dense model from probabilities, checked: every row sums to one."""
    for name, rows in (("initial", initial), ("transition", transition)):
        if (rows < 0).any() or not torch.allclose(rows.sum(-1), torch.ones_like(rows.sum(-1)), atol=1e-4):
            raise ValueError(
                f"{name} must hold probabilities whose rows sum to 1; normalise it, or pass scores to Dense itself"
            )
    return Dense(initial.log(), transition.log(), None if final is None else final.log())
