"""Text to mel, frame by frame. b utterances, n states, t frames, m mel bins, d cell."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from hmmtts.nn.lengths import mask
from hmmtts.nn.neural_hmm import draws
from hmmtts.nn.neural_hmm.core import NeuralHMM

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manner:
    """How a neural HMM is to speak.

    The durations follow the law that training knows, P(D > d) = product of (1 - tau) over d frames: a quantile of it
    or, `drawn`, a draw from it.
    """

    quantile: float = 0.5  # the smallest d with P(D <= d) >= quantile; higher: slower speech
    drawn: bool = False  # draw every duration; the quantile then says nothing
    temperature: float = 0.0  # of the deviations; 0: the mean of every frame; higher: livelier and noisier
    longest: int = 500  # frames after which a state is left come what may, with a warning

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise ValueError(f"quantile must lie between 0 and 1, got {self.quantile}")
        if self.temperature < 0:
            raise ValueError(f"temperature must be at least 0, got {self.temperature}")
        if self.longest < 1:
            raise ValueError(f"longest must be at least 1 frame, got {self.longest}")


class Spoken(NamedTuple):
    """A batch; zeros in the padding."""

    mel: Float[Tensor, "b t m"]
    frames: Int[Tensor, "b"]
    durations: Int[Tensor, "b n"]  # frames of each state


class Step(NamedTuple):
    """One frame of every utterance; what is not `alive` has ended before."""

    mel: Float[Tensor, "b m"]
    state: Int[Tensor, "b"]
    entered: Bool[Tensor, "b"]  # the first frame of its state
    alive: Bool[Tensor, "b"]


@torch.no_grad()
def speak(
    model: NeuralHMM,
    cells: Float[Tensor, "b n d"],
    states: Int[Tensor, "b"],
    keys: Sequence[int],
    manner: Manner,
    rate: Float[Tensor, "b n"] | None = None,
    durations: Int[Tensor, "b n"] | None = None,
) -> Spoken:
    """Of any length: every state of every utterance is spoken.

    P(D > d) is raised to the power of `rate`, so that a state lasts about 1 / rate as long. With `durations`, in
    frames, the model's own are not asked.
    """
    taken = list(steps(model, cells, states, keys, manner, rate, durations))
    mel, state, _, alive = (torch.stack(column, 1) for column in zip(*taken, strict=True))
    counted = mel.new_zeros(cells.shape[:2], dtype=torch.int64).scatter_add_(1, state, alive.long())
    return Spoken(torch.where(alive[..., None], mel, 0.0), alive.sum(1), counted)


@torch.no_grad()
def steps(
    model: NeuralHMM,
    cells: Float[Tensor, "b n d"],
    states: Int[Tensor, "b"],
    keys: Sequence[int],
    manner: Manner,
    rate: Float[Tensor, "b n"] | None = None,
    durations: Int[Tensor, "b n"] | None = None,
) -> Iterator[Step]:
    """The frames as they come. A state emits its frame and is left, or not, after it: as in training."""
    states = states.to(cells.device)
    if durations is not None and bool(((durations < 1) & mask(states, cells.shape[1])).any()):
        raise ValueError("durations must be at least 1 frame of every state: every state emits")
    if rate is not None and not bool((rate > 0).all()):
        raise ValueError(f"rate must be more than 0, got {float(rate.min())}")
    every = torch.arange(len(states), device=cells.device)
    halves = model.outputs.of_cells(cells)
    before, recurrent = model.memory.go.to(cells).expand(len(states), -1), None
    state = torch.zeros_like(states)
    stayed = torch.zeros_like(states)
    alive = torch.ones_like(states, dtype=torch.bool)
    survival = cells.new_zeros(len(states))  # log of the probability of staying as long as this
    memory = model.memory
    for drawn in draws.frame_by_frame(keys, memory.prenet, memory.dropout, model.outputs.bins, cells):
        h, recurrent = memory.step(before, drawn.kept, recurrent)
        law = model.outputs(model.outputs.of_frames(h), halves[every, state])
        mel = law.mean + manner.temperature * law.deviation * drawn.noise
        yield Step(mel, state, stayed == 0, alive)
        stayed += 1
        stay = logsigmoid(-law.leave)
        if rate is not None:
            stay = stay * rate[every, state]
        survival = survival + stay
        if durations is not None:
            left = stayed >= durations[every, state]
        elif manner.drawn:
            left = drawn.chance >= stay.exp()
        else:
            left = survival <= math.log1p(-manner.quantile)
        if durations is None:
            left = left | _held_too_long(stayed, alive & ~left, state, manner.longest)
        before = mel
        ends = left & (state == states - 1)
        alive = alive & ~ends
        if not bool(alive.any()):
            return
        state = torch.where(left & ~ends, state + 1, state)
        stayed = torch.where(left, 0, stayed)
        survival = torch.where(left, 0.0, survival)


def _held_too_long(
    stayed: Int[Tensor, "b"], alive: Bool[Tensor, "b"], state: Int[Tensor, "b"], longest: int
) -> Bool[Tensor, "b"]:
    held = alive & (stayed >= longest)
    for utterance in held.nonzero()[:, 0].tolist():
        log.warning(
            "utterance %d: state %d was left after %d frames, the longest allowed; the model is not trained enough, "
            "or set longest higher", utterance, int(state[utterance]), longest,
        )  # fmt: skip
    return held
