"""What must not matter (padding, order, threads, backend), what must be refused, gradients, and samples."""

import math

import pytest
import torch

from hmmtts.bench.batches import forced
from hmmtts.hmm import (
    SemiMarkovDense,
    SemiMarkovLeftToRight,
    expected_counts,
    log_likelihood,
    posteriors,
    right_censored,
    sample,
    semi_markov_dense,
    semi_markov_left_to_right,
    viterbi,
)

FRAMES, STATES = torch.tensor([40, 25, 33, 12]), torch.tensor([9, 9, 4, 10])
KINDS = ["left_to_right", "dense"]


def batch(kind, spread=5.0, dtype=torch.float32):
    g = torch.Generator().manual_seed(3)
    log_obs = (spread * torch.randn(4, 40, 10, generator=g)).to(dtype)
    if kind == "left_to_right":
        return log_obs, SemiMarkovLeftToRight(torch.randn(4, 10, 13, generator=g).log_softmax(2).to(dtype))
    transition = torch.randn(10, 10, generator=g).fill_diagonal_(-math.inf).log_softmax(1)
    arcs = torch.randn(10, generator=g), transition, torch.randn(10, 13, generator=g).log_softmax(1)
    return log_obs, SemiMarkovDense(*(arc.to(dtype) for arc in arcs), torch.randn(10, generator=g).to(dtype))


def everything(log_obs, topology, frames=FRAMES, states=STATES):
    """Every result and gradient, for comparison bit by bit."""
    log_obs = log_obs.detach().clone().requires_grad_()
    arcs = [arc.detach().clone().requires_grad_() for arc in topology if arc is not None]
    topology = type(topology)(*arcs)
    log_z = log_likelihood(log_obs, topology, frames, states)
    gradients = torch.autograd.grad(log_z.sum(), [log_obs, *arcs])
    with torch.no_grad():
        counts = [c for c in expected_counts(log_obs, topology, frames, states) if c is not None]
        posterior = posteriors(log_obs, topology, frames, states)
        return [log_z.detach(), *gradients, posterior, *counts, *viterbi(log_obs, topology, frames, states)]


