"""Topology builders: rows that are distributions, arcs that are impossible, durations that were asked for."""

import itertools
import math

import pytest
import torch

from hmmtts.hmm import Dense, LeftToRight, expected_counts, log_likelihood, semi_markov_dense, viterbi
from hmmtts.hmm.analysis import analyse, as_dense, validate
from hmmtts.hmm.builders import (
    adapted,
    at_least,
    by_durations,
    by_phones,
    constrained,
    hierarchical,
    with_durations,
)

FRAMES = torch.tensor([[1.0, 4.0, 2.5, 10.0], [3.0, 2.0, 1.5, 1.0]], dtype=torch.float64)
STATES = torch.tensor([4, 2])


def visits(dense, steps=500):
    """Expected frames in each state, by following the distribution frame by frame."""
    at, total = dense.initial.exp(), torch.zeros_like(dense.initial)
    for _ in range(steps):
        total = total + at
        at = at @ dense.transition.exp()
    return total


def model(initial, transition, final=None):
    """From probabilities."""
    return Dense(
        *(
            None if x is None else torch.tensor(x, dtype=torch.float64).log()
            for x in (initial, transition, final)
        )
    )


def test_durations_are_those_asked_for():
    topology = by_durations(FRAMES, STATES)
    for b, n in enumerate(STATES.tolist()):
        dense = as_dense(topology, b, n)
        validate(dense)
        torch.testing.assert_close(visits(dense), FRAMES[b, :n])
        torch.testing.assert_close(analyse(dense).durations, FRAMES[b, :n])
        torch.testing.assert_close(analyse(dense).visits, FRAMES[b, :n])
        backwards = torch.tril(torch.ones(n, n, dtype=torch.bool), -1)
        assert (dense.transition[backwards] == -math.inf).all()


def test_a_state_is_left_out_as_often_as_asked():
    leap = torch.tensor([[0.3, 0.5, 0.9, 0.9], [0.9, 0.9, 0.9, 0.9]], dtype=torch.float64)
    topology = by_durations(FRAMES, STATES, leap)
    passed = [1.0, 0.7]  # the probability of a state's being visited
    passed.append(0.3 * passed[0] + 0.5 * passed[1])
    passed.append(0.5 * passed[1] + 1.0 * passed[2])  # the last but one cannot leap over the end
    torch.testing.assert_close(
        visits(as_dense(topology)), FRAMES[0] * torch.tensor(passed, dtype=torch.float64)
    )
    assert passed[3] < 1.0 + 1e-12
    for b, n in enumerate(STATES.tolist()):
        validate(as_dense(topology, b, n))


def test_phones_and_their_pace():
    mean = torch.tensor([8.0, 20.0, 2.0])
    ids, pace = torch.tensor([[0, 1, 2]]), torch.tensor([[1.0, 1.5, 1.0]])
    topology = by_phones(ids, mean, 4, pace)
    validate(topology)
    frames = visits(as_dense(topology).__class__(*(x.double() for x in as_dense(topology)))).view(3, 4).sum(1)
    torch.testing.assert_close(frames, torch.tensor([8.0, 30.0, 4.0], dtype=torch.float64), rtol=1e-5, atol=0)


def test_no_duration_is_below_the_least():
    frames, fewest = torch.tensor([[4.0, 3.0, 5.0]] * 2), torch.tensor([[2, 3, 1]] * 2)
    states = torch.tensor([3, 2])
    chain = at_least(frames, fewest, states)
    assert chain.states.tolist() == [6, 5]
    assert chain.state_of.tolist() == [[0, 0, 1, 1, 1, 2], [0, 0, 1, 1, 1, 0]]
    for b in range(2):
        dense = as_dense(chain.topology, b, int(chain.states[b]))
        validate(dense)
        copies = visits(Dense(*(x.double() for x in dense)))
        owners = torch.zeros(3, dtype=torch.float64).index_add_(
            0, chain.state_of[b, : chain.states[b]], copies
        )
        torch.testing.assert_close(owners[: states[b]], frames[b, : states[b]].double(), rtol=1e-5, atol=0)
    log_obs = 5 * torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0))
    log_obs = log_obs.gather(2, chain.state_of[:, None].expand(-1, 9, -1))
    best = viterbi(log_obs, chain.topology, torch.tensor([9, 9]), chain.states).path
    for path, least, n in zip(chain.state_of.gather(1, best), fewest, states, strict=True):
        runs = torch.bincount(path, minlength=3)
        assert (runs[:n] >= least[:n]).all()


