"""What a stream is made of. b streams, c frames of a chunk, h frames held, n states.

Every state here is plain data with an axis b in front: `take` and `join` drop, add and reorder streams. Everything is
float64: a stream has no length, so nothing may drift.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hmmtts.hmm.topology import Dense, LeftToRight

NEVER = float("-inf")
MOST_STATES = 2**15 - 1  # paths are kept as int16


class Shared(NamedTuple):
    """The arcs of a dense model, the same for all streams: as logarithms, and as weights * e^top."""

    transition: Float[Tensor, "n n"]
    weights: Float[Tensor, "n n"]  # the largest is 1
    top: float


class _Model(NamedTuple):
    start: Float[Tensor, "b n"]
    end: Float[Tensor, "b n"]  # of ending in each state: in a left-to-right model only the last state may
    arcs: LeftToRight | Shared
    states: Int[Tensor, "b"]


class Model(_Model):
    """A topology made ready for streams; arcs beyond the states that a stream has are -inf.

    Its tensors are not to be changed: what is made of them once is kept, since a chunk leaves no time for it.
    """

    @property
    def streams(self) -> int:
        return len(self.start)

    @cached_property
    def topology(self) -> LeftToRight | Dense:
        arcs = self.arcs
        return arcs if isinstance(arcs, LeftToRight) else Dense(self.start[0], arcs.transition)

    @cached_property
    def ready(self) -> dict[str, Any]:
        """What backends have made of it, by their names."""
        return {}


class Filter(NamedTuple):
    """Where each stream stands."""

    frames: Int[Tensor, "b"]  # heard so far
    ended: Bool[Tensor, "b"]
    log_alpha: Float[Tensor, "b n"]  # log p(state now | frames so far)
    log_likelihood: Float[Tensor, "b"]  # of the frames so far; of the whole stream once it has ended


class Smoother(NamedTuple):
    filter: Filter
    lag: int
    held: Int[Tensor, "b"]  # frames heard and not yet given out
    log_alpha: Float[Tensor, "b h n"]
    log_obs: Float[Tensor, "b h n"]
    likelihood: Float[Tensor, "b h n"]  # exp(log_obs), the largest of each frame 1


class Decoder(NamedTuple):
    frames: Int[Tensor, "b"]
    ended: Bool[Tensor, "b"]
    lag: int
    log_delta: Float[Tensor, "b n"]  # of the best path into each state, relative to the best of all
    score: Float[Tensor, "b"]  # of the best of all
    forced: Int[Tensor, "b"]  # how often the lag decided what the future might still have changed
    held: Int[Tensor, "b"]
    before: Int[Tensor, "b h n"]  # the state before, on the best path into each state at each held frame
    oldest: Int[Tensor, "b n"]  # the state of the oldest held frame, on the best path into each state now


class Filtered(NamedTuple):
    posterior: Float[Tensor, "b c n"]  # p(state | frames up to this one)
    log_likelihood: Float[Tensor, "b"]


class Smoothed(NamedTuple):
    """Frames `first` to `first + frames` of each stream; zeros beyond."""

    posterior: Float[Tensor, "b e n"]  # p(state | frames up to `lag` after this one)
    first: Int[Tensor, "b"]
    frames: Int[Tensor, "b"]
    log_likelihood: Float[Tensor, "b"]


class Decoded(NamedTuple):
    """Frames `first` to `first + frames` of each stream's path, which no later chunk changes; -1 beyond."""

    path: Int[Tensor, "b e"]
    first: Int[Tensor, "b"]
    frames: Int[Tensor, "b"]
    score: Float[Tensor, "b"]  # of the best path so far
    forced: Int[Tensor, "b"]


class Chunk(NamedTuple):
    """Checked: `frames` of each stream are real, the rest may hold anything."""

    log_obs: Float[Tensor, "b c n"]  # float64
    frames: Int[Tensor, "b"]
    ending: Bool[Tensor, "b"]  # these frames are the stream's last


class Backend(Protocol):
    """Each takes a state and returns another; a value that is no log-probability is left to `check`."""

    def filter(self, model: Model, state: Filter, chunk: Chunk) -> tuple[Filter, Filtered]: ...

    def smooth(self, model: Model, state: Smoother, chunk: Chunk) -> tuple[Smoother, Smoothed]: ...

    def decode(self, model: Model, state: Decoder, chunk: Chunk) -> tuple[Decoder, Decoded]: ...


