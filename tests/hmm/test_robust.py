"""What must not matter (padding, order, threads, precision, layout), and what must be refused, by its message."""

import logging
import re

import pytest
import torch

from hmmtts.hmm import (
    Dense,
    LeftToRight,
    expected_counts,
    hard_durations,
    left_to_right,
    left_to_right_from_logits,
    log_likelihood,
    posteriors,
    sample,
    soft_durations,
    unweighted,
    viterbi,
)

FRAMES, STATES = torch.tensor([40, 25, 33, 12]), torch.tensor([9, 9, 4, 12])


def batch(dtype=torch.float32):
    g = torch.Generator().manual_seed(3)
    log_obs = (5 * torch.randn(4, 40, 12, generator=g)).to(dtype)
    arcs = [torch.randn(4, 40, 12, generator=g).to(dtype) for _ in range(2)]
    return log_obs, LeftToRight(*arcs)


def everything(log_obs, topology, frames=FRAMES, states=STATES):
    """Every result and gradient, for comparison bit by bit."""
    log_obs = log_obs.detach().clone().requires_grad_()
    arcs = [arc.detach().clone().requires_grad_() for arc in topology if arc is not None]
    topology = type(topology)(*arcs)
    log_z = log_likelihood(log_obs, topology, frames, states)
    gradients = torch.autograd.grad(log_z.sum(), [log_obs, *arcs])
    with torch.no_grad():
        counts = [c for c in expected_counts(log_obs, topology, frames, states) if c is not None]
        return [
            log_z.detach(),
            *gradients,
            posteriors(log_obs, topology, frames, states),
            *counts,
            *viterbi(log_obs, topology, frames, states),
        ]


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("filling", [0.0, float("nan"), float("inf"), 1e38])
def test_padding_changes_no_bit(backend, filling):
    log_obs, topology = batch()
    clean = everything(log_obs, topology)
    real = (torch.arange(40) < FRAMES[:, None])[:, :, None] & (torch.arange(12) < STATES[:, None])[:, None]
    dirty = [torch.where(real, x, filling) for x in (log_obs, *topology[:2])]
    assert_same(clean, everything(dirty[0], LeftToRight(*dirty[1:])))


def test_order_and_company_change_no_bit():
    log_obs, topology = batch()
    whole = everything(log_obs, topology)
    order = torch.tensor([2, 0, 3, 1])
    turned = everything(
        log_obs[order], LeftToRight(*(arc[order] for arc in topology[:2])), FRAMES[order], STATES[order]
    )
    assert_same([x[order] for x in whole], turned)
    alone = everything(
        log_obs[1:2], LeftToRight(*(arc[1:2] for arc in topology[:2])), FRAMES[1:2], STATES[1:2]
    )
    assert_same([x[1:2] for x in whole], alone)


