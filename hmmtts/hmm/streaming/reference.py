"""Plain torch, one stream after another, written to be read: the oracle for the compiled kernels.

Filter and smoother are Rabiner (1989), equations 20 and 25, in logarithms.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.hmm.streaming.contract import (
    NEVER,
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
from hmmtts.hmm.topology import LeftToRight


def arcs_of(model: Model, stream: int) -> Float[Tensor, "n n"]:
    """From row to column, whatever the topology."""
    if not isinstance(model.arcs, LeftToRight):
        return model.arcs.transition
    n = model.start.shape[1]
    arcs = torch.full_like(model.start[0], NEVER).repeat(n, 1)
    for distance, arc in enumerate(model.arcs):
        if arc is not None and distance < n:
            arcs.diagonal(distance).copy_(arc[stream, : n - distance])
    return arcs


def filter(model: Model, state: Filter, chunk: Chunk) -> tuple[Filter, Filtered]:
    check(model, state.frames, chunk)
    state, rows = _forward(model, state, chunk)
    return state, Filtered(rows.exp(), state.log_likelihood)


def _forward(model: Model, state: Filter, chunk: Chunk) -> tuple[Filter, Float[Tensor, "b c n"]]:
    """The rows log p(state | frames up to this one)."""
    rows = torch.full_like(chunk.log_obs, NEVER)
    log_alpha, log_z = state.log_alpha.clone(), state.log_likelihood.clone()
    for b in range(model.streams):
        arcs, emissions = arcs_of(model, b), _emissions(model, chunk, b)
        for t in range(int(chunk.frames[b])):
            if int(state.frames[b]) + t > 0:
                log_alpha[b] = torch.logsumexp(log_alpha[b][:, None] + arcs, 0)
            log_alpha[b] += emissions[t]
            total = torch.logsumexp(log_alpha[b], 0)
            log_alpha[b] = torch.where(total > NEVER, log_alpha[b] - total, NEVER)
            log_z[b] += total
            rows[b, t] = log_alpha[b]
        if chunk.ending[b]:
            log_z[b] += torch.logsumexp(log_alpha[b] + model.end[b], 0)
    heard = Filter(state.frames + chunk.frames, state.ended | chunk.ending, log_alpha, log_z)
    return heard, rows


def _emissions(model: Model, chunk: Chunk, b: int) -> Float[Tensor, "c n"]:
    n = torch.arange(chunk.log_obs.shape[2], device=chunk.log_obs.device)
    return torch.where(n < model.states[b], chunk.log_obs[b], NEVER)


def smooth(model: Model, state: Smoother, chunk: Chunk) -> tuple[Smoother, Smoothed]:
    check(model, state.filter.frames, chunk)
    heard, rows = _forward(model, state.filter, chunk)
    kept_alpha, kept_obs, given = [], [], []
    for b in range(model.streams):
        held, frames = int(state.held[b]), int(chunk.frames[b])
        alpha = torch.cat([state.log_alpha[b, :held], rows[b, :frames]])
        log_obs = torch.cat([state.log_obs[b, :held], _emissions(model, chunk, b)[:frames]])
        arcs, out, first = arcs_of(model, b), [], 0
        for t in range(held - 1, held + frames):
            while t - first >= state.lag:
                seen = slice(first, t + 1)
                none = torch.zeros_like(model.end[b])
                out.append(smoothed(alpha[seen], log_obs[seen], arcs, none)[:1])
                first += 1
        if chunk.ending[b] and first < len(alpha):
            out.append(smoothed(alpha[first:], log_obs[first:], arcs, model.end[b]))
            first = len(alpha)
        given.append(torch.cat(out) if out else alpha[:0])
        kept_alpha.append(alpha[first:])
        kept_obs.append(log_obs[first:])
    left = torch.tensor([len(rows) for rows in kept_alpha])
    emitted = torch.tensor([len(rows) for rows in given])
    likely = [(rows - rows.max(1, keepdim=True).values).nan_to_num(NEVER).exp() for rows in kept_obs]
    state = Smoother(
        heard, state.lag, left, _padded(kept_alpha, 0.0), _padded(kept_obs, 0.0), _padded(likely, 0.0)
    )
    begin = heard.frames - left - emitted
    return state, Smoothed(_padded(given, 0.0), begin, emitted, heard.log_likelihood)


def smoothed(
    log_alpha: Float[Tensor, "h n"],
    log_obs: Float[Tensor, "h n"],
    arcs: Float[Tensor, "n n"],
    log_beta: Float[Tensor, "n"],
) -> Float[Tensor, "h n"]:
    """Posteriors of these frames, `log_beta` being what follows the last."""
    posterior = torch.empty_like(log_alpha)
    for t in range(len(log_alpha) - 1, -1, -1):
        both = log_alpha[t] + log_beta
        total = torch.logsumexp(both, 0)
        posterior[t] = torch.where(total > NEVER, both - total, NEVER).exp()
        log_beta = torch.logsumexp(arcs + (log_obs[t] + log_beta), 1)
    return posterior


def decode(model: Model, state: Decoder, chunk: Chunk) -> tuple[Decoder, Decoded]:
    check(model, state.frames, chunk)
    log_delta, score, forced = state.log_delta.clone(), state.score.clone(), state.forced.clone()
    oldest, kept, given = state.oldest.clone(), [], []
    for b in range(model.streams):
        arcs, emissions = arcs_of(model, b), _emissions(model, chunk, b)
        before, path = list(state.before[b, : state.held[b]].long()), []
        for t in range(-1, int(chunk.frames[b])):
            if t >= 0:
                log_delta[b], top, pointer = _extended(
                    log_delta[b], arcs, emissions[t], int(state.frames[b]) + t > 0
                )
                score[b] += top
                before.append(pointer)
            while before:
                settled = _settled(before, log_delta[b])
                if not settled and len(before) <= state.lag:
                    break
                if not settled:
                    ends = _traced(before, torch.arange(len(arcs), device=arcs.device))[0]
                    decided = ends[log_delta[b].argmax()]
                    log_delta[b] = torch.where(ends == decided, log_delta[b], NEVER)
                    forced[b] += 1
                path += settled
                before = before[len(settled) :]
        if chunk.ending[b]:
            best = log_delta[b] + model.end[b]
            score[b] += best.max()
            alive = bool(best.max() > NEVER)
            path += [int(s) if alive else -1 for s in _traced(before, best.argmax()[None])]
            before = []
        kept.append(torch.stack(before) if before else state.before[b, :0].long())
        if before:
            every = torch.arange(len(arcs), device=arcs.device)
            oldest[b] = _traced(before, every)[0].to(oldest.dtype)
        given.append(torch.tensor(path, dtype=torch.long))
    held, emitted = (torch.tensor([len(rows) for rows in all]) for all in (kept, given))
    frames = state.frames + chunk.frames
    decoder = Decoder(
        frames, state.ended | chunk.ending, state.lag, log_delta, score, forced, held,
        _padded(kept, 0).to(torch.int16), oldest,
    )  # fmt: skip
    return decoder, Decoded(_padded(given, -1), frames - held - emitted, emitted, score, forced)


class Extended(NamedTuple):
    log_delta: Float[Tensor, "n"]
    top: Float[Tensor, ""]  # taken out of it
    before: Int[Tensor, "n"]


def _extended(
    log_delta: Float[Tensor, "n"], arcs: Float[Tensor, "n n"], emission: Float[Tensor, "n"], begun: bool
) -> Extended:
    """The best paths one frame on."""
    pointer = torch.arange(len(arcs), device=arcs.device)
    if begun:
        log_delta, pointer = (log_delta[:, None] + arcs).max(0)
    best = log_delta + emission
    top = best.max()
    return Extended(torch.where(top > NEVER, best - top, NEVER), top, pointer)


def _traced(before: list[Int[Tensor, "n"]], ends: Int[Tensor, "e"]) -> list[Int[Tensor, "e"]]:
    """The states at every held frame on the best paths into these."""
    states = []
    for pointer in reversed(before):
        states.append(ends)
        ends = pointer[ends]
    return states[::-1]


def _settled(before: list[Int[Tensor, "n"]], log_delta: Float[Tensor, "n"]) -> list[int]:
    """The states that all paths share that are still alive; -1 where none is."""
    alive = (log_delta > NEVER).nonzero()[:, 0]
    if not len(alive):
        return [-1] * len(before)
    path: list[int] = []
    for states in _traced(before, alive):
        if bool((states != states[0]).any()):
            break
        path.append(int(states[0]))
    return path


def _padded(rows: list[Tensor], value: float) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)