def prepare(
    topology: LeftToRight | Dense, streams: int | None = None, states: Int[Tensor, "b"] | None = None
) -> Model:
    """The model of so many streams: one text each (left-to-right, arcs [b n]), or one model for all (dense)."""
    n = topology[0].shape[-1]
    if isinstance(topology, LeftToRight) and any(arc is not None and arc.ndim != 2 for arc in topology):
        raise ValueError(
            f"stay must have the shape [streams, states], got {list(topology.stay.shape)}: arcs that change with time "
            "are not streamed"
        )
    b = streams if streams is not None else len(topology.stay) if isinstance(topology, LeftToRight) else 1
    if isinstance(topology, LeftToRight) and len(topology.stay) not in (1, b):
        raise ValueError(f"streams must be {len(topology.stay)}, as many as the arcs are for, got {b}")
    if b < 1 or n > MOST_STATES:
        raise ValueError(f"there must be at least 1 stream and at most {MOST_STATES} states, got {b} and {n}")
    for name, arc in zip(topology._fields, topology, strict=True):
        if arc is not None and not bool((arc < float("inf")).all()):
            raise ValueError(f"{name} holds NaN or +inf; arcs are log-probabilities, finite or -inf")
    lengths = torch.full((b,), n) if states is None else states.to("cpu", torch.int64)
    if lengths.shape != (b,) or int(lengths.min()) < 1 or int(lengths.max()) > n:
        raise ValueError(f"states must be {b} integers between 1 and {n}, got {lengths.tolist()}")
    wide = [None if arc is None else arc.detach().double() for arc in topology]
    device = topology[0].device
    real = torch.arange(n, device=device) < lengths.to(device)[:, None]
    if isinstance(topology, LeftToRight):
        return _left_to_right(LeftToRight._make(wide), real, lengths)
    initial, transition, final = wide
    assert initial is not None
    final = torch.zeros_like(initial) if final is None else final
    start, end = (torch.where(real, law, NEVER) for law in (initial, final))
    assert transition is not None
    top = float(transition.max().clamp(min=-1e300))
    return Model(start, end, Shared(transition, (transition - top).exp(), top), lengths)


def _left_to_right(arcs: LeftToRight, real: Bool[Tensor, "b n"], states: Int[Tensor, "b"]) -> Model:
    """Arcs that lead beyond the last state are cut; its `move` becomes the end."""
    n = torch.arange(real.shape[1], device=real.device)
    last = states.to(real.device)[:, None] - 1
    skip = torch.full_like(arcs.move, NEVER) if arcs.skip is None else arcs.skip
    return Model(
        torch.where(n == 0, 0.0, NEVER).double().expand(len(states), -1).contiguous(),
        torch.where(n == last, arcs.move, NEVER),
        LeftToRight(
            torch.where(real, arcs.stay, NEVER),
            torch.where(n < last, arcs.move, NEVER),
            torch.where(n < last - 1, skip, NEVER),
        ),
        states,
    )


def check(model: Model, heard: Int[Tensor, "b"], chunk: Chunk) -> None:
    """NaN or +inf in a real cell is an error that says where."""
    log_obs, frames, _ = chunk
    c, n = log_obs.shape[1:]
    real = (torch.arange(c) < frames[:, None])[:, :, None] & (torch.arange(n) < model.states[:, None])[
        :, None
    ]
    bad = ~(log_obs < -NEVER) & real.to(log_obs.device)
    if bool(bad.any()):
        stream, frame, state = bad.nonzero()[0].tolist()
        raise ValueError(
            f"log_obs holds {float(log_obs[stream, frame, state])} in stream {stream}, frame "
            f"{int(heard[stream]) + frame}, state {state}; emissions are log-probabilities, finite or -inf"
        )


State = TypeVar("State", Model, Filter, Smoother, Decoder)


def take(state: State, which: Sequence[int]) -> State:
    """Only these streams, in this order. A model and its state go together; a dense model's arcs stay shared."""
    index = torch.tensor(which, dtype=torch.long)
    return _each(state, lambda rows: rows[0][index.to(rows[0].device)], [state])


def join(states: Sequence[State]) -> State:
    """All streams of several, one after another: states of one lag, models of one size and, if dense, with the same arcs."""
    parts: Sequence[Any] = states
    lags = {state.lag for state in parts if isinstance(state, Smoother | Decoder)}
    if len(lags) > 1:
        raise ValueError(f"lag must be the same in every state that is joined, got {sorted(lags)}")
    shared = [
        state.arcs.transition
        for state in parts
        if isinstance(state, Model) and isinstance(state.arcs, Shared)
    ]
    if any(not torch.equal(arcs, shared[0]) for arcs in shared):
        raise ValueError(
            "transition must be the same in every dense model that is joined: its streams share it"
        )
    return _each(states[0], lambda rows: torch.cat(_padded(rows)), states)


def _each(like, change, states):
    """`change` of every tensor with an axis of streams."""

    def field(name: str, value):
        values = [getattr(state, name) for state in states]
        if isinstance(value, Tensor):
            return change(values)
        if isinstance(value, LeftToRight | Filter):
            return _each(value, change, values)
        return value

    return type(like)(*(field(name, value) for name, value in zip(like._fields, like, strict=True)))


def _padded(rows: list[Tensor]) -> list[Tensor]:
    """Of equally many held frames: what is added is read by nobody."""
    if rows[0].ndim < 3:
        return rows
    longest = max(row.shape[1] for row in rows)
    return [torch.nn.functional.pad(row, (0, 0, 0, longest - row.shape[1])) for row in rows]
