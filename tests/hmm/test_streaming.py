"""Streams against enumeration, against the offline answers, and against themselves under another chunking."""

import itertools
import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hmmtts.hmm import Dense, LeftToRight, log_likelihood, posteriors, streaming, viterbi
from tests.examples import examples
from tests.hmm.paths import enumerate_paths

B, T, N = 3, 4, 3
FRAMES, STATES = torch.tensor([4, 2, 3]), torch.tensor([3, 2, 3])
KINDS = ["static", "static_skip", "dense", "dense_final", "dense_sparse"]


def problem(kind: str, seed: int, b: int = B, t: int = T, n: int = N, spread: float = 3.0):
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return spread * torch.randn(*shape, generator=g, dtype=torch.float64)

    log_obs = draw(b, t, n)
    if kind.startswith("dense"):
        topology = Dense(draw(n), draw(n, n), draw(n) if kind == "dense_final" else None)
        if kind == "dense_sparse":
            topology.transition[torch.rand(n, n, generator=g) < 0.3] = -math.inf
        return log_obs, topology
    return log_obs, LeftToRight(draw(b, n), draw(b, n), draw(b, n) if kind == "static_skip" else None)


class Told(NamedTuple):
    """All that a stream has given out, one entry a stream."""

    filtered: list[Tensor]
    smoothed: list[Tensor]
    path: list[list[int]]
    log_likelihood: Tensor
    score: Tensor
    forced: Tensor


def told(log_obs, topology, frames, states, cuts: list[int], lag: int) -> Told:
    """Fed in chunks of these sizes; a stream ends in the chunk of its last frame. Padding is NaN."""
    model = streaming.prepare(topology, len(frames), states)
    seen = streaming.filter_start(model)
    smoother, decoder = streaming.smoother_start(model, lag), streaming.viterbi_start(model, lag)
    filtered, smoothed, path = ([[] for _ in frames] for _ in range(3))
    at = 0
    for size in [*cuts, 0]:
        chunk = log_obs[:, at : at + size].clone()
        real = (frames - at).clamp(0, chunk.shape[1])
        ended = (frames <= at + size) if at + size >= 1 else torch.zeros(len(frames), dtype=torch.bool)
        for b in range(len(frames)):
            chunk[b, real[b] :] = math.nan
            chunk[b, :, states[b] :] = math.nan
        seen, f = streaming.filter_step(model, seen, chunk, real, ended)
        smoother, s = streaming.smoother_step(model, smoother, chunk, real, ended)
        decoder, v = streaming.viterbi_step(model, decoder, chunk, real, ended)
        for b in range(len(frames)):
            filtered[b].append(f.posterior[b, : real[b]])
            assert int(s.first[b]) == sum(map(len, smoothed[b]))
            smoothed[b].append(s.posterior[b, : s.frames[b]])
            assert int(v.first[b]) == sum(map(len, path[b]))
            path[b].append(v.path[b, : v.frames[b]].tolist())
        at += size
    assert torch.equal(f.log_likelihood, s.log_likelihood)
    return Told(
        [torch.cat(x) for x in filtered],
        [torch.cat(x) for x in smoothed],
        [[*itertools.chain(*x)] for x in path],
        f.log_likelihood,
        v.score,
        v.forced,
    )


def without_end(topology, n: int):
    """The same model, of which a path may end anywhere."""
    if isinstance(topology, Dense):
        return topology._replace(final=None)
    arcs = torch.full((n, n), -math.inf, dtype=torch.float64)
    for distance, arc in enumerate(topology):
        if arc is not None:
            arcs.diagonal(distance).copy_(arc[0, : n - distance])
    start = torch.full((n,), -math.inf, dtype=torch.float64)
    start[0] = 0.0
    return Dense(start, arcs)


def one(topology, b: int):
    if isinstance(topology, Dense):
        return topology
    return LeftToRight(*(None if arc is None else arc[b : b + 1] for arc in topology))


