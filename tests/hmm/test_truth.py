"""Against enumeration of every path, for every kind of arc, on every backend."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hmmtts.hmm import Dense, LeftToRight, expected_counts, log_likelihood, posteriors, viterbi
from tests.examples import examples
from tests.hmm.paths import enumerate_paths

B, T, N = 4, 5, 3
FRAMES = torch.tensor([5, 4, 5, 3])
STATES = torch.tensor([3, 3, 2, 3])
KINDS = [
    "static",
    "static_skip",
    "per_frame",
    "per_frame_skip",
    "forbidden_stay",
    "dense",
    "dense_final",
    "dense_sparse",
]


def problem(kind: str, seed: int, spread: float = 3.0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return (spread * torch.randn(*shape, generator=g)).to(dtype)

    log_obs = draw(B, T, N)
    if kind.startswith("dense"):
        topology = Dense(draw(N), draw(N, N), draw(N) if kind == "dense_final" else None)
        if kind == "dense_sparse":
            topology.transition[torch.rand(N, N, generator=g) < 0.4] = -math.inf
            topology.initial[1:] = -math.inf
        return log_obs, topology
    shape = (B, T, N) if kind.startswith("per_frame") else (B, N)
    topology = LeftToRight(draw(*shape), draw(*shape), draw(*shape) if kind.endswith("skip") else None)
    if kind == "forbidden_stay":
        topology.stay[:, 1] = -math.inf
    return log_obs, topology


def check(log_obs, topology, frames, states, dtype):
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    log_z = log_likelihood(log_obs, topology, frames, states)
    posterior = posteriors(log_obs, topology, frames, states)
    counts = expected_counts(log_obs, topology, frames, states)
    path, score = viterbi(log_obs, topology, frames, states)
    assert log_z.dtype == torch.float64
    for b in range(len(frames)):
        t, n = int(frames[b]), int(states[b])
        truth = enumerate_paths(log_obs, topology, b, t, n)
        if truth.log_likelihood == -math.inf:
            assert float(log_z[b]) == float(score[b]) == -math.inf
            assert (posterior[b] == 0).all()
            assert (path[b] == -1).all()
            continue
        assert float(log_z[b]) == pytest.approx(truth.log_likelihood, rel=tolerance / 10, abs=tolerance)
        torch.testing.assert_close(posterior[b, :t].double(), truth.posterior, atol=tolerance, rtol=0)
        assert (posterior[b, t:] == 0).all()
        for name, expected in truth.counts.items():
            got = getattr(counts, name)[b].double()
            if isinstance(topology, LeftToRight):
                got = got[:t] if got.ndim == 2 else got
                expected = expected if got.ndim == 2 else expected.sum(0)
            torch.testing.assert_close(got, expected, atol=2 * tolerance, rtol=0)
        assert float(score[b]) == pytest.approx(truth.best_score, rel=1e-6, abs=1e-5)
        assert path[b].tolist() == truth.best + [-1] * (log_obs.shape[1] - t)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_enumeration(backend, kind, dtype):
    for seed in range(4):
        log_obs, topology = problem(kind, seed, dtype=dtype)
        check(log_obs, topology, FRAMES, STATES, dtype)


@examples(60)
@given(data=st.data())
@pytest.mark.parametrize("kind", ["static", "static_skip", "per_frame", "dense"])
def test_equals_enumeration_on_extreme_scores(kind, data):
    """Scores up to 1e4 and impossible cells anywhere, arcs included."""
    t, n = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    n = min(n, t)
    score = st.one_of(st.floats(-1e4, 1e4, width=32), st.just(-math.inf), st.integers(-2, 2).map(float))

    def draw(*shape):
        size = math.prod(shape)
        return torch.tensor(
            data.draw(st.lists(score, min_size=size, max_size=size)), dtype=torch.float32
        ).reshape(shape)

    log_obs = draw(1, t, n)
    if kind == "dense":
        topology = Dense(draw(n), draw(n, n), None)
    else:
        shape = (1, t, n) if kind == "per_frame" else (1, n)
        # A skip that is sometimes forbidden would make T < N a question of its own (test_robust.py).
        topology = LeftToRight(draw(*shape), draw(*shape), draw(*shape) if kind == "static_skip" else None)
    frames, states = torch.tensor([t]), torch.tensor([n])
    truth = enumerate_paths(log_obs, topology, 0, t, n)
    log_z = float(log_likelihood(log_obs, topology, frames, states))
    best, score_of_best = viterbi(log_obs, topology, frames, states)
    if truth.log_likelihood == -math.inf:
        assert log_z == -math.inf == float(score_of_best)
        assert (posteriors(log_obs, topology, frames, states) == 0).all()
        return
    # float32 scores of 1e4 are known to 5e-4: of two that near, either path may be called the best.
    assert log_z == pytest.approx(truth.log_likelihood, rel=1e-8, abs=1e-5)
    assert float(score_of_best) == pytest.approx(truth.best_score, rel=1e-6, abs=1e-2)
    posterior = posteriors(log_obs, topology, frames, states)[0].double()
    torch.testing.assert_close(posterior, truth.posterior, atol=1e-5, rtol=0)
    assert (best >= 0).all()


def test_a_tie_takes_the_lower_state(backend):
    """All scores equal: of the best paths the one that stays low as long as it can."""
    log_obs, zero = torch.zeros(1, 6, 3), torch.zeros(1, 3)
    path = viterbi(log_obs, LeftToRight(zero, zero), torch.tensor([6])).path
    assert path.tolist() == [[0, 0, 0, 0, 1, 2]]
    path = viterbi(log_obs, LeftToRight(zero, zero, zero), torch.tensor([6])).path
    assert path.tolist() == [[0, 0, 0, 0, 0, 2]]
    path = viterbi(log_obs, Dense(torch.zeros(3), torch.zeros(3, 3)), torch.tensor([6])).path
    assert path.tolist() == [[0] * 6]
