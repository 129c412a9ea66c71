"""Filter, fixed-lag smoother and online Viterbi of many streams. b streams, c frames of a chunk, h frames held."""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.hmm.backends.cpu import recursion, rows
from hmmtts.hmm.backends.cpu.compile import inner, kernel, warm
from hmmtts.hmm.backends.cpu.pool import over_batch
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

NONE = recursion.NONE


def filter(model: Model, state: Filter, chunk: Chunk) -> tuple[Filter, Filtered]:
    make_ready()
    return _filter(model, state, chunk)


def smooth(model: Model, state: Smoother, chunk: Chunk) -> tuple[Smoother, Smoothed]:
    make_ready()
    return _smooth(model, state, chunk)


def decode(model: Model, state: Decoder, chunk: Chunk) -> tuple[Decoder, Decoded]:
    make_ready()
    return _decode(model, state, chunk)


@cache
def make_ready() -> None:
    """Compile the kernels unless that was done before, by whichever process."""
    warm(__name__, compile_all)


def compile_all() -> None:
    from hmmtts.hmm.streaming import filter_start, prepare, smoother_start, viterbi_start

    one = torch.zeros(1, 2)
    chunk = Chunk(torch.zeros(1, 1, 2, dtype=torch.float64), torch.tensor([1]), torch.tensor([True]))
    for topology in (LeftToRight(one, one), Dense(one[0], torch.zeros(2, 2))):
        model = prepare(topology)
        _filter(model, filter_start(model), chunk)
        _smooth(model, smoother_start(model, 1), chunk)
        _decode(model, viterbi_start(model, 1), chunk)


def _filter(model: Model, state: Filter, chunk: Chunk) -> tuple[Filter, Filtered]:
    heard, posterior, status = _heard(state, chunk), torch.zeros_like(chunk.log_obs), _status(model)

    def run(streams: np.ndarray) -> None:
        _filter_kernel(
            streams, *_arrays(model), *_arrays_of(state, chunk), heard.log_alpha.numpy(),
            heard.log_likelihood.numpy(), posterior.numpy(), status,
        )  # fmt: skip

    _over_streams(run, model, state.frames, chunk, 1, status)
    return heard, Filtered(posterior, heard.log_likelihood)


def _smooth(model: Model, state: Smoother, chunk: Chunk) -> tuple[Smoother, Smoothed]:
    heard, status = _heard(state.filter, chunk), _status(model)
    kept = torch.where(heard.ended, 0, torch.clamp(state.held + chunk.frames, max=state.lag))
    emitted = state.held + chunk.frames - kept
    new = (model.streams, int(kept.max()), model.start.shape[1])
    log_alpha, log_obs, likelihood = (torch.zeros(new, dtype=torch.float64) for _ in range(3))
    given = torch.zeros(model.streams, int(emitted.max()), new[2], dtype=torch.float64)

    def run(streams: np.ndarray) -> None:
        _smooth_kernel(
            streams, *_arrays(model), *_arrays_of(state.filter, chunk), heard.log_alpha.numpy(),
            heard.log_likelihood.numpy(), state.lag, state.held.numpy(), _array(state.log_alpha),
            _array(state.log_obs), _array(state.likelihood), kept.numpy(), log_alpha.numpy(), log_obs.numpy(),
            likelihood.numpy(), given.numpy(), status,
        )  # fmt: skip

    _over_streams(run, model, state.filter.frames, chunk, 1 + state.lag, status)
    first = heard.frames - kept - emitted
    return (
        Smoother(heard, state.lag, kept, log_alpha, log_obs, likelihood),
        Smoothed(given, first, emitted, heard.log_likelihood),
    )


def _decode(model: Model, state: Decoder, chunk: Chunk) -> tuple[Decoder, Decoded]:
    b, n = model.start.shape
    status, most = _status(model), int((state.held + chunk.frames).max())
    path, emitted = torch.full((b, most), -1), torch.zeros(b, dtype=torch.int64)
    before = torch.zeros(b, min(most, state.lag), n, dtype=torch.int16)
    after = state._replace(
        frames=state.frames + chunk.frames,
        ended=state.ended | chunk.ending,
        log_delta=state.log_delta.clone(),
        score=state.score.clone(),
        forced=state.forced.clone(),
        held=state.held.clone(),
        before=before,
        oldest=state.oldest.clone(),
    )

    def run(streams: np.ndarray) -> None:
        _decode_kernel(
            streams, *_arrays(model), state.frames.numpy(), _array(chunk.log_obs), chunk.frames.numpy(),
            chunk.ending.numpy(), state.lag, after.log_delta.numpy(), after.score.numpy(), after.forced.numpy(),
            after.held.numpy(), _array(state.before), before.numpy(), after.oldest.numpy(), path.numpy(),
            emitted.numpy(), status,
        )  # fmt: skip

    _over_streams(run, model, state.frames, chunk, 2, status)
    after = after._replace(before=before[:, : int(after.held.max())].contiguous())
    first = after.frames - after.held - emitted
    return after, Decoded(path[:, : int(emitted.max())], first, emitted, after.score, after.forced)