def test_laws_of_duration_equal_the_semi_markov_model():
    """The same likelihood as the segments of a semi-Markov model give, written out; limits above and below."""
    generator = torch.Generator().manual_seed(1)
    laws = torch.rand(3, 4, generator=generator, dtype=torch.float64)
    laws[0, 2:], laws[1, :2] = 0, 0  # at most two frames; at least three
    laws /= laws.sum(1, keepdim=True)
    outer = model([0.5, 0.3, 0.2], [[0, 0.4, 0.6], [1, 0, 0], [0.5, 0.5, 0]])
    flat = with_durations(outer, laws)
    validate(flat.topology)
    log_obs = torch.randn(1, 7, 3, generator=generator, dtype=torch.float64)
    total = []
    for ends in itertools.product([False, True], repeat=6):
        cuts = [0, *(t + 1 for t, end in enumerate(ends) if end), 7]
        for path in itertools.product(range(3), repeat=len(cuts) - 1):
            score = outer.initial[path[0]]
            for segment, (state, (a, b)) in enumerate(zip(path, itertools.pairwise(cuts), strict=True)):
                if segment:
                    score = score + outer.transition[path[segment - 1], state]
                score = score + (laws[state, b - a - 1].log() if b - a <= 4 else -math.inf)
                score = score + log_obs[0, a:b, state].sum()
            total.append(score)
    truth = torch.logsumexp(torch.stack(total), 0)
    ours = log_likelihood(log_obs[..., flat.owner], flat.topology, torch.tensor([7]))
    assert float(ours) == pytest.approx(float(truth), rel=1e-12)
    semi = semi_markov_dense(outer.initial.exp(), outer.transition.exp(), laws)
    assert float(log_likelihood(log_obs, semi, torch.tensor([7]))) == pytest.approx(float(truth), rel=1e-12)
    expected = (laws * torch.arange(1, 5)).sum(1)
    chain = as_dense(by_durations(expected[None]))  # as long as the chains of copies, visited in turn
    inside = flat.topology.transition.exp()
    for state in range(3):
        copies = slice(4 * state, 4 * state + 4)
        one = Dense(torch.tensor([1.0, 0, 0, 0]).double().log(), inside[copies, copies].log())
        assert float(visits(one, 10).sum()) == pytest.approx(float(expected[state]))
        assert float(visits(chain)[state]) == pytest.approx(float(expected[state]))


