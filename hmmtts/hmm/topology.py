"""Which state may follow which: arcs as log-probabilities, and the checks that they describe a possible model.

Letters: b utterances, t frames, n states of a left-to-right model, k states of a dense one, d durations. Scores need
not be normalised; a forbidden arc is -inf, never merely unlikely.
"""

from typing import NamedTuple

import numpy as np
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


class SemiMarkovLeftToRight(NamedTuple):
    """States in order, each of which lasts as its own law says: durations[:, :, i] weighs i + 1 frames.

    A duration that is -inf is impossible, so the first and last finite ones are hard limits. The path starts in state 0
    with the first frame, and the last state's segment ends with the last frame (`right_censored`: it may go on).
    """

    durations: Float[Tensor, "b n d"]

    def feasible(self, frames: Int[Tensor, "b"], states: Int[Tensor, "b"]) -> Bool[Tensor, "b"]:
        """Which utterances have neither fewer frames than their states need nor more than they can fill."""
        fewest, most = self.total_frames(states)
        frames = frames.to(fewest.device)
        return (fewest <= frames) & (frames <= most)

    def total_frames(self, states: Int[Tensor, "b"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """Sums of the shortest and of the longest durations of the states of each utterance."""
        n = torch.arange(self.durations.shape[1], device=self.durations.device)
        real = n < states.to(n.device)[:, None]
        shortest, longest = duration_limits(self.durations)
        return torch.where(real, shortest, 0.0).sum(1), torch.where(real, longest, 0.0).sum(1)


class SemiMarkovDense(NamedTuple):
    """Any state may follow any other; how long a state lasts, its durations say and no arc to itself."""

    initial: Float[Tensor, "k"]
    transition: Float[Tensor, "k k"]  # from row to column; its diagonal is -inf
    durations: Float[Tensor, "k d"]
    final: Float[Tensor, "k"] | None = None  # None: the last segment may be of any state, at no cost

    def feasible(self, frames: Int[Tensor, "b"], states: Int[Tensor, "b"]) -> Bool[Tensor, "b"]:
        """Which utterances have a number of frames between those of the shortest and the longest path."""
        fewest, most = self.total_frames(states)
        frames = frames.to(fewest.device)
        return (fewest <= frames) & (frames <= most)

    def total_frames(self, states: Int[Tensor, "b"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """Frames of the shortest and of the longest path of each utterance; inf: as many as one likes."""
        different, which = torch.unique(states.cpu(), return_inverse=True)
        initial, transition, durations = (arc.detach().cpu().numpy() for arc in self[:3])
        final = np.zeros_like(initial) if self.final is None else self.final.detach().cpu().numpy()
        ranges = [_total_frames(initial, transition, durations, final, int(n)) for n in different]
        limits = torch.tensor(ranges, device=self.durations.device)
        least, most = limits[which.to(limits.device)].unbind(1)
        return least, most


SemiMarkov = SemiMarkovLeftToRight | SemiMarkovDense
Topology = LeftToRight | Dense | SemiMarkov
SHARED = (Dense, SemiMarkovDense)  # one model for all utterances, with counts for each of them


def duration_limits(durations: Float[Tensor, "*n d"]) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Shortest and longest duration of every state; inf and -inf where it has none."""
    d = torch.arange(1.0, durations.shape[-1] + 1, device=durations.device)
    allowed = torch.isfinite(durations)
    return torch.where(allowed, d, torch.inf).amin(-1), torch.where(allowed, d, -torch.inf).amax(-1)


def _total_frames(
    initial: np.ndarray, transition: np.ndarray, durations: np.ndarray, final: np.ndarray, states: int
) -> tuple[float, float]:
    """Frames of the shortest and of the longest path among the first states."""
    possible = np.isfinite(durations[:states])
    lasts, never = possible.any(1), np.inf
    shortest = possible.argmax(1) + 1.0
    longest = possible.shape[1] - possible[:, ::-1].argmax(1) + 0.0
    begins = np.isfinite(initial[:states]) & lasts
    ends = np.isfinite(final[:states])
    follows = np.isfinite(transition[:states, :states]) & lasts & lasts[:, None]
    least, most = np.where(begins, shortest, never), np.where(begins, longest, -never)
    # Bellman-Ford: `states` segments reach every state by its shortest path; who still gains then goes round a circle.
    for segment in range(2 * states):
        shorter = np.minimum(least, np.where(follows, least[:, None], never).min(0) + shortest)
        longer = np.maximum(most, np.where(follows, most[:, None], -never).max(0) + longest)
        longer[(longer > most) & (segment >= states)] = never
        if np.array_equal(shorter, least) and np.array_equal(longer, most):
            break
        least, most = shorter, longer
    return float(np.where(ends, least, never).min()), float(np.where(ends, most, -never).max())


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
    _check_probabilities("Dense", initial=initial, transition=transition)
    return Dense(initial.log(), transition.log(), None if final is None else final.log())


def semi_markov_left_to_right(durations: Float[Tensor, "b n d"]) -> SemiMarkovLeftToRight:
    """From probabilities of 1, 2, ... frames, checked: those of every state sum to one."""
    _check_probabilities("SemiMarkovLeftToRight", durations=durations)
    return SemiMarkovLeftToRight(durations.log())


def semi_markov_dense(
    initial: Float[Tensor, "k"],
    transition: Float[Tensor, "k k"],
    durations: Float[Tensor, "k d"],
    final: Float[Tensor, "k"] | None = None,
) -> SemiMarkovDense:
    """From probabilities, checked: every row sums to one, and no state follows itself.

    The only state of a model has a row of zeros: nothing follows it.
    """
    rows = {"transition": transition} if len(transition) > 1 else {}
    _check_probabilities("SemiMarkovDense", initial=initial, durations=durations, **rows)
    check_diagonal(transition.log())
    return SemiMarkovDense(
        initial.log(), transition.log(), durations.log(), None if final is None else final.log()
    )


def check_diagonal(transition: Float[Tensor, "k k"]) -> None:
    itself = transition.detach().diagonal() > -torch.inf
    if bool(itself.any()):
        state = int(itself.nonzero()[0])
        raise ValueError(
            f"transition[{state}, {state}] must be -inf (probability 0), got {float(transition[state, state]):g}: "
            "how long a state lasts, its durations say; set the diagonal to -inf before normalising the rows"
        )


def right_censored(
    topology: SemiMarkovLeftToRight, states: Int[Tensor, "b"] | None = None
) -> SemiMarkovLeftToRight:
    """The same model, whose last segment may go on after the last frame: it then weighs P(D >= d).

    Without it, a recording that was cut makes its last segment look shorter than it was.
    """
    durations = topology.durations
    b, n, _ = durations.shape
    last = torch.full((b,), n) if states is None else states
    is_last = torch.arange(n, device=durations.device) == last.to(durations.device)[:, None] - 1
    # logcumsumexp has NaN gradients where it begins with -inf.
    top = durations.detach().amax(-1, keepdim=True).clamp(min=torch.finfo(durations.dtype).min)
    later = (durations - top).exp().flip(-1).cumsum(-1).flip(-1)
    survival = torch.where(later > 0, torch.where(later > 0, later, 1.0).log() + top, -torch.inf)
    return SemiMarkovLeftToRight(torch.where(is_last[:, :, None], survival, durations))


def _check_probabilities(kind: str, **rows: Float[Tensor, "*k d"]) -> None:
    for name, row in rows.items():
        if (row < 0).any() or not torch.allclose(row.sum(-1), torch.ones_like(row.sum(-1)), atol=1e-4):
            raise ValueError(
                f"{name} must hold probabilities whose rows sum to 1; normalise it, or pass scores to {kind} itself"
            )
