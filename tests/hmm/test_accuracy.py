"""float32 input, float64 truth: log Z within 1e-8 relative and posteriors within 1e-5, whatever the spread of the scores."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hmmtts.bench.batches import forced
from hmmtts.hmm import (
    Dense,
    LeftToRight,
    left_to_right,
    left_to_right_from_logits,
    log_likelihood,
    posteriors,
    unweighted,
    viterbi,
)
from hmmtts.hmm.backends import load
from tests.examples import examples


def against_float64(log_obs, topology, frames, states=None):
    reference = load(
        "cpu"
    )  # its float64 kernels are another recursion (log domain), checked against enumeration
    assert reference.name == "cpu"
    exact = type(topology)._make(None if arc is None else arc.double() for arc in topology)
    truth = log_likelihood(log_obs.double(), exact, frames, states)
    got = log_likelihood(log_obs, topology, frames, states)
    torch.testing.assert_close(got, truth, rtol=1e-8, atol=0)
    torch.testing.assert_close(
        posteriors(log_obs, topology, frames, states).double(),
        posteriors(log_obs.double(), exact, frames, states),
        rtol=0,
        atol=1e-5,
    )
    best = viterbi(log_obs, topology, frames, states).score
    torch.testing.assert_close(
        best, viterbi(log_obs.double(), exact, frames, states).score, rtol=2e-7, atol=1e-4
    )


@pytest.mark.parametrize("spread", [1, 10, 100, 1000])
@pytest.mark.parametrize("arcs", ["unweighted", "static", "per_frame"])
def test_left_to_right(spread, arcs):
    g = torch.Generator().manual_seed(spread)
    b, t, n = 3, 600, 100
    log_obs = spread * torch.randn(b, t, n, generator=g)
    topology = {
        "unweighted": lambda: unweighted(log_obs),
        "static": lambda: left_to_right_from_logits(torch.randn(b, n, generator=g)),
        "per_frame": lambda: left_to_right_from_logits(torch.randn(b, t, n, generator=g)),
    }[arcs]()
    against_float64(log_obs, topology, torch.tensor([600, 450, 130]), torch.tensor([100, 60, 100]))


@pytest.mark.parametrize("spread", [1, 10, 100, 1000])
@pytest.mark.parametrize("k", [2, 10, 50])
def test_dense(spread, k):
    g = torch.Generator().manual_seed(spread + k)
    log_obs = spread * torch.randn(3, 300, k, generator=g)
    topology = Dense(
        torch.randn(k, generator=g).log_softmax(0), torch.randn(k, k, generator=g).log_softmax(1)
    )
    against_float64(log_obs, topology, torch.tensor([300, 200, 1]))


def test_a_dense_model_that_must_end_in_its_last_state():
    """A left-to-right path forced through a dense matrix: plain scaling underflows there without a word."""
    k, t = 30, 120
    transition = torch.full((k, k), -torch.inf)
    for i in range(k):
        transition[i, i : i + 2] = torch.tensor([0.5, 0.5])[: k - i].log()
    initial, final = torch.full((k,), -torch.inf), torch.full((k,), -torch.inf)
    initial[0] = final[-1] = 0.0
    log_obs = 100 * torch.randn(2, t, k, generator=torch.Generator().manual_seed(0))
    against_float64(log_obs, Dense(initial, transition, final), torch.tensor([t, t // 2]))
    forced = log_likelihood(log_obs, Dense(initial, transition, final), torch.tensor([t, t // 2]))
    same = left_to_right(torch.full((2, k), 0.5).log())
    same.move[:, -1] = 0.0  # the dense model ends for free
    torch.testing.assert_close(
        forced, log_likelihood(log_obs, same, torch.tensor([t, t // 2])), rtol=1e-8, atol=0
    )


@pytest.mark.parametrize(
    ("dtype", "arc", "heard", "later"), [(torch.float32, -106, 46, 60), (torch.float64, -1300, 640, 660)]
)
def test_what_underflows_and_is_needed_later(dtype, arc, heard, later):
    """Two paths of the same weight: one goes by an arc that no number holds, made good by what the other hears.

    At neither frame alone does its state look as if it mattered.
    """
    k, impossible = 8, -torch.inf
    initial, transition = torch.full((k,), impossible), torch.full((k, k), impossible)
    log_obs = torch.full((1, 3, k), -2000.0)
    initial[0] = transition[0, 0] = transition[1, 2] = 0.0
    log_obs[0, 0, 0] = log_obs[0, 1, 1] = log_obs[0, 2, 2] = 0.0
    transition[0, 1], log_obs[0, 1, 0], log_obs[0, 2, 0] = arc, -heard, -later
    args = log_obs.to(dtype), Dense(initial.to(dtype), transition.to(dtype)), torch.tensor([3])
    assert float(log_likelihood(*args)) == pytest.approx(math.log(2) + arc, rel=1e-8)
    assert posteriors(*args)[0, 2, [0, 2]].tolist() == pytest.approx([0.5, 0.5], abs=1e-5)


@examples(60)
@given(st.data())
def test_extreme_scores_of_a_sparse_dense_model(data):
    """Of eight states: float32 kernels, which smaller models do not use. The truth is plain torch's."""
    t, k = data.draw(st.integers(1, 6)), 8
    scores = st.one_of(
        st.just(-math.inf), st.just(0.0), st.floats(-150, 0, width=32), st.floats(-2000, 2000, width=32)
    )

    def draw(*shape):
        size = math.prod(shape)
        return torch.tensor(data.draw(st.lists(scores, min_size=size, max_size=size))).reshape(shape)

    log_obs, frames = draw(1, t, k), torch.tensor([t])
    topology = Dense(draw(k), draw(k, k), draw(k))
    exact = log_obs.double(), Dense._make(arc.double() for arc in topology), frames
    with forced("reference"):
        truth, posterior = log_likelihood(*exact), posteriors(*exact)
    for args in ((log_obs, topology, frames), exact):
        torch.testing.assert_close(log_likelihood(*args), truth, rtol=1e-8, atol=1e-5)
        torch.testing.assert_close(posteriors(*args).double(), posterior, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mask", [-1e4, -1e9, -1e30])
@pytest.mark.parametrize("kind", ["static", "per_frame", "skip"])
def test_arcs_that_are_impossible_but_for_a_finite_score(kind, mask):
    """As masks often are: what is added to nearly all paths must not take their digits."""
    for seed in range(12):
        g = torch.Generator().manual_seed(seed)
        t, n = 40 + 5 * seed, 4 + seed
        shape = (1, t, n) if kind == "per_frame" else (1, n)
        log_obs, arcs = 3 * torch.randn(1, t, n, generator=g), torch.randn(3, *shape, generator=g)
        arcs[torch.rand(3, *shape, generator=g) < 0.2] = mask
        arcs[0, 0, ..., 0] = mask  # the first state, too, is left at once
        topology = LeftToRight(arcs[0], arcs[1], arcs[2] if kind == "skip" else None)
        against_float64(log_obs, topology, torch.tensor([t]))
        exact = LeftToRight._make(None if arc is None else arc.double() for arc in topology)
        with forced("reference"):
            truth = viterbi(log_obs.double(), exact, torch.tensor([t])).score
        for args in ((log_obs, topology), (log_obs.double(), exact)):
            got = viterbi(*args, torch.tensor([t])).score
            torch.testing.assert_close(got, truth, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("kind", ["unweighted", "static", "skip", "forbidden", "per_frame", "dense"])
@pytest.mark.parametrize("sound", ["noise", "equal", "half_silent"])
def test_what_repeats_is_not_rounded_at_random(kind, sound):
    """The same arc at every frame, digital silence: what each frame is off by adds up."""
    for seed in range(8):
        g = torch.Generator().manual_seed(seed)
        t, n = 150 * (1 + seed), 8 + 4 * seed
        log_obs = torch.randn(1, t, n, generator=g) - 0.4 * seed
        silent = {"noise": 0, "equal": t, "half_silent": t // 2}[sound]
        log_obs[:, :silent] = -0.1 - 0.3 * seed
        arcs = torch.randn(3, 1, n, generator=g)
        if kind == "forbidden":
            arcs[0, 0, 1] = -math.inf
        if kind == "dense":
            law = (torch.eye(n) * 0.9 + 0.1 / n).log()
            topology = Dense(torch.randn(n, generator=g), law)
        elif kind == "per_frame":
            topology = LeftToRight(*(arc[:, None].expand(-1, t, -1) for arc in arcs[:2]))
        else:
            topology = LeftToRight(arcs[0], arcs[1], arcs[2] if kind == "skip" else None)
        exact = type(topology)._make(None if arc is None else arc.double() for arc in topology)
        got = log_likelihood(
            log_obs, unweighted(log_obs) if kind == "unweighted" else topology, torch.tensor([t])
        )
        exact = unweighted(log_obs.double()) if kind == "unweighted" else exact
        truth = log_likelihood(log_obs.double(), exact, torch.tensor([t]))
        torch.testing.assert_close(got, truth, rtol=1e-8, atol=0)


@pytest.mark.parametrize("spread", [20, 1e3, 1e5])
@pytest.mark.parametrize("arcs", ["static", "per_frame"])
def test_the_best_path_where_its_first_states_are_heard_no_more(spread, arcs):
    """The first state stays possible nearly to the end, ever less likely; the others keep their digits."""
    t, n = 1000, 100
    place = torch.arange(t)[:, None] * (n / t) - torch.arange(n)
    noise = torch.randn(t, n, generator=torch.Generator().manual_seed(0))
    log_obs = torch.where(place.abs() < 4, noise, -spread)[None]
    topology = left_to_right(torch.full((1, n) if arcs == "static" else (1, t, n), 0.9).log())
    exact = LeftToRight._make(None if arc is None else arc.double() for arc in topology)
    got = viterbi(log_obs, topology, torch.tensor([t]))
    truth = viterbi(log_obs.double(), exact, torch.tensor([t]))
    assert float(got.score) == pytest.approx(float(truth.score), abs=1e-3)
    assert (got.path != truth.path).sum() <= 2


@pytest.mark.parametrize("scale", [1e4, 1e6, 1e30])
def test_enormous_scores(scale):
    log_obs = scale * torch.randn(2, 50, 8, generator=torch.Generator().manual_seed(1))
    exact = log_likelihood(log_obs.double(), unweighted(log_obs.double()), torch.tensor([50, 40]))
    got = log_likelihood(log_obs, unweighted(log_obs), torch.tensor([50, 40]))
    torch.testing.assert_close(got, exact, rtol=1e-8, atol=0)


def test_a_hundred_thousand_frames():
    t, n = 100_000, 50
    log_obs = 5 * torch.randn(1, t, n, generator=torch.Generator().manual_seed(2))
    topology = left_to_right(torch.full((1, n), -1e-3))
    against_float64(log_obs, topology, torch.tensor([t]))