def _heard(state: Filter, chunk: Chunk) -> Filter:
    return Filter(
        state.frames + chunk.frames,
        state.ended | chunk.ending,
        state.log_alpha.clone(),
        state.log_likelihood.clone(),
    )


def _status(model: Model) -> np.ndarray:
    return np.zeros(model.streams, np.int64)


def _arrays(model: Model) -> tuple:
    """start, end, states; is it dense; and the arcs of either kind, of which the other is empty."""
    laws = model.start.contiguous().numpy(), model.end.contiguous().numpy(), model.states.numpy()
    if isinstance(model.arcs, LeftToRight):
        stay, move, skip = (_array(arc) for arc in model.arcs if arc is not None)
        none = np.empty((0, 0))
        return *laws, False, none, none, 0.0, stay, move, skip
    none = np.empty((1, 0))
    return (
        *laws,
        True,
        _array(model.arcs.transition),
        _array(model.arcs.weights),
        model.arcs.top,
        none,
        none,
        none,
    )


def _array(x: Float[Tensor, "*n"]) -> np.ndarray:
    return x.contiguous().numpy()


def _arrays_of(state: Filter, chunk: Chunk) -> tuple:
    return state.frames.numpy(), _array(chunk.log_obs), chunk.frames.numpy(), chunk.ending.numpy()


def _over_streams(run, model: Model, heard: Tensor, chunk: Chunk, work: int, status: np.ndarray) -> None:
    over_batch(run, chunk.frames.numpy() * model.states.numpy() * work)
    if status.any():
        check(model, heard, chunk)


@kernel
def _filter_kernel(
    streams, start, end, states, dense, scores, weights, top, stay, move, skip, heard, log_obs, frames, ending,
    log_alpha, log_z, posterior, status,
):  # fmt: skip
    width = log_obs.shape[2]
    space, now = np.empty((2, width)), np.empty(width)
    for b in streams:
        S, x, shared = states[b], log_obs[b], 0 if dense else b
        arcs = scores, weights, top, stay[shared], move[shared], skip[shared]
        row = log_alpha[b]
        for t in range(frames[b]):
            if not rows.finite(x[t], S):
                status[b] = 1
                break
            log_z[b] += recursion.advance(x, t, heard[b] + t > 0, start[b], arcs, dense, space, row, now, S)
            row[:] = now
            for n in range(S):
                posterior[b, t, n] = np.exp(row[n])
        if ending[b]:
            _end(row, end[b], S, now)
            log_z[b] += recursion.normalise(now, S)


@inner
def _end(row, end, S, out):
    for n in range(S):
        out[n] = row[n] + end[n]


@kernel
def _smooth_kernel(
    streams, start, end, states, dense, scores, weights, top, stay, move, skip, heard, log_obs, frames, ending,
    log_alpha, log_z, lag, held, old_alpha, old_obs, old_likely, kept, new_alpha, new_obs, new_likely, given, status,
):  # fmt: skip
    width, longest = log_obs.shape[2], 0
    for b in streams:
        longest = max(longest, held[b] + frames[b])
    space, beta, worth = np.empty((2, width)), np.empty(width), np.empty(width)
    alphas, emissions, likely = (
        np.empty((longest, width)),
        np.empty((longest, width)),
        np.empty((longest, width)),
    )
    linear = np.zeros(width)
    back, back_weights = scores.T.copy(), weights.T.copy()
    for b in streams:
        S, shared = states[b], 0 if dense else b
        arcs = scores, weights, top, stay[shared], move[shared], skip[shared]
        back_arcs = back, back_weights, top, stay[shared], move[shared], skip[shared]
        h, first = held[b], 0
        alphas[:h], emissions[:h], likely[:h] = old_alpha[b, :h], old_obs[b, :h], old_likely[b, :h]
        row = log_alpha[b]
        for t in range(frames[b] + 1):
            while h - first > lag:
                fits = dense
                linear[:S] = 1.0
                for r in range(h - 1, first, -1):
                    fits = fits and recursion.backward_linear(linear, likely[r], back_weights, space, S)
                if not (fits and recursion.share_linear(alphas[first], linear, given[b, first], S)):
                    beta[:] = 0.0
                    for r in range(h - 1, first, -1):
                        recursion.back(emissions[r], beta, worth, back_arcs, dense, space, S)
                    recursion.share(alphas[first], beta, given[b, first], S)
                first += 1
            if t == frames[b]:
                break
            if not rows.finite(log_obs[b, t], S):
                status[b] = 1
                break
            begun = heard[b] + t > 0
            log_z[b] += recursion.advance(
                log_obs[b], t, begun, start[b], arcs, dense, space, row, alphas[h], S
            )
            row[:] = alphas[h]
            emissions[h] = log_obs[b, t]
            recursion.exponentiate(emissions[h], likely[h], S)
            h += 1
        if status[b] != 0:
            continue
        if ending[b]:
            _end(row, end[b], S, worth)
            log_z[b] += recursion.normalise(worth, S)
            beta[:] = end[b]
            for r in range(h - 1, first - 1, -1):
                recursion.share(alphas[r], beta, given[b, r], S)
                recursion.back(emissions[r], beta, worth, back_arcs, dense, space, S)
        for r in range(kept[b]):
            new_alpha[b, r], new_obs[b, r], new_likely[b, r] = (
                alphas[first + r],
                emissions[first + r],
                likely[first + r],
            )


