"""Chunk by chunk: checks, and the choice of who computes. b streams, c frames of a chunk, n states."""

from functools import cache
from importlib import import_module
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hmmtts.hmm.backends import choose
from hmmtts.hmm.backends.contract import Problem
from hmmtts.hmm.streaming import reference
from hmmtts.hmm.streaming.contract import (
    Backend,
    Chunk,
    Decoded,
    Decoder,
    Filter,
    Filtered,
    Model,
    Smoothed,
    Smoother,
)

Lagged = TypeVar("Lagged", Smoother, Decoder)
FAST = {"cpu": "hmmtts.hmm.backends.cpu.streaming"}


def filter_start(model: Model) -> Filter:
    b, device = model.streams, model.start.device
    return Filter(
        torch.zeros(b, dtype=torch.int64),
        torch.zeros(b, dtype=torch.bool),
        model.start.clone(),
        torch.zeros(b, dtype=torch.float64, device=device),
    )


def smoother_start(model: Model, lag: int) -> Smoother:
    """`lag`: frames after a frame that are waited for; more are surer, later, and cost work in proportion."""
    rows = torch.zeros(model.streams, 0, model.start.shape[1], dtype=torch.float64, device=model.start.device)
    held = torch.zeros(model.streams, dtype=torch.int64)
    return Smoother(filter_start(model), _lag(lag), held, rows, rows, rows)


def viterbi_start(model: Model, lag: int) -> Decoder:
    """`lag`: frames after a frame after which its state is decided, if it was not certain before."""
    b, n = model.start.shape
    start = filter_start(model)
    return Decoder(
        start.frames,
        start.ended,
        _lag(lag),
        model.start.clone(),
        start.log_likelihood,
        torch.zeros(b, dtype=torch.int64),
        torch.zeros(b, dtype=torch.int64),
        torch.zeros(b, 0, n, dtype=torch.int16, device=model.start.device),
        torch.zeros(b, n, dtype=torch.int16, device=model.start.device),
    )


def with_lag(state: Lagged, lag: int) -> Lagged:
    """The same stream, from here on with another lag: what is older than that goes out with the next chunk."""
    return state._replace(lag=_lag(lag))


def filter_step(
    model: Model,
    state: Filter,
    log_obs: Float[Tensor, "b c n"],
    frames: Int[Tensor, "b"] | None = None,
    ended: Bool[Tensor, "b"] | None = None,
) -> tuple[Filter, Filtered]:
    """p(state | everything up to now) for every frame of the chunk."""
    chunk = _chunk(model, state.ended, log_obs, frames, ended)
    state, found = _backend(model, chunk).filter(model, state, chunk)
    return state, found._replace(posterior=_like(found.posterior, log_obs))


def smoother_step(
    model: Model,
    state: Smoother,
    log_obs: Float[Tensor, "b c n"],
    frames: Int[Tensor, "b"] | None = None,
    ended: Bool[Tensor, "b"] | None = None,
) -> tuple[Smoother, Smoothed]:
    """p(state | everything up to `lag` frames later), for the frames that are old enough, and all once a stream ends."""
    chunk = _chunk(model, state.filter.ended, log_obs, frames, ended)
    state, found = _backend(model, chunk).smooth(model, state, chunk)
    return state, found._replace(posterior=_like(found.posterior, log_obs))


def viterbi_step(
    model: Model,
    state: Decoder,
    log_obs: Float[Tensor, "b c n"],
    frames: Int[Tensor, "b"] | None = None,
    ended: Bool[Tensor, "b"] | None = None,
) -> tuple[Decoder, Decoded]:
    """What of the best path is decided."""
    chunk = _chunk(model, state.ended, log_obs, frames, ended)
    return _backend(model, chunk).decode(model, state, chunk)


def _lag(lag: int) -> int:
    if lag < 0:
        raise ValueError(f"lag must be at least 0 frames, got {lag}")
    return lag


def _like(posterior: Tensor, log_obs: Tensor) -> Tensor:
    return posterior if log_obs.dtype == torch.float64 else posterior.float()


def _chunk(model: Model, over: Tensor, log_obs: Tensor, frames: Tensor | None, ended: Tensor | None) -> Chunk:
    b, n = model.start.shape
    if log_obs.ndim != 3 or (log_obs.shape[0], log_obs.shape[2]) != (b, n) or not log_obs.is_floating_point():
        raise ValueError(
            f"log_obs must be floating point [{b} streams, frames, {n} states], got {log_obs.dtype} {list(log_obs.shape)}"
        )
    c = log_obs.shape[1]
    return Chunk(
        log_obs.detach().to(model.start.device, torch.float64).contiguous(),
        torch.full((b,), c).masked_fill_(over, 0) if frames is None else _frames(frames, over, c),
        torch.zeros_like(over) if ended is None else _ending(ended, over),
    )


def _frames(frames: Tensor, over: Tensor, c: int) -> Int[Tensor, "b"]:
    frames = frames.to("cpu", torch.int64)
    if frames.shape != over.shape or int(frames.min()) < 0 or int(frames.max()) > c:
        raise ValueError(f"frames must be {len(over)} integers between 0 and {c}, got {frames.tolist()}")
    late = over & (frames > 0)
    if bool(late.any()):
        stream = int(late.nonzero()[0])
        raise ValueError(
            f"frames of stream {stream} must be 0, got {int(frames[stream])}: it has ended; start a state of its own for what "
            "comes next, and `join` it"
        )
    return frames


def _ending(ended: Tensor, over: Tensor) -> Bool[Tensor, "b"]:
    if ended.shape != over.shape:
        raise ValueError(
            f"ended must be {len(over)} truth values, one for every stream, got {list(ended.shape)}"
        )
    return ended.to("cpu", torch.bool) & ~over


def _backend(model: Model, chunk: Chunk) -> Backend:
    return _load(choose(Problem(chunk.log_obs, model.topology, chunk.frames, model.states)).name)


@cache
def _load(name: str) -> Backend:
    return import_module(FAST[name]) if name in FAST else reference