@pytest.mark.parametrize("kind", KINDS)
def test_equals_enumeration(backend, kind):
    """Every path, up to each frame (filter), up to the lag beyond it (smoother), and to the end."""
    for seed, lag in ((0, 0), (1, 1), (2, 9)):
        log_obs, topology = problem(kind, seed)
        got = told(log_obs, topology, FRAMES, STATES, [2, 0, 1, 1], lag)
        for b, (frames, states) in enumerate(zip(FRAMES.tolist(), STATES.tolist(), strict=True)):
            open_end = without_end(one(topology, b), N)
            for t in range(frames):
                now = enumerate_paths(log_obs[b : b + 1], open_end, 0, t + 1, states)
                torch.testing.assert_close(got.filtered[b][t], now.posterior[t], atol=1e-10, rtol=0)
                last = t + lag + 1
                later = (
                    enumerate_paths(log_obs, topology, b, frames, states)
                    if last > frames
                    else enumerate_paths(log_obs[b : b + 1], open_end, 0, last, states)
                )
                torch.testing.assert_close(got.smoothed[b][t], later.posterior[t], atol=1e-10, rtol=0)
            truth = enumerate_paths(log_obs, topology, b, frames, states)
            assert float(got.log_likelihood[b]) == pytest.approx(truth.log_likelihood, abs=1e-9)
            if lag == 9:
                assert float(got.score[b]) == pytest.approx(truth.best_score, abs=1e-9)
                assert got.path[b] == truth.best
                assert got.forced[b] == 0


@examples(15)
@given(data=st.data())
@pytest.mark.parametrize("kind", ["static_skip", "dense_sparse"])
def test_the_chunking_changes_no_bit(kind, data):
    seed, lag = data.draw(st.integers(0, 10**6)), data.draw(st.integers(0, 8))
    b, t, n = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 14)), data.draw(st.integers(1, 6))
    log_obs, topology = problem(kind, seed, b, t, n, data.draw(st.sampled_from([1.0, 30.0, 2000.0])))
    frames = torch.tensor(data.draw(st.lists(st.integers(1, t), min_size=b, max_size=b)))
    states = torch.tensor(data.draw(st.lists(st.integers(1, n), min_size=b, max_size=b)))
    whole = told(log_obs, topology, frames, states, [t], lag)
    cuts = data.draw(st.lists(st.integers(0, 4), max_size=20))
    pieces = told(log_obs, topology, frames, states, [*cuts, max(0, t - sum(cuts))], lag)
    for mine, other in zip(whole, pieces, strict=True):
        if isinstance(mine, Tensor):
            assert torch.equal(mine, other)
            continue
        for x, y in zip(mine, other, strict=True):
            assert torch.equal(x, y) if isinstance(x, Tensor) else x == y


