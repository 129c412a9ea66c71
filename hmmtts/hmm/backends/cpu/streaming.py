"""Filter, fixed-lag smoother and online Viterbi of many streams. b streams, c frames of a chunk, h frames held.

A call is a few hundred microseconds at most, so arrays are numpy's, which come and go more quickly than tensors.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hmmtts.hmm.backends.cpu import doubles, online_viterbi, recursion, rows
from hmmtts.hmm.backends.cpu.compile import compiled_once, inner, kernel
from hmmtts.hmm.backends.cpu.doubles import copy_rows
from hmmtts.hmm.backends.cpu.pool import over_batch
from hmmtts.hmm.backends.cpu.product import padded
from hmmtts.hmm.backends.cpu.turns import turns
from hmmtts.hmm.streaming.contract import (
    Chunk,
    Decoded,
    Decoder,
    Filter,
    Filtered,
    Model,
    Smoothed,
    Smoother,
    check,
)
from hmmtts.hmm.topology import Dense, LeftToRight

Array = np.ndarray


class Laws(NamedTuple):
    """A model as arrays. The arcs of a dense one are everybody's, those from left to right each stream's own."""

    start: Array  # [b n]
    end: Array
    states: Array  # [b]
    dense: bool
    scores: Array  # [1 n n], or [b 3 n]
    weights: Array  # [1 n m], padded
    back_scores: Array  # the same backwards
    back_weights: Array
    top: float


class Sound(NamedTuple):
    """A chunk, and how many frames each stream had heard before it."""

    log_obs: Array  # [b c n]
    frames: Array  # [b]
    ending: Array
    heard: Array


class Level(NamedTuple):
    """What a filter knows; a kernel takes it on in place."""

    log_alpha: Array  # [b n]
    log_z: Array  # [b]


class Rows(NamedTuple):
    """What a smoother holds."""

    held: Array  # [b]
    log_alpha: Array  # [b h n]
    log_obs: Array
    likelihood: Array


class Paths(NamedTuple):
    """What a decoder knows; a kernel takes it on in place."""

    log_delta: Array  # [b n]
    score: Array  # [b]
    forced: Array
    held: Array
    before: Array  # [b h n]
    oldest: Array  # [b n]


@compiled_once
def make_ready() -> None:
    from hmmtts.hmm.streaming import filter_start, prepare, smoother_start, viterbi_start

    one = torch.zeros(1, 2)
    chunk = Chunk(torch.zeros(1, 1, 2, dtype=torch.float64), torch.tensor([1]), torch.tensor([True]))
    for topology in (LeftToRight(one, one), Dense(one[0], torch.zeros(2, 2))):
        model = prepare(topology)
        filter(model, filter_start(model), chunk)
        smooth(model, smoother_start(model, 1), chunk)
        decode(model, viterbi_start(model, 1), chunk)


def filter(model: Model, state: Filter, chunk: Chunk) -> tuple[Filter, Filtered]:
    make_ready()
    sound, level = _sound(chunk, state.frames), _level(state)
    posterior = np.zeros_like(sound.log_obs)
    _over_streams(_filter_kernel, 1, model, chunk, sound, (level, posterior))
    after = _heard(state, sound, level)
    return after, Filtered(torch.from_numpy(posterior), after.log_likelihood)


def smooth(model: Model, state: Smoother, chunk: Chunk) -> tuple[Smoother, Smoothed]:
    make_ready()
    sound, level, lag = _sound(chunk, state.filter.frames), _level(state.filter), state.lag
    old = Rows(state.held.numpy(), _array(state.log_alpha), _array(state.log_obs), _array(state.likelihood))
    there = old.held + sound.frames
    kept = np.minimum(there, lag)
    kept[sound.ending] = 0
    emitted = there - kept
    b, _, n = sound.log_obs.shape
    shape = b, int(kept.max()), n
    new = Rows(kept, np.empty(shape), np.empty(shape), np.empty(shape))
    given = np.zeros((b, int(emitted.max()), n))
    _over_streams(_smooth_kernel, 1 + lag, model, chunk, sound, (level, lag, old, new, given))
    after, first = _heard(state.filter, sound, level), sound.heard - old.held
    return (
        Smoother(after, lag, *map(torch.from_numpy, new)),
        Smoothed(*map(torch.from_numpy, (given, first, emitted)), after.log_likelihood),
    )


def decode(model: Model, state: Decoder, chunk: Chunk) -> tuple[Decoder, Decoded]:
    make_ready()
    sound, lag, (b, n) = _sound(chunk, state.frames), state.lag, model.start.shape
    held = state.held.numpy()
    most, before = int((held + sound.frames).max()), _array(state.before)
    new = Paths(
        state.log_delta.numpy().copy(),
        state.score.numpy().copy(),
        state.forced.numpy().copy(),
        held.copy(),
        np.empty((b, min(most, lag), n), np.int16),
        state.oldest.numpy().copy(),
    )
    path, emitted = np.full((b, most), -1), np.empty(b, np.int64)
    _over_streams(online_viterbi.decode, 2, model, chunk, sound, (lag, before, new, path, emitted))
    ended = state.ended.numpy() | sound.ending
    after = Decoder(
        *map(torch.from_numpy, (sound.heard + sound.frames, ended)), lag, *map(torch.from_numpy, new)
    )
    decided = map(torch.from_numpy, (path[:, : int(emitted.max())], sound.heard - held, emitted))
    return after, Decoded(*decided, after.score, after.forced)


def _sound(chunk: Chunk, heard: Tensor) -> Sound:
    return Sound(_array(chunk.log_obs), chunk.frames.numpy(), chunk.ending.numpy(), heard.numpy())


def _level(state: Filter) -> Level:
    return Level(state.log_alpha.numpy().copy(), state.log_likelihood.numpy().copy())


def _heard(state: Filter, sound: Sound, level: Level) -> Filter:
    parts = sound.heard + sound.frames, state.ended.numpy() | sound.ending, *level
    return Filter(*map(torch.from_numpy, parts))


def _laws(model: Model) -> Laws:
    if "cpu" not in model.ready:
        model.ready["cpu"] = _made_ready(model)
    return model.ready["cpu"]


def _made_ready(model: Model) -> Laws:
    start, end, states = _array(model.start), _array(model.end), model.states.numpy()
    if isinstance(model.arcs, LeftToRight):
        steps = np.stack([_array(arc) for arc in model.arcs if arc is not None], 1)
        none = np.empty((len(steps), 0, 0))
        return Laws(start, end, states, False, steps, none, steps, none, 0.0)
    scores, weights, top = model.arcs
    scores, weights = scores.numpy(), weights.numpy()
    arcs = scores, padded(weights), np.ascontiguousarray(scores.T), padded(weights.T)
    return Laws(start, end, states, True, *(matrix[None] for matrix in arcs), top)


def _array(x: Tensor) -> Array:
    return x.contiguous().numpy()


def _over_streams(
    kernel: Any, work: int, model: Model, chunk: Chunk, sound: Sound, rest: tuple[Any, ...]
) -> None:
    laws, status = _laws(model), np.zeros(model.streams, np.int64)
    over_batch(lambda streams: kernel(streams, laws, sound, *rest, status), sound.frames * laws.states * work)
    if status.any():
        check(model, torch.from_numpy(sound.heard), chunk)


@inner
def _hear(laws, sound, level, b, t, arcs, space, now):
    """The filter's next row. False if a score is none."""
    S, x, row = laws.states[b], sound.log_obs[b], level.log_alpha[b]
    if not rows.finite(x[t], S):
        return False
    begun = sound.heard[b] + t > 0
    level.log_z[b] += recursion.advance(x, t, begun, laws.start[b], arcs, laws.dense, space, row, now, S)
    doubles.copy(now, row)
    return True