def of(topology, which):
    return topology._replace(durations=topology.durations[which]) if len(topology) == 1 else topology


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("filling", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_no_bit(backend, kind, filling):
    log_obs, topology = batch(kind)
    real = (torch.arange(40) < FRAMES[:, None])[:, :, None] & (torch.arange(10) < STATES[:, None])[:, None]
    clean = everything(log_obs, topology)
    assert_same(clean, everything(torch.where(real, log_obs, filling), topology))


@pytest.mark.parametrize("kind", KINDS)
def test_order_company_and_threads_change_no_bit(kind):
    log_obs, topology = batch(kind)
    whole, before = everything(log_obs, topology)[-4:], torch.get_num_threads()
    order = torch.tensor([2, 0, 3, 1])
    turned = everything(log_obs[order], of(topology, order), FRAMES[order], STATES[order])[-4:]
    assert_same([x[order] for x in whole], turned)
    alone = everything(log_obs[1:2], of(topology, [1]), FRAMES[1:2], STATES[1:2])[-4:]
    assert_same([x[1:2] for x in whole], alone)
    many = torch.arange(4).repeat(12)  # work enough for several threads
    try:
        torch.set_num_threads(3)
        shared = everything(log_obs[many], of(topology, many), FRAMES[many], STATES[many])[-4:]
    finally:
        torch.set_num_threads(before)
    assert_same([x[many] for x in whole], shared)


@pytest.mark.parametrize("spread", [1, 30, 300, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_the_backends_agree_whatever_the_spread_of_the_emissions(kind, spread, monkeypatch):
    """The reference sums over residual durations in logarithms, the other over segments in extended range."""
    log_obs, topology = batch(kind, spread, torch.float64)
    monkeypatch.setenv("HMMTTS_BACKEND", "reference")
    truth = everything(log_obs, topology)
    monkeypatch.setenv("HMMTTS_BACKEND", "cpu")
    for x, y in zip(everything(log_obs, topology), truth, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-10)
    narrow = everything(log_obs.float(), type(topology)._make(arc.float() for arc in topology))
    exact = log_likelihood(log_obs.float().double(), topology, FRAMES, STATES)
    torch.testing.assert_close(narrow[0], exact, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_differences(backend, kind):
    g = torch.Generator().manual_seed(7)

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_()

    frames, states = torch.tensor([5, 4]), torch.tensor([3, 2 if kind == "left_to_right" else 3])
    weight, itself = torch.tensor([1.0, -2.0], dtype=torch.float64), torch.eye(3, dtype=torch.bool)
    arcs = [draw(2, 3, 4)] if kind == "left_to_right" else [draw(3), draw(3, 3), draw(3, 4), draw(3)]

    def loss(log_obs, *arcs):
        if kind == "left_to_right":
            topology = SemiMarkovLeftToRight(*arcs)
        else:
            topology = SemiMarkovDense(arcs[0], arcs[1].masked_fill(itself, -math.inf), *arcs[2:])
        return weight * log_likelihood(log_obs, topology, frames, states)

    assert torch.autograd.gradcheck(loss, [draw(2, 5, 3), *arcs])
    log_obs = draw(2, 5, 3)
    (gradient,) = torch.autograd.grad(loss(log_obs, *arcs).square().sum(), log_obs, create_graph=True)
    if backend == "cpu":
        with pytest.raises(RuntimeError, match="once_differentiable"):
            gradient.square().sum().backward()


def test_too_few_and_too_many_frames(backend):
    log_obs = torch.zeros(3, 9, 3)
    durations = torch.full((3, 3, 4), -1.0)
    durations[:, :, 0] = -math.inf  # two to four frames each
    topology = SemiMarkovLeftToRight(durations)
    frames, states = torch.tensor([9, 5, 9]), torch.tensor([3, 3, 2])
    assert topology.feasible(frames, states).tolist() == [True, False, False]
    for which, message in (
        ([0, 1], r"utterance 1 has 5 frames for 3 states, which need at least 6.*topology\.feasible"),
        ([0, 2], r"utterance 1 has 9 frames for 2 states, which last at most 8.*topology\.feasible"),
    ):
        for question in (log_likelihood, posteriors, expected_counts, viterbi, sample):
            with pytest.raises(ValueError, match=message):
                question(log_obs[which], of(topology, which), frames[which], states[which])
    alone = SemiMarkovDense(torch.zeros(1), torch.full((1, 1), -math.inf), torch.zeros(1, 4))
    assert torch.isfinite(log_likelihood(log_obs[:1, :4, :1], alone, torch.tensor([4]))).all()
    with pytest.raises(ValueError, match="utterance 0 has 5 frames for 1 states, which last at most 4"):
        log_likelihood(log_obs[:1, :5, :1], alone, torch.tensor([5]))
    with pytest.raises(ValueError, match="allow no path of any length"):
        log_likelihood(log_obs[:1], SemiMarkovLeftToRight(torch.full((1, 3, 4), -math.inf)), frames[:1])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_value_is_named(backend, kind, value):
    log_obs, topology = batch(kind)
    log_obs[2, 17, 3] = value
    for question in (log_likelihood, posteriors, viterbi):
        with pytest.raises(ValueError, match=r"in utterance 2, frame 17, state 3"):
            question(log_obs, topology, FRAMES, STATES)
    log_obs, topology = batch(kind)
    topology.durations[1, 2] = value
    with pytest.raises(ValueError, match=r"durations holds (nan|inf) at \[1, 2"):
        log_likelihood(log_obs, topology, FRAMES, STATES)


def test_arcs_are_refused_by_name():
    half, onward = torch.full((2,), 0.5), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match="durations must hold probabilities whose rows sum to 1"):
        semi_markov_left_to_right(torch.ones(1, 2, 3))
    with pytest.raises(ValueError, match=r"transition\[0, 0\] must be -inf.*its durations say"):
        semi_markov_dense(half, torch.full((2, 2), 0.5), torch.full((2, 2), 0.5))
    scores = torch.tensor([[-math.inf, 0.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match=r"transition\[1, 1\] must be -inf"):
        log_likelihood(torch.zeros(1, 3, 2), SemiMarkovDense(half, scores, onward), torch.tensor([3]))
    with pytest.raises(ValueError, match=r"durations must have the shape \[1, 2, 3\]"):
        log_likelihood(torch.zeros(1, 3, 2), SemiMarkovLeftToRight(torch.zeros(2, 2, 3)), torch.tensor([3]))


def test_the_shortest_utterances(backend):
    g = torch.Generator().manual_seed(6)
    for t in (1, 3):
        log_obs, durations = torch.randn(1, t, t, generator=g), torch.randn(1, t, 4, generator=g)
        topology, frames = SemiMarkovLeftToRight(durations), torch.tensor([t])
        only = log_obs[0].diagonal().sum() + durations[0, :, 0].sum()
        torch.testing.assert_close(
            log_likelihood(log_obs, topology, frames)[0], only.double(), rtol=1e-6, atol=1e-6
        )
        assert viterbi(log_obs, topology, frames).path.tolist() == [list(range(t))]


def test_a_cut_recording_sums_over_all_that_may_have_followed(backend):
    """Of two states in a silent model: the chance that the second has begun and has not ended."""
    durations = torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(8)).double().softmax(2)
    first, second = durations[0, :2].tolist()
    topology = right_censored(semi_markov_left_to_right(durations), torch.tensor([2]))
    for t in range(2, 11):
        expected = sum(
            p * q
            for d, p in enumerate(first, 1)
            for e, q in enumerate(second, 1)
            if d < t <= d + e
        )  # fmt: skip
        got = log_likelihood(torch.zeros(1, 12, 3), topology, torch.tensor([t]), torch.tensor([2]))
        assert float(got.exp()) == pytest.approx(expected, rel=1e-6)
    limited = durations.log().clone()
    limited[..., [0, 4]] = -math.inf
    limited.requires_grad_()
    log_likelihood(
        torch.zeros(1, 5, 3), right_censored(SemiMarkovLeftToRight(limited)), torch.tensor([5])
    ).sum().backward()
    # Each of the three states has one segment, however the last is cut.
    torch.testing.assert_close(limited.grad.sum(-1), torch.ones(1, 3).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_sampled_segments_follow_the_posterior(kind):
    log_obs, topology = batch(kind, 0.3)
    draws, t, n = 400, 25, 9
    one = log_obs[1:2, :t].expand(draws, -1, -1)
    lengths = torch.full((draws,), t), torch.full((draws,), n)
    many = of(topology, [1] * draws)
    drawn = sample(one, many, *lengths, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, sample(one, many, *lengths, torch.Generator().manual_seed(0)))
    share = torch.nn.functional.one_hot(drawn, 10).float().mean(0)
    posterior = posteriors(log_obs[1:2], of(topology, [1]), FRAMES[1:2], STATES[1:2])[0, :t]
    assert (share - posterior).abs().max() < 0.11  # 4.4 standard errors of 400 draws
    counts = expected_counts(log_obs[1:2], of(topology, [1]), FRAMES[1:2], STATES[1:2]).durations[0]
    changes = torch.cat([torch.ones(draws, 1, dtype=torch.bool), drawn[:, 1:] != drawn[:, :-1]], 1)
    assert float(changes.sum(1).float().mean()) == pytest.approx(float(counts.sum()), rel=0.05)


def test_a_path_that_underflows_in_both_directions():
    """Of two equal ones: scores beyond probabilities let it grow again, unseen, between two divisions by the sum."""
    k, t = 64, 32
    grow, wait, end = slice(0, k), k, k + 1
    transition = torch.full((k + 2, k + 2), -torch.inf)
    transition[grow, grow], transition[grow, wait:] = 4.9, 0.0
    transition.fill_diagonal_(-torch.inf)
    durations, initial = torch.full((k + 2, 32), -torch.inf), torch.full((k + 2,), -torch.inf)
    durations[grow, 0], durations[wait:], initial[grow] = 4.9, 0.0, 0.0
    log_obs = torch.full((1, t, k + 2), -2000.0, dtype=torch.float64)
    log_obs[0, :17, grow], log_obs[0, 6, grow] = 0.0, -720.0
    log_obs[0, 6:, wait], log_obs[0, 15, wait], log_obs[0, 17:, end] = 0.0, -560.0, 0.0
    args = (
        log_obs,
        SemiMarkovDense(initial.double(), transition.double(), durations.double()),
        torch.tensor([t]),
    )
    with forced("reference"):
        truth, posterior = log_likelihood(*args), posteriors(*args)
    torch.testing.assert_close(log_likelihood(*args), truth, rtol=1e-10, atol=0)
    torch.testing.assert_close(posteriors(*args), posterior, rtol=0, atol=1e-8)


@pytest.mark.parametrize("mask", [-1e9, -1e30, -1e80, torch.finfo(torch.float64).min])
def test_arcs_that_are_impossible_but_for_a_finite_score(mask):
    g = torch.Generator().manual_seed(1)
    log_obs, frames = torch.randn(1, 8, 4, generator=g).double(), torch.tensor([8])
    durations = torch.randn(1, 4, 5, generator=g).log_softmax(-1).double()
    durations[0, 1, 0] = durations[0, 2, 3] = mask
    transition = torch.zeros(4, 4).double().fill_diagonal_(-torch.inf)
    transition[0, 1], transition[1, 0] = mask, 20.0  # too much for the scaled kernel
    for topology in (
        SemiMarkovLeftToRight(durations),
        SemiMarkovDense(torch.zeros(4).double(), transition, durations[0]),
    ):
        with forced("reference"):
            truth, posterior = (
                log_likelihood(log_obs, topology, frames),
                posteriors(log_obs, topology, frames),
            )
        torch.testing.assert_close(log_likelihood(log_obs, topology, frames), truth, rtol=1e-10, atol=0)
        torch.testing.assert_close(posteriors(log_obs, topology, frames), posterior, rtol=0, atol=1e-10)