@pytest.mark.parametrize("kind", KINDS)
def test_equals_offline_and_the_reference(kind, monkeypatch):
    """60 frames and scores far apart: beyond what float64 holds without care."""
    log_obs, topology = problem(kind, 7, 4, 60, 12, spread=40.0)
    frames, states = torch.tensor([60, 41, 33, 60]), torch.tensor([12, 12, 7, 1])
    got = told(log_obs, topology, frames, states, [1] * 60, 60)
    best = viterbi(log_obs, topology, frames, states)
    posterior = posteriors(log_obs, topology, frames, states)
    log_z = log_likelihood(log_obs, topology, frames, states)
    torch.testing.assert_close(got.log_likelihood, log_z, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(got.score, best.score, rtol=1e-12, atol=1e-9)
    for b, t in enumerate(frames.tolist()):
        torch.testing.assert_close(got.smoothed[b], posterior[b, :t], atol=1e-9, rtol=0)
        if best.score[b] > -math.inf:
            assert got.path[b] == best.path[b, :t].tolist()
    for lag in (0, 3):
        fast = told(log_obs, topology, frames, states, [7] * 9, lag)
        with monkeypatch.context() as patch:
            patch.setenv("HMMTTS_BACKEND", "reference")
            plain = told(log_obs, topology, frames, states, [7] * 9, lag)
        assert fast.path == plain.path
        assert torch.equal(fast.forced, plain.forced)
        for x, y in zip(fast.filtered + fast.smoothed, plain.filtered + plain.smoothed, strict=True):
            torch.testing.assert_close(x, y, atol=1e-9, rtol=0)


def test_a_path_decided_by_the_lag_is_a_path(backend):
    """Left-to-right: never backwards, never too fast, and the end is reached, with no lag at all."""
    log_obs, topology = problem("static", 3, 2, 40, 5, spread=1.0)
    log_obs += 4 * torch.nn.functional.one_hot(torch.arange(40) // 8, 5)
    for lag in (0, 2):
        got = told(log_obs, topology, torch.tensor([40, 40]), torch.tensor([5, 5]), [1] * 40, lag)
        for path in got.path:
            assert (path[0], path[-1]) == (0, 4)
            assert all(step in (0, 1) for step in (b - a for a, b in itertools.pairwise(path)))
        assert (got.forced > 0).all()


def test_what_cannot_change_is_given_out_at_once(backend):
    """A state that every path must pass settles all before it, long before the lag."""
    log_obs, topology = problem("dense", 1, 1, 6, 3)
    log_obs[0, 3, 1:] = -math.inf
    model = streaming.prepare(topology)
    state, settled = streaming.viterbi_start(model, 100), []
    for t in range(6):
        state, found = streaming.viterbi_step(model, state, log_obs[:, t : t + 1])
        settled.append(int(found.first[0] + found.frames[0]))
    assert settled[3] == 4
    assert settled[2] < 3 or settled == sorted(settled)
    assert found.forced[0] == 0


def test_a_stream_whose_paths_all_die(backend):
    log_obs, topology = problem("dense", 2, 1, 6, 3)
    log_obs[0, 3] = -math.inf
    got = told(log_obs, topology, torch.tensor([6]), torch.tensor([3]), [1] * 6, 2)
    assert got.path[0][3:] == [-1, -1, -1]
    assert len(got.path[0]) == 6
    assert (got.filtered[0][3:] == 0).all()
    assert float(got.log_likelihood[0]) == float(got.score[0]) == -math.inf


def test_streams_come_and_go(backend):
    """A stream says the same whoever is beside it: joined late, left behind, or alone."""
    log_obs, topology = problem("static", 5, 3, 12, 4)
    states = torch.tensor([4, 3, 4])
    model = streaming.prepare(topology, 3, states)
    state, parts = streaming.viterbi_start(model, 3), [[], [], []]

    def note(found, names):
        for row, name in enumerate(names):
            parts[name] += found.path[row, : found.frames[row]].tolist()

    pair, state = (streaming.take(x, [0, 1]) for x in (model, state))
    state, found = streaming.viterbi_step(pair, state, log_obs[:2, :5])
    note(found, [0, 1])
    late = streaming.take(model, [2])
    state = streaming.join([state, streaming.viterbi_start(late, 3)])
    all_three = streaming.join([pair, late])
    state, found = streaming.viterbi_step(
        all_three, state, torch.stack([log_obs[0, 5:8], log_obs[1, 5:8], log_obs[2, :3]]),
        ended=torch.tensor([False, True, False]),
    )  # fmt: skip
    note(found, [0, 1, 2])
    rest, state = streaming.take(all_three, [2, 0]), streaming.take(state, [2, 0])
    state, found = streaming.viterbi_step(
        rest, state, torch.stack([log_obs[2, 3:7], log_obs[0, 8:]]), ended=torch.tensor([True, True])
    )
    note(found, [2, 0])
    frames = [12, 8, 7]
    for b in range(3):
        alone = told(
            log_obs[b : b + 1], one(topology, b), torch.tensor(frames[b : b + 1]), states[b : b + 1], [12], 3
        )
        assert parts[b] == alone.path[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"log_obs": torch.zeros(3, 2, 9)},
            r"log_obs must be floating point \[3 streams, frames, 3 states\]",
        ),
        ({"frames": torch.tensor([3, 0, 0])}, r"frames must be 3 integers between 0 and 2, got \[3, 0, 0\]"),
        ({"ended": torch.tensor([True])}, "ended must be 3 truth values"),
    ],
)
def test_errors_name_argument_and_rule(change, message):
    _, topology = problem("dense", 0)
    model = streaming.prepare(topology, 3)
    with pytest.raises(ValueError, match=message):
        streaming.filter_step(
            model, streaming.filter_start(model), **{"log_obs": torch.zeros(3, 2, 3), **change}
        )


def test_errors_name_the_stream(backend):
    log_obs, topology = problem("dense", 0)
    model = streaming.prepare(topology, 3)
    start = streaming.filter_start(model)
    state, _ = streaming.filter_step(model, start, log_obs[:, :3], ended=torch.tensor([False, True, False]))
    with pytest.raises(ValueError, match="frames of stream 1 must be 0, got 1: it has ended"):
        streaming.filter_step(model, state, log_obs[:, 3:], torch.tensor([1, 1, 1]))
    log_obs[2, 3, 1] = math.nan
    for step, begin in (
        (streaming.filter_step, state),
        (streaming.smoother_step, None),
        (streaming.viterbi_step, None),
    ):
        first = 3 if begin is not None else 0
        lagged = {
            streaming.smoother_step: streaming.smoother_start,
            streaming.viterbi_step: streaming.viterbi_start,
        }
        begin = begin if begin is not None else lagged[step](model, 2)
        with pytest.raises(ValueError, match="log_obs holds nan in stream 2, frame 3, state 1"):
            step(model, begin, log_obs[:, first:])
    with pytest.raises(ValueError, match="lag must be at least 0 frames, got -1"):
        streaming.viterbi_start(model, -1)
    with pytest.raises(ValueError, match="lag must be the same"):
        streaming.join([streaming.viterbi_start(model, 1), streaming.viterbi_start(model, 2)])
    with pytest.raises(ValueError, match="transition must be the same in every dense model"):
        streaming.join([model, streaming.prepare(problem("dense", 1)[1])])
    with pytest.raises(ValueError, match="at least 1 stream and at most 32767 states, got 0 and 3"):
        streaming.prepare(topology, 0)
    with pytest.raises(ValueError, match="arcs that change with time are not streamed"):
        streaming.prepare(LeftToRight(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)))
    with pytest.raises(ValueError, match="transition holds NaN"):
        streaming.prepare(Dense(torch.zeros(2), torch.full((2, 2), math.nan)))