@inner
def _end(laws, level, b, space):
    doubles.add(level.log_alpha[b], laws.end[b], space[1], laws.states[b])
    level.log_z[b] += recursion.normalise(space[1], space, laws.states[b])


@kernel
def _filter_kernel(streams, laws, sound, level, posterior, status):
    width = posterior.shape[2]
    space, now = doubles.rows(2, width), np.empty(width)
    for b in turns(streams):
        whose = 0 if laws.dense else b
        arcs = laws.scores[whose], laws.weights[whose], laws.top
        for t in range(sound.frames[b]):
            if not _hear(laws, sound, level, b, t, arcs, space, now):
                status[b] = 1
                break
            doubles.exponentiate(now, 0.0, posterior[b, t], laws.states[b])
        if sound.ending[b]:
            _end(laws, level, b, space)


@kernel
def _smooth_kernel(streams, laws, sound, level, lag, old, new, given, status):
    width, longest = given.shape[2], 0
    for b in range(len(old.held)):
        longest = max(longest, old.held[b] + sound.frames[b])
    shape = longest, width
    alphas, emissions, likely = np.empty(shape), np.empty(shape), np.empty(shape)
    space, beta = doubles.rows(2, width), doubles.rows(1, width)[0]
    log_beta, worth = np.empty(width), np.empty(width)
    for b in turns(streams):
        S, whose = laws.states[b], 0 if laws.dense else b
        arcs = laws.scores[whose], laws.weights[whose], laws.top
        back_arcs = laws.back_scores[whose], laws.back_weights[whose], laws.top
        h, first = old.held[b], 0  # held rows: first to h
        copy_rows(old.log_alpha[b], 0, h, alphas)
        copy_rows(old.log_obs[b], 0, h, emissions)
        copy_rows(old.likelihood[b], 0, h, likely)
        for t in range(sound.frames[b] + 1):
            while h - first > lag:
                held = alphas[first:h], emissions[first:h], likely[first:h]
                _look_back(held, back_arcs, laws.dense, space, beta, log_beta, worth, given[b, first], S)
                first += 1
            if t == sound.frames[b]:
                break
            if not _hear(laws, sound, level, b, t, arcs, space, alphas[h]):
                status[b] = 1
                break
            doubles.copy(sound.log_obs[b, t], emissions[h])
            recursion.exponentiate(emissions[h], likely[h], S)
            h += 1
        if status[b] != 0:
            continue
        if sound.ending[b]:
            _end(laws, level, b, space)
            doubles.copy(laws.end[b], log_beta)
            for r in range(h - 1, first - 1, -1):
                recursion.share(alphas[r], log_beta, given[b, r], S)
                recursion.back(emissions[r], log_beta, worth, back_arcs, laws.dense, space, S)
            first = h
        copy_rows(alphas, first, h, new.log_alpha[b])
        copy_rows(emissions, first, h, new.log_obs[b])
        copy_rows(likely, first, h, new.likelihood[b])


@inner
def _look_back(held, arcs, dense, space, beta, log_beta, worth, given, S):
    """The posterior of the oldest row that is held: in plain numbers, or where they might underflow in logarithms."""
    alphas, emissions, likely = held
    fits = dense
    beta[:S] = 1.0
    for r in range(len(likely) - 1, 0, -1):
        fits = fits and recursion.backward_linear(beta, likely[r], arcs[1], space, S)
    if not (fits and recursion.share_linear(alphas[0], beta, given, S)):
        log_beta[:] = 0.0
        for r in range(len(emissions) - 1, 0, -1):
            recursion.back(emissions[r], log_beta, worth, arcs, dense, space, S)
        recursion.share(alphas[0], log_beta, given, S)
