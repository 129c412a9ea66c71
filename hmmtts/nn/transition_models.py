"""Arcs that are trained: moved by every frame of the sound, or one matrix with forbidden arcs that a context adapts.

Letters: b utterances, t frames, n states in order, k states of a dense model, d width, f features of a frame, c of a
context. Transitions that the text alone decides are in hmmtts.nn.transitions.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hmmtts.hmm import Dense, LeftToRight, left_to_right_from_logits
from hmmtts.nn.transitions import logit_of


class FrameTransitions(nn.Module):
    """The logit of leaving a state at a frame: what the state is, and how much the frame attends to it.

    Dot products of a key of the state and a query of the frame. Features of prosody (energy, pitch, their slopes) tell
    where speakers lengthen; those of the sound, where it changes. The arc at (t, n) leaves n after frame t: with
    features of the frames up to t alone the model stays generative. It starts with the same duration everywhere.
    """

    def __init__(self, width: int, features: int, size: int = 32, frames_per_state: float = 4.0) -> None:
        super().__init__()
        self.key = nn.Linear(width, size, bias=False)
        self.query = nn.Linear(features, size)
        self.leave = nn.Linear(width, 1)
        for layer in (self.query, self.leave):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.leave.bias, logit_of(frames_per_state))

    def forward(self, cells: Float[Tensor, "b n d"], x: Float[Tensor, "b t f"]) -> LeftToRight:
        with torch.autocast(cells.device.type, enabled=False):
            key, query = self.key(cells.float()), self.query(x.float())
            attention = query @ key.transpose(1, 2) / key.shape[2] ** 0.5
            return left_to_right_from_logits(self.leave(cells.float())[:, None, :, 0] + attention)


class TransitionMatrix(nn.Module):
    """A dense model's arcs as softmaxes over what is allowed; a context vector (a speaker, a style) shifts their logits.

    What is not allowed is impossible at every step of training, with or without a context.
    """

    def __init__(
        self,
        states: int,
        allowed: Bool[Tensor, "k k"] | None = None,
        starts: Bool[Tensor, "k"] | None = None,
        context: int = 0,
    ) -> None:
        super().__init__()
        allowed = torch.ones(states, states, dtype=torch.bool) if allowed is None else allowed
        starts = torch.ones(states, dtype=torch.bool) if starts is None else starts
        for name, rows in (("allowed", allowed), ("starts", starts[None])):
            if not bool(rows.any(1).all()):
                raise ValueError(
                    f"{name} must have a state in every row, got none in row {int((~rows.any(1)).nonzero()[0])}"
                )
        self.allowed, self.starts = nn.Buffer(allowed), nn.Buffer(starts)
        self.initial = nn.Parameter(torch.zeros(states))
        self.transition = nn.Parameter(torch.zeros(states, states))
        self.shift = nn.Linear(context, states * states, bias=False) if context else None
        if self.shift is not None:
            nn.init.zeros_(self.shift.weight)

    def forward(self, context: Float[Tensor, "c"] | None = None) -> Dense:
        logits = self.transition.float()
        if (context is None) != (self.shift is None):
            raise ValueError(
                "a context must be given exactly where the matrix was made with one (context=SIZE)"
            )
        if self.shift is not None and context is not None:
            logits = logits + self.shift(context.float()).view_as(logits)
        never = -torch.inf
        return Dense(
            self.initial.float().masked_fill(~self.starts, never).log_softmax(-1),
            logits.masked_fill(~self.allowed, never).log_softmax(-1),
        )
