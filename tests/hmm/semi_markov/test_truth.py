"""Against enumeration of every segmentation, on every backend; and against the plain chain."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hmmtts.hmm import (
    Dense,
    LeftToRight,
    SemiMarkovDense,
    SemiMarkovLeftToRight,
    expected_counts,
    log_likelihood,
    posteriors,
    viterbi,
)
from tests.examples import examples
from tests.hmm.semi_markov.segmentations import enumerate_segmentations

FRAMES, STATES = torch.tensor([6, 5, 6]), torch.tensor([3, 3, 2])
KINDS = ["left_to_right", "limits", "dense", "dense_final", "dense_sparse", "dense_high"]


def problem(kind: str, seed: int, spread: float = 3.0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    b, t, n, d = 3, 6, 3, 4

    def draw(*shape):
        return (spread * torch.randn(*shape, generator=g)).to(dtype)

    log_obs = draw(b, t, n)
    if kind in ("left_to_right", "limits"):
        durations = draw(b, n, d)
        if kind == "limits":
            durations[:, 1, 0] = durations[:, 0, 3] = durations[:, 0, 1] = -math.inf
            log_obs[torch.rand(b, t, n, generator=g) < 0.1] = -math.inf
        return log_obs, SemiMarkovLeftToRight(durations)
    transition = draw(n, n).fill_diagonal_(-math.inf)
    topology = SemiMarkovDense(draw(n), transition, draw(n, d), draw(n) if kind == "dense_final" else None)
    if kind == "dense_sparse":
        topology.transition[0, 1] = topology.transition[2, 0] = -math.inf
        topology.durations[1, :2] = -math.inf
        log_obs[torch.rand(b, t, n, generator=g) < 0.1] = -math.inf
    if kind == "dense_high":
        topology.transition.add_(20.0)
    return log_obs, topology


def check(log_obs, topology, frames, states, tolerance):
    log_z = log_likelihood(log_obs, topology, frames, states)
    posterior = posteriors(log_obs, topology, frames, states)
    counts = expected_counts(log_obs, topology, frames, states)
    path, score = viterbi(log_obs, topology, frames, states)
    assert log_z.dtype == torch.float64
    for b in range(len(frames)):
        t, n = int(frames[b]), int(states[b])
        truth = enumerate_segmentations(log_obs, topology, b, t, n)
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
            torch.testing.assert_close(got, expected, atol=2 * tolerance, rtol=0)
        assert float(score[b]) == pytest.approx(truth.best_score, rel=1e-6, abs=1e-5)
        if truth.best_score - truth.second > 1e-3:
            assert path[b].tolist() == truth.best + [-1] * (log_obs.shape[1] - t)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_enumeration(backend, kind, dtype):
    for seed in range(2):
        log_obs, topology = problem(kind, seed, dtype=dtype)
        check(log_obs, topology, FRAMES, STATES, 1e-5 if dtype == torch.float32 else 1e-10)


@examples(30)
@given(data=st.data())
@pytest.mark.parametrize("kind", ["left_to_right", "dense"])
def test_equals_enumeration_on_extreme_scores(kind, data):
    """Scores up to 1e4, far beyond (1e9), and impossible cells anywhere, arcs included."""
    t, n, d = (data.draw(st.integers(1, top)) for top in (7 if kind == "left_to_right" else 5, 3, 4))
    wild = st.sampled_from([-math.inf, -1e9])
    score = st.one_of(st.floats(-1e4, 1e4, width=32), st.integers(-2, 2).map(float), wild)

    def draw(*shape):
        size = math.prod(shape)
        values = data.draw(st.lists(score, min_size=size, max_size=size))
        return torch.tensor(values, dtype=torch.float64).reshape(shape)

    log_obs = draw(1, t, n)
    if kind == "dense":
        topology = SemiMarkovDense(draw(n), draw(n, n).fill_diagonal_(-math.inf), draw(n, d))
    else:
        topology = SemiMarkovLeftToRight(draw(1, n, d))
    frames, states = torch.tensor([t]), torch.tensor([n])
    if not bool(topology.feasible(frames, states)):
        with pytest.raises(ValueError, match="utterance 0 has"):
            log_likelihood(log_obs, topology, frames, states)
        return
    truth = enumerate_segmentations(log_obs, topology, 0, t, n)
    log_z = float(log_likelihood(log_obs, topology, frames, states))
    best = viterbi(log_obs, topology, frames, states)
    posterior = posteriors(log_obs, topology, frames, states)[0]
    if truth.log_likelihood == -math.inf:
        assert log_z == -math.inf == float(best.score)
        assert (posterior == 0).all()
        return
    assert log_z == pytest.approx(truth.log_likelihood, rel=1e-12, abs=1e-9)
    assert float(best.score) == pytest.approx(truth.best_score, rel=1e-12, abs=1e-9)
    if log_z > -1e8:  # sums of 1e9 have lost the digits that the others differ in
        torch.testing.assert_close(posterior, truth.posterior, atol=1e-7, rtol=0)


def test_feasible_is_what_has_a_path():
    """Every number of frames, for models whose arcs and durations forbid much."""
    forbidden = -math.inf
    for seed in range(6):
        g = torch.Generator().manual_seed(seed)
        n, d, t = 3, 3, 6
        durations = torch.where(torch.rand(n, d, generator=g) < 0.4, forbidden, 0.0)
        transition = torch.where(torch.rand(n, n, generator=g) < 0.6, forbidden, 0.0).fill_diagonal_(
            forbidden
        )
        ends = torch.where(torch.rand(2, n, generator=g) < 0.4, forbidden, 0.0)
        for topology in (
            SemiMarkovDense(ends[0], transition, durations, ends[1]),
            SemiMarkovLeftToRight(durations.expand(t, -1, -1)),
        ):
            frames, states = torch.arange(1, t + 1), torch.full((t,), n)
            zeros = torch.zeros(t, t, n)
            possible = torch.tensor([
                enumerate_segmentations(zeros, topology, b, b + 1, n).log_likelihood > forbidden for b in range(t)
            ])  # fmt: skip
            fits = topology.feasible(frames, states)
            # Between the shortest and the longest path there may be gaps: no path of weight, and no error.
            first_to_last = possible.cummax(0).values & possible.flip(0).cummax(0).values.flip(0)
            inside = (
                torch.arange(t) <= possible.nonzero().max()
                if possible.any()
                else torch.zeros(t, dtype=torch.bool)
            )
            assert torch.equal(fits & inside, first_to_last)
            if bool(fits.any()):
                arcs = (
                    topology._replace(durations=topology.durations[fits]) if len(topology) == 1 else topology
                )
                log_z = log_likelihood(zeros[fits], arcs, frames[fits], states[fits])
                assert torch.equal(torch.isfinite(log_z), possible[fits])


def geometric(stay, longest):
    d = torch.arange(longest)
    return stay[..., None].log() * d + torch.log1p(-stay)[..., None]


def test_geometric_durations_are_the_plain_chain(backend):
    g = torch.Generator().manual_seed(0)
    b, t, n = 2, 12, 4
    log_obs, frames = torch.randn(b, t, n, generator=g).double(), torch.tensor([12, 9])
    stay = torch.rand(n, generator=g).double() * 0.8 + 0.1
    chain = LeftToRight(stay.log().expand(b, n), torch.log1p(-stay).expand(b, n))
    explicit = SemiMarkovLeftToRight(geometric(stay, t).expand(b, n, t))
    for question in (log_likelihood, posteriors):
        torch.testing.assert_close(question(log_obs, explicit, frames), question(log_obs, chain, frames))
    plain, segments = viterbi(log_obs, chain, frames), viterbi(log_obs, explicit, frames)
    assert torch.equal(plain.path, segments.path)
    torch.testing.assert_close(plain.score, segments.score)
    # A dense chain may end inside a segment; the last factor 1 - stay is what ours ends with.
    onward = torch.rand(n, n, generator=g).double().fill_diagonal_(0)
    onward = onward / onward.sum(1, keepdim=True)
    initial = torch.rand(n, generator=g).double().log_softmax(0)
    leave = 1 - stay
    chain = Dense(initial, (torch.diag(stay) + leave[:, None] * onward).log(), leave.log())
    explicit = SemiMarkovDense(initial, onward.log(), geometric(stay, t))
    for question in (log_likelihood, posteriors):
        torch.testing.assert_close(question(log_obs, explicit, frames), question(log_obs, chain, frames))
    lasted = expected_counts(log_obs, explicit, frames).durations
    frames_of = (lasted * torch.arange(1, t + 1)).sum(-1)
    torch.testing.assert_close(frames_of, posteriors(log_obs, chain, frames).sum(1))


def test_a_tie_takes_the_lower_state_and_the_shorter_segment_from_the_last_back(backend):
    log_obs, six = torch.zeros(1, 6, 3), torch.tensor([6])
    assert viterbi(log_obs, SemiMarkovLeftToRight(torch.zeros(1, 3, 6)), six).path.tolist() == [
        [0, 0, 0, 0, 1, 2]
    ]
    onward = torch.zeros(3, 3).fill_diagonal_(-math.inf)
    dense = SemiMarkovDense(torch.zeros(3), onward, torch.zeros(3, 6))
    assert viterbi(log_obs, dense, six).path.tolist() == [[1, 0, 1, 0, 1, 0]]