def test_a_hierarchy_is_its_levels():
    """Every path with its unit borders written out."""
    generator = torch.Generator().manual_seed(2)
    units = [
        model([1.0, 0.0], [[0.5, 0.5], [0.0, 0.7]], [0.0, 0.3]),
        model([0.6, 0.4], [[0.2, 0.3], [0.1, 0.4]], [0.5, 0.5]),
    ]
    outer = model([0.3, 0.7], [[0.1, 0.5], [0.8, 0.0]], [0.4, 0.2])
    flat = hierarchical(outer, units)
    validate(flat.topology)
    assert flat.owner.tolist() == [0, 0, 1, 1]
    log_obs = torch.randn(1, 4, 4, generator=generator, dtype=torch.float64)
    total = []
    for path in itertools.product(range(4), repeat=4):
        for borders in itertools.product([False, True], repeat=3):
            unit, place = [state // 2 for state in path], [state % 2 for state in path]
            score = outer.initial[unit[0]] + units[unit[0]].initial[place[0]]
            for t, border in enumerate(borders):
                here, next_ = units[unit[t]], units[unit[t + 1]]
                if border:
                    score = score + here.final[place[t]] + outer.transition[unit[t], unit[t + 1]]
                    score = score + next_.initial[place[t + 1]]
                elif unit[t] == unit[t + 1]:
                    score = score + here.transition[place[t], place[t + 1]]
                else:
                    score = score - math.inf
            score = score + units[unit[3]].final[place[3]] + outer.final[unit[3]]
            total.append(score + sum(log_obs[0, t, state] for t, state in enumerate(path)))
    ours = log_likelihood(log_obs, flat.topology, torch.tensor([4]))
    assert float(ours) == pytest.approx(float(torch.logsumexp(torch.stack(total), 0)), rel=1e-12)


def test_constrained_rows_are_shared_anew():
    weights = torch.tensor([[2.0, 1.0, 1.0], [0.0, 3.0, 1.0], [1.0, 1.0, 1.0]])
    allowed = torch.tensor([[True, True, False], [True, True, True], [False, False, True]])
    truth = torch.tensor([[2 / 3, 1 / 3, 0], [0, 0.75, 0.25], [0, 0, 1]])
    torch.testing.assert_close(constrained(weights, allowed), truth)
    with pytest.raises(ValueError, match="row 1 has no arc left"):
        constrained(weights, torch.tensor([[True] * 3, [True, False, False], [True] * 3]))


def test_adaptation_lies_between_the_prior_and_the_counts():
    generator = torch.Generator().manual_seed(3)
    prior = model([0.5, 0.5, 0.0], [[0.6, 0.4, 0.0], [0.2, 0.5, 0.2], [0.0, 0.3, 0.5]], [0.0, 0.1, 0.2])
    log_obs = 2 * torch.randn(5, 30, 3, generator=generator, dtype=torch.float64)
    frames = torch.tensor([30, 20, 30, 12, 25])
    counts = expected_counts(log_obs, prior, frames)
    strong, weak = adapted(prior, counts, 1e9), adapted(prior, counts, 1e-9)
    for arc, same in zip(strong, prior, strict=True):
        torch.testing.assert_close(arc.exp(), same.exp(), atol=1e-6, rtol=0)
    # Without a prior, one step of Baum-Welch: the likelihood rises, and so it does with one.
    before = log_likelihood(log_obs, prior, frames).sum()
    middle = adapted(prior, counts, 20.0)
    assert (
        log_likelihood(log_obs, weak, frames).sum() > log_likelihood(log_obs, middle, frames).sum() > before
    )
    for topology in (weak, middle):
        validate(topology)
        for arc, allowed in zip(topology, prior, strict=True):
            assert ((arc == -math.inf) == (allowed == -math.inf)).all()


def test_long_run_of_known_chains():
    two = analyse(model([1.0, 0.0], [[0.9, 0.1], [0.3, 0.7]]))
    torch.testing.assert_close(two.stationary, torch.tensor([0.75, 0.25], dtype=torch.float64))
    torch.testing.assert_close(two.durations, torch.tensor([10.0, 1 / 0.3], dtype=torch.float64))
    assert two.visits.tolist() == [math.inf, math.inf]
    circle = analyse(model([1.0, 0, 0], [[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]))
    torch.testing.assert_close(circle.stationary, torch.full((3,), 1 / 3, dtype=torch.float64))
    assert circle.entropy_rate == 0
    uniform = analyse(model([0.25] * 4, [[0.25] * 4] * 4))
    assert uniform.entropy_rate == pytest.approx(math.log(4))
    # Two closed halves, of which the start reaches the first with 0.3; state 4 is never reached.
    split = model(
        [0.3, 0.7, 0, 0, 0],
        [[0, 0, 1.0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0.5, 0.5, 0], [0, 0, 1, 0, 0], [1, 0, 0, 0, 0]],
    )
    torch.testing.assert_close(
        analyse(split).stationary, torch.tensor([0, 0.7, 0.2, 0.1, 0], dtype=torch.float64), atol=1e-9, rtol=0
    )
    assert analyse(split).reachable.tolist() == [True, True, True, True, False]
    # One that ends begins anew: shares are those of the visits.
    chain = as_dense(by_durations(FRAMES))
    torch.testing.assert_close(analyse(chain).stationary, FRAMES[0] / FRAMES[0].sum())


@pytest.mark.parametrize(
    ("topology", "message"),
    [
        (model([1.0, 0.0], [[0.5, 0.5], [0.3, 0.6]]), "row 1 of transition sums to 0.9, not to 1"),
        (model([0.5, 0.0], [[0.5, 0.5], [0.5, 0.5]]), "row 0 of initial sums to 0.5, not to 1"),
        (
            model([1.0, 0.0], [[0.5, 0.4], [0.0, 0.9]], [0.0, 0.1]),
            "row 0 of transition sums to 0.9 and 0 for the end",
        ),
        (
            model([1.0, 0.0], [[0.5, 0.5], [0.0, 1.0]], [0.0, 0.0]),
            "state 0 can be reached but no path from it ends",
        ),
        (
            LeftToRight(torch.full((2, 2), 0.5).log(), torch.tensor([[0.5, 0.5], [0.5, 0.3]]).log()),
            "row 1 of transition of utterance 1 sums to 0.5 and 0.3 for the end",
        ),
    ],
)
def test_validation_names_the_row(topology, message):
    with pytest.raises(ValueError, match=message):
        validate(topology)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: by_durations(torch.tensor([[2.0, 0.5]])), r"frames must be at least 1, got 0.5 at \[0, 1\]"),
        (lambda: by_durations(torch.ones(1, 2), leap=1.5), "leap must be a probability, got 1.5"),
        (
            lambda: by_phones(torch.zeros(1, 1, dtype=torch.long), torch.ones(1), 0),
            "must be at least 1, got 0",
        ),
        (
            lambda: at_least(torch.ones(1, 1), torch.tensor([[2]])),
            "state 0 of utterance 0 cannot last 1 frames",
        ),
        (lambda: with_durations(model([1.0], [[1.0]]), torch.ones(1, 1)), "no arc from a state to itself"),
        (
            lambda: hierarchical(model([1.0], [[1.0]]), []),
            "inner must be one model for each of 1 outer states, got 0",
        ),
        (
            lambda: hierarchical(model([1.0], [[1.0]]), [model([1.0], [[1.0]])]),
            "inner model 0 must say by `final`",
        ),
        (
            lambda: adapted(model([1.0], [[1.0]]), model([1.0], [[1.0]]), 0),
            "strength must be more than 0, got 0",
        ),
    ],
)
def test_refuses(build, message):
    with pytest.raises(ValueError, match=message):
        build()
