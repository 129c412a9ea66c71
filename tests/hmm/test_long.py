"""Long sequences piece by piece: the same as in one go, for any size of a piece, and in bounded memory."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hmmtts.hmm import expected_counts, log_likelihood, long, posteriors, viterbi
from tests.examples import examples
from tests.hmm.paths import enumerate_paths
from tests.hmm.test_streaming import KINDS, problem


def whole(pieces) -> torch.Tensor:
    """Pieces come last first, and tile the utterance."""
    pieces = list(pieces)
    ends = [piece.first + len(piece.posterior) for piece in pieces]
    assert ends[1:] == [piece.first for piece in pieces[:-1]]
    assert pieces[-1].first == 0
    return torch.cat([piece.posterior for piece in reversed(pieces)])


@pytest.mark.parametrize("kind", KINDS)
def test_equals_enumeration(kind):
    for seed, piece in ((0, 1), (1, 2), (2, 9)):
        log_obs, topology = problem(kind, seed, 1, 5, 3)
        truth = enumerate_paths(log_obs, topology, 0, 5, 3)
        assert long.log_likelihood(log_obs[0], topology, piece=piece) == pytest.approx(truth.log_likelihood)
        found = []
        counted = long.expected_counts(log_obs[0], topology, piece=piece, visit=found.append)
        assert counted.log_likelihood == pytest.approx(truth.log_likelihood)
        torch.testing.assert_close(whole(found), truth.posterior, atol=1e-10, rtol=0)
        for name, expected in truth.counts.items():
            expected = expected.sum(0) if kind.startswith("static") else expected
            torch.testing.assert_close(getattr(counted.counts, name)[0], expected, atol=1e-10, rtol=0)
        path, score = long.viterbi(log_obs[0], topology, piece=piece)
        assert path[0].tolist() == truth.best
        assert float(score) == pytest.approx(truth.best_score)


@pytest.mark.parametrize("kind", ["static_skip", "dense_final", "dense_sparse"])
@pytest.mark.parametrize("spread", [1.0, 300.0])
def test_equals_offline(kind, spread):
    """Scores of 300 nats underflow any scaling: what is lost must be done in logarithms."""
    log_obs, topology = problem(kind, 3, 1, 400, 12, spread)
    frames = torch.tensor([400])
    found = []
    counted = long.expected_counts(log_obs[0], topology, piece=37, visit=found.append)
    assert counted.log_likelihood == pytest.approx(
        float(log_likelihood(log_obs, topology, frames)), rel=1e-12
    )
    torch.testing.assert_close(whole(found), posteriors(log_obs, topology, frames)[0], atol=1e-9, rtol=0)
    for mine, theirs in zip(counted.counts, expected_counts(log_obs, topology, frames), strict=True):
        if theirs is not None:
            torch.testing.assert_close(mine, theirs, atol=1e-8, rtol=1e-8)
    best, offline = long.viterbi(log_obs[0], topology, piece=37), viterbi(log_obs, topology, frames)
    assert torch.equal(best.path, offline.path)
    assert float(best.score) == pytest.approx(float(offline.score), rel=1e-12)


@examples(10)
@given(data=st.data())
@pytest.mark.parametrize("kind", ["static_skip", "dense_sparse"])
def test_the_size_of_a_piece_changes_no_bit(kind, data):
    t, n = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 6))
    spread = data.draw(st.sampled_from([1.0, 50.0, 3000.0]))
    log_obs, topology = problem(kind, data.draw(st.integers(0, 10**6)), 1, t, n, spread)
    found, again = [], []
    one = long.expected_counts(log_obs[0], topology, piece=t, visit=found.append)
    many = long.expected_counts(
        lambda first, last: log_obs[0, first:last], topology, t, data.draw(st.integers(1, 9)), again.append
    )
    assert torch.equal(whole(found), whole(again))
    for x, y in zip(one.counts, many.counts, strict=True):
        assert x is y or torch.equal(x, y)
    paths = [long.viterbi(log_obs[0], topology, piece=piece) for piece in (t, 3)]
    assert torch.equal(paths[0].path, paths[1].path)


def test_an_impossible_utterance_is_so_everywhere():
    log_obs, topology = problem("dense", 0, 1, 20, 3)
    log_obs[0, 7] = -math.inf
    counted = long.expected_counts(log_obs[0], topology, piece=4)
    assert counted.log_likelihood == -math.inf
    assert all((count == 0).all() for count in counted.counts if count is not None)
    assert (whole(long.posteriors(log_obs[0], topology, piece=4)) == 0).all()
    path, score = long.viterbi(log_obs[0], topology, piece=4)
    assert (path == -1).all()
    assert float(score) == -math.inf


def test_an_hour_needs_no_more_memory_than_its_pieces():
    """Emissions are asked for a piece at a time, each at most twice, and never kept."""
    asked = []
    table = problem("dense", 0, 1, 50, 4)[0][0]

    def emissions(first: int, last: int) -> torch.Tensor:
        asked.append((first, last))
        return table[torch.arange(first, last) % 50]

    _, topology = problem("dense", 1, 1, 1, 4)
    total = torch.zeros(4, dtype=torch.float64)
    for piece in long.posteriors(emissions, topology, 36_000, piece=600):
        assert len(piece.posterior) == 600
        total += piece.posterior.sum(0)
    assert float(total.sum()) == pytest.approx(36_000, rel=1e-9)
    assert len(asked) == 120
    assert max(last - first for first, last in asked) == 600


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, m: long.log_likelihood(lambda a, b: x[a:b], m), "frames must be given where emissions are a function"),
        (lambda x, m: long.log_likelihood(x, m, 99), "frames must be at most 20, the length of emissions, got 99"),
        (lambda x, m: long.log_likelihood(x, m, piece=0), "piece must be at least 1 frame, got 0"),
        (lambda x, m: long.log_likelihood(lambda a, b: x[:1], m, 20), r"must have the shape \[20, 3\], got \[1, 3\]"),
        (lambda x, m: long.viterbi(x.index_fill(0, torch.tensor(17), math.nan), m, piece=5), "nan in frame 17, state 0"),
    ],
)  # fmt: skip
def test_errors(call, message):
    log_obs, topology = problem("dense", 0, 1, 20, 3)
    with pytest.raises(ValueError, match=message):
        call(log_obs[0], topology)