def test_threads_change_no_bit():
    g = torch.Generator().manual_seed(4)
    log_obs, frames = torch.randn(8, 300, 60, generator=g), torch.randint(60, 301, (8,), generator=g)
    topology, before = unweighted(log_obs), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            results.append(everything(log_obs, topology, frames, torch.full((8,), 60)))
    finally:
        torch.set_num_threads(before)
    assert_same(results[0], results[1])
    assert_same(results[0], results[2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(backend, dtype):
    log_obs, topology = batch(dtype)
    wide = everything(log_obs.float(), LeftToRight(*(arc.float() for arc in topology[:2])))
    with torch.autocast("cpu", torch.bfloat16):
        half = everything(log_obs, topology)
    for x, y in zip(wide, half, strict=True):
        torch.testing.assert_close(x.to(y.dtype), y)


def test_any_layout(backend):
    log_obs, topology = batch()
    turned = log_obs.transpose(1, 2).contiguous().transpose(1, 2)
    assert not turned.is_contiguous()
    assert_same(everything(log_obs, topology), everything(turned, topology))


def test_infeasible_utterances_are_refused_and_can_be_told_beforehand(backend):
    log_obs, topology = batch()
    frames = torch.tensor([40, 8, 33, 12])
    assert topology.feasible(frames, STATES).tolist() == [True, False, True, True]
    with pytest.raises(
        ValueError, match=r"utterance 1 has 8 frames for 9 states.*leave it out by topology\.feasible"
    ):
        log_likelihood(log_obs, topology, frames, STATES)
    zero = torch.zeros(4, 12)
    skipping = LeftToRight(zero, zero, zero)
    assert skipping.feasible(torch.tensor([5, 4, 3, 7]), STATES).tolist() == [True, False, True, True]
    forbidden = LeftToRight(zero, zero, torch.full((4, 12), -torch.inf))
    assert forbidden.feasible(frames, STATES).tolist() == [True, False, True, True]


def test_masking_an_infeasible_utterance_leaves_the_others_bit_for_bit():
    log_obs, topology = batch()
    frames = torch.tensor([40, 8, 33, 12])
    fits = topology.feasible(frames, STATES)
    masked = everything(
        log_obs[fits], LeftToRight(*(arc[fits] for arc in topology[:2])), frames[fits], STATES[fits]
    )
    keep = [0, 2, 3]
    without = everything(
        log_obs[keep], LeftToRight(*(arc[keep] for arc in topology[:2])), frames[keep], STATES[keep]
    )
    assert_same(masked, without)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_value_is_named(backend, value):
    for topology in (batch()[1], Dense(torch.zeros(12), torch.zeros(12, 12))):
        log_obs, _ = batch()
        log_obs[2, 17, 3] = value
        for question in (log_likelihood, posteriors, viterbi):
            with pytest.raises(ValueError, match=r"in utterance 2, frame 17, state 3"):
                question(log_obs, topology, FRAMES, torch.tensor([9, 9, 4, 12]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_bad_arc_is_named(backend, dtype, value):
    log_obs = batch(dtype)[0]
    stay, move, skip = torch.zeros(3, 4, 40, 12, dtype=dtype)
    row, square = torch.zeros(12, dtype=dtype), torch.zeros(12, 12, dtype=dtype)
    for topology, place in (
        (LeftToRight(stay, move, skip), [1, 24, 8]),  # the last real one of its utterance
        (LeftToRight(stay[:, 0], move[:, 0], skip[:, 0]), [2, 3]),
        (LeftToRight(stay[:, 0], move[:, 0]), [2, 3]),
        (Dense(row, square, row), [5, 7]),
    ):
        for field, arc in topology._asdict().items():
            if arc is None:
                continue
            at = place[-arc.ndim :]
            bad = topology._replace(
                **{field: arc.index_put([torch.tensor(i) for i in at], log_obs.new_tensor(value))}
            )
            for question in (log_likelihood, posteriors, expected_counts, viterbi):
                with pytest.raises(ValueError, match=rf"{field} holds {value} at {re.escape(str(at))}"):
                    question(log_obs, bad, FRAMES, STATES)


def test_a_path_of_weight_zero(backend):
    log_obs, topology = batch()
    log_obs[1, 10, :] = -torch.inf
    log_z, by_emission, *_, path, score = everything(log_obs, topology)
    assert float(log_z[1]) == float(score[1]) == -torch.inf
    assert (by_emission[1] == 0).all()
    assert (path[1] == -1).all()
    assert torch.isfinite(by_emission).all()
    assert torch.isfinite(log_z[[0, 2, 3]]).all()


def test_shapes_and_lengths_are_refused_by_name():
    log_obs, topology = batch()
    for arguments, message in [
        ((log_obs[0], topology, FRAMES), r"log_obs must be floating point \[utterances, frames, states\]"),
        ((log_obs.long(), topology, FRAMES), "log_obs must be floating point"),
        ((log_obs, topology, FRAMES[:2]), "frames must be 4 integers"),
        ((log_obs, topology, FRAMES.float()), "frames must be 4 integers"),
        ((log_obs, topology, FRAMES > 0), "frames must be 4 integers.*got torch.bool"),
        ((log_obs[:0], topology, FRAMES[:0]), r"with at least one of each, got torch.float32 \[0, 40, 12\]"),
        (
            (log_obs, topology, torch.tensor([41, 1, 1, 1])),
            "frames must be between 1 and 40.*got 41 for utterance 0",
        ),
        (
            (log_obs, topology, FRAMES, torch.tensor([9, 0, 4, 12])),
            "states must be between 1 and 12.*got 0 for utterance 1",
        ),
        ((log_obs, LeftToRight(topology.stay[:, :3], topology.move), FRAMES), r"stay must have the shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            log_likelihood(*arguments)


def test_what_is_no_tensor_is_refused_by_name():
    log_obs, topology = batch()
    for arguments, message in [
        ((log_obs.tolist(), topology, FRAMES), "log_obs must be a Tensor, got list"),
        ((log_obs, topology, FRAMES.numpy()), "frames must be a Tensor, got ndarray"),
        ((log_obs, topology, FRAMES, 9), "states must be a Tensor, got int"),
        ((log_obs, LeftToRight(topology.stay, None), FRAMES), "move must be a Tensor, got NoneType"),
        ((log_obs, tuple(topology), FRAMES), "topology must be a LeftToRight or Dense or .*, got tuple"),
    ]:
        with pytest.raises(TypeError, match=message):
            log_likelihood(*arguments)


def test_identities(backend):
    log_obs, topology = batch()
    normalised = left_to_right_from_logits(topology.stay)
    log_z = log_likelihood(log_obs, normalised, FRAMES, STATES)
    posterior = posteriors(log_obs, normalised, FRAMES, STATES)
    path, score = viterbi(log_obs, normalised, FRAMES, STATES)
    assert (score <= log_z + 1e-6).all()
    counts = expected_counts(log_obs, normalised, FRAMES, STATES)
    for b in range(4):
        t, n = int(FRAMES[b]), int(STATES[b])
        torch.testing.assert_close(posterior[b, :t].sum(1), torch.ones(t))
        steps = path[b, 1:t] - path[b, : t - 1]
        assert path[b, 0] == 0
        assert path[b, t - 1] == n - 1
        assert ((steps == 0) | (steps == 1)).all()
        torch.testing.assert_close(counts.move[b, :t].sum(0)[:n], torch.ones(n))
    torch.testing.assert_close(counts.stay + counts.move, posterior, atol=2e-6, rtol=0)
    durations = hard_durations(path, 12)
    assert (durations.sum(1) == FRAMES).all()
    torch.testing.assert_close(soft_durations(posterior).sum(1), FRAMES.float())
    # A constant added to every state of a frame adds to log Z and changes no posterior.
    shift = torch.randn(4, 40, 1, generator=torch.Generator().manual_seed(5))
    moved = log_likelihood(log_obs + shift, normalised, FRAMES, STATES)
    added = torch.stack([shift[b, : int(FRAMES[b])].sum() for b in range(4)]).double()
    torch.testing.assert_close(moved, log_z + added, rtol=1e-6, atol=1e-5)


def test_the_shortest_utterances(backend):
    for t, n in [(1, 1), (3, 3)]:
        log_obs = torch.randn(1, t, n, generator=torch.Generator().manual_seed(6))
        topology = left_to_right(torch.full((1, n), -0.5))
        only = log_obs[0].diagonal().sum() + topology.move.sum()
        torch.testing.assert_close(
            log_likelihood(log_obs, topology, torch.tensor([t]))[0], only.double(), rtol=1e-6, atol=1e-6
        )
        assert viterbi(log_obs, topology, torch.tensor([t])).path.tolist() == [list(range(n))]


@pytest.mark.parametrize("kind", ["static", "per_frame", "skip", "dense"])
def test_gradients_by_differences(backend, kind):
    g = torch.Generator().manual_seed(7)

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_()

    frames, states, weight = (
        torch.tensor([5, 4]),
        torch.tensor([3, 2]),
        torch.tensor([1.0, -2.0], dtype=torch.float64),
    )
    arcs = {
        "static": [draw(2, 3), draw(2, 3)],
        "per_frame": [draw(2, 5, 3), draw(2, 5, 3)],
        "skip": [draw(2, 3), draw(2, 3), draw(2, 3)],
        "dense": [draw(3), draw(3, 3), draw(3)],
    }[kind]

    def loss(log_obs, *arcs):
        topology = Dense(*arcs) if kind == "dense" else LeftToRight(*arcs)
        return weight * log_likelihood(log_obs, topology, frames, states)

    assert torch.autograd.gradcheck(loss, [draw(2, 5, 3), *arcs])
    if backend == "reference":
        assert torch.autograd.gradgradcheck(loss, [draw(2, 5, 3), *arcs])


def test_the_fast_backend_says_that_it_is_once_differentiable(monkeypatch):
    monkeypatch.setenv("HMMTTS_BACKEND", "cpu")
    log_obs = torch.randn(1, 5, 3, requires_grad=True)
    log_z = log_likelihood(log_obs, unweighted(log_obs), torch.tensor([5]))
    (gradient,) = torch.autograd.grad(log_z.square().sum(), log_obs, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_sampled_paths_follow_the_posterior():
    log_obs, _ = batch()
    draws, small = 600, log_obs / 5
    posterior = posteriors(small, left_to_right_from_logits(torch.zeros(4, 12)), FRAMES, STATES)
    for b in range(4):
        t, n = int(FRAMES[b]), int(STATES[b])
        many = small[b : b + 1, :t].expand(draws, -1, -1)
        topology = left_to_right_from_logits(torch.zeros(draws, 12))
        lengths = torch.full((draws,), t), torch.full((draws,), n)
        drawn = sample(many, topology, *lengths, torch.Generator().manual_seed(b))
        assert torch.equal(drawn, sample(many, topology, *lengths, torch.Generator().manual_seed(b)))
        share = torch.nn.functional.one_hot(drawn, 12).float().mean(0)
        assert (share - posterior[b, :t]).abs().max() < 0.09  # 4.4 standard errors of 600 draws
        assert (drawn[:, -1] == n - 1).all()
    padded = sample(small, left_to_right_from_logits(torch.zeros(4, 12)), FRAMES, STATES)
    assert ((padded == -1) == (torch.arange(40) >= FRAMES[:, None])).all()


def test_an_unknown_backend_and_a_missing_one(monkeypatch, caplog):
    from hmmtts.hmm import backends

    monkeypatch.setenv("HMMTTS_BACKEND", "quantum")
    log_obs, topology = batch()
    with pytest.raises(ValueError, match="HMMTTS_BACKEND must be one of cpu, gpu, reference, got 'quantum'"):
        log_likelihood(log_obs, topology, FRAMES, STATES)
    monkeypatch.delenv("HMMTTS_BACKEND")
    monkeypatch.setattr(backends, "load", lambda name: (_ for _ in ()).throw(ImportError("no numba here")))
    backends._load_or_say_why.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            log_likelihood(log_obs, topology, FRAMES, STATES)
    backends._load_or_say_why.cache_clear()
    assert [record.getMessage() for record in caplog.records].count(
        "the fast HMM backend 'cpu' is off (no numba here); plain torch is used, which is far slower"
    ) == 1