@kernel
def _decode_kernel(
    streams, start, end, states, dense, scores, weights, top, stay, move, skip, heard, log_obs, frames, ending,
    lag, log_delta, score, forced, held, old_before, new_before, oldest, path, emitted, status,
):  # fmt: skip
    width, longest = log_obs.shape[2], 0
    for b in streams:
        longest = max(longest, held[b] + frames[b])
    before, best, root = np.empty((longest, width), np.int16), np.empty(width), np.zeros(width, np.int16)
    marks = np.zeros((2, width), np.bool_)
    for b in streams:
        S, shared = states[b], 0 if dense else b
        arcs = scores, weights, top, stay[shared], move[shared], skip[shared]
        delta, ancestor, first, last = log_delta[b], oldest[b], 0, held[b]  # held rows: first to last
        before[:last] = old_before[b, :last]
        for t in range(frames[b] + 1):
            while last > first:
                if not _agree(delta, ancestor, S):
                    if last - first <= lag:
                        break
                    decided = ancestor[recursion.best_of(delta, S)]
                    for n in range(S):
                        delta[n] = delta[n] if ancestor[n] == decided else NONE
                    forced[b] += 1
                first = _commit(delta, before, first, last, marks, path[b], S)
                _restart(ancestor, root, before, first, last, S)
            if t == frames[b]:
                break
            if not rows.finite(log_obs[b, t], S):
                status[b] = 1
                break
            if heard[b] + t > 0:
                recursion.best_into(delta, arcs, dense, best, before[last], S)
            else:
                recursion.copy(start[b], best)
            for n in range(S):
                best[n] += log_obs[b, t, n]
            largest = best[recursion.best_of(best, S)]
            score[b] += largest
            for n in range(S):
                delta[n] = best[n] - largest if largest > NONE else NONE
                root[n] = ancestor[before[last, n]] if last > first else n
            delta[S:] = NONE
            recursion.copy(root, ancestor)
            last += 1
        if status[b] != 0:
            continue
        if ending[b]:
            for n in range(S):
                best[n] = delta[n] + end[b, n]
            n = recursion.best_of(best, S)
            score[b] += best[n]
            if best[n] > NONE:
                _trace(before, first, last, n, path[b])
            first = last
        emitted[b], held[b] = first, last - first
        new_before[b, : last - first] = before[first:last]


@inner
def _agree(delta, ancestor, S):
    """Whether all paths that are alive share the oldest held state; also where none is alive."""
    shared = -1
    for n in range(S):
        if delta[n] > NONE:
            if shared >= 0 and ancestor[n] != shared:
                return False
            shared = ancestor[n]
    return True


@inner
def _commit(delta, before, first, last, marks, path, S):
    """Writes what all living paths share, and returns the first row that they do not."""
    alive, earlier = marks[0], marks[1]
    count = 0
    for n in range(S):
        alive[n] = delta[n] > NONE
        count += alive[n]
    if count == 0:
        return last
    r = last - 1
    while count > 1:
        count = 0
        for n in range(S):
            earlier[n] = False
        for n in range(S):
            if alive[n]:
                count += not earlier[before[r, n]]
                earlier[before[r, n]] = True
        alive, earlier = earlier, alive
        r -= 1
    for n in range(S):
        if alive[n]:
            _trace(before, first, r + 1, n, path)
    return r + 1


@inner
def _restart(ancestor, root, before, first, last, S):
    """The ancestors at the row that is now the oldest."""
    for n in range(S):
        ancestor[n] = n
    for r in range(first + 1, last):
        for n in range(S):
            root[n] = ancestor[before[r, n]]
        recursion.copy(root, ancestor)


@inner
def _trace(before, first, last, n, path):
    for r in range(last - 1, first - 1, -1):
        path[r] = n
        n = np.int64(before[r, n])