def test_the_state_that_went_in_is_not_changed(backend):
    log_obs, topology = problem("static_skip", 4)
    model = streaming.prepare(topology, 3)
    for start, step in (
        (streaming.smoother_start(model, 1), streaming.smoother_step),
        (streaming.viterbi_start(model, 1), streaming.viterbi_step),
    ):
        state, _ = step(model, start, log_obs[:, :3])
        first, again = step(model, state, log_obs[:, 3:]), step(model, state, log_obs[:, 3:])
        for x, y in zip(first[1], again[1], strict=True):
            assert torch.equal(x, y)


def test_kernels_are_compiled_once(monkeypatch):
    """Whatever the layout of what comes in: another layout would be another half a minute of compiling."""
    monkeypatch.setenv("HMMTTS_BACKEND", "cpu")
    from hmmtts.hmm.backends.cpu import streaming as kernels

    log_obs, topology = problem("static", 0, 2, 9, 4)
    told(log_obs.mT.contiguous().mT, topology, torch.tensor([9, 5]), torch.tensor([4, 3]), [4, 2, 3], 3)
    for compiled in (kernels._filter_kernel, kernels._smooth_kernel, kernels.online_viterbi.decode):
        assert len(compiled.signatures) == 1


def test_the_lag_may_change_on_the_way(monkeypatch):
    """A shorter one lets out at once what is old enough for it, a longer one waits; on every backend the same."""
    for kind, seed in itertools.product(("static_skip", "dense"), range(3)):
        log_obs, topology = problem(kind, seed, 2, 20, 4, 1.0)
        given = []
        for backend in ("cpu", "reference"):
            monkeypatch.setenv("HMMTTS_BACKEND", backend)
            model = streaming.prepare(topology, 2)
            smoother, decoder = streaming.smoother_start(model, 8), streaming.viterbi_start(model, 8)
            told = []
            for first, last, lag in ((0, 12, 8), (12, 12, 2), (12, 15, 2), (15, 20, 9)):
                smoother, decoder = (streaming.with_lag(state, lag) for state in (smoother, decoder))
                ended = torch.tensor([last == 20] * 2)
                smoother, s = streaming.smoother_step(model, smoother, log_obs[:, first:last], ended=ended)
                decoder, v = streaming.viterbi_step(model, decoder, log_obs[:, first:last], ended=ended)
                told.append((s.frames.tolist(), v.path.tolist(), v.forced.tolist(), s.posterior))
            given.append(told)
        assert [x[0] for x in given[0]] == [[4, 4], [6, 6], [3, 3], [7, 7]]
        for mine, plain in zip(*given, strict=True):
            assert mine[:3] == plain[:3]
            torch.testing.assert_close(mine[3], plain[3], atol=1e-9, rtol=0)


@pytest.mark.parametrize("kind", ["dense", "static_skip"])
def test_a_long_lag_underflows_nowhere(kind):
    """Weights of 200 frames, which no float64 holds as they are."""
    log_obs, topology = problem(kind, 11, 1, 260, 5, spread=9.0)
    model = streaming.prepare(topology)
    _, found = streaming.smoother_step(model, streaming.smoother_start(model, 200), log_obs)
    assert found.frames.tolist() == [60]
    for t in (0, 30, 59):
        heard = log_obs[:, : t + 201]
        whole = posteriors(heard, without_end(topology, 5), torch.tensor([t + 201]), torch.tensor([5]))
        torch.testing.assert_close(found.posterior[0, t], whole[0, t], atol=1e-9, rtol=0)


def test_a_long_lag_overflows_nowhere():
    """Where all is alike, each frame multiplies the weight of the future by the number of states."""
    n = 50
    model = streaming.prepare(Dense(torch.zeros(n), torch.zeros(n, n)))
    _, found = streaming.smoother_step(model, streaming.smoother_start(model, 250), torch.zeros(1, 255, n))
    torch.testing.assert_close(found.posterior, torch.full((1, 5, n), 1 / n))
