"""DTW against every path written out, against plain dynamic programming, and against librosa."""

import itertools
import math

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from hmmtts.hmm.dtw import Itakura, SakoeChiba, distances, dtw, dtw_sequences
from hmmtts.hmm.soft_dtw import soft_dtw
from tests.examples import examples

# Steps of each pattern with their weights, in the order in which equals are preferred.
STEPS = {
    "symmetric1": [(1, 1, 1), (1, 0, 1), (0, 1, 1)],
    "symmetric2": [(1, 1, 2), (1, 0, 1), (0, 1, 1)],
    "asymmetric": [(1, 1, 1), (1, 0, 1), (1, 2, 1)],
}
LIBROSA = {
    "symmetric1": {},
    "symmetric2": {"weights_mul": np.array([2.0, 1.0, 1.0])},
    "asymmetric": {"step_sizes_sigma": np.array([[1, 1], [1, 0], [1, 2]])},
}
BANDS = [None, SakoeChiba(1), SakoeChiba(2.5), Itakura(), Itakura(3)]


def inside(band, t, u):
    """Cells that the band allows, from its definition."""
    allowed = np.ones((t, u), bool)
    for i, j in itertools.product(range(t), range(u)):
        if t == 1 or band is None:
            continue
        if isinstance(band, SakoeChiba):
            allowed[i, j] = abs(j - i * (u - 1) / (t - 1)) <= band.radius + 1e-9
        else:  # every slope to and from the corners, relative to the line between them
            x, y, s = i * (u - 1), j * (t - 1), band.slope
            far = (t - 1) * (u - 1)
            ahead, behind = (y <= s * x, y * s >= x), (far - y <= s * (far - x), (far - y) * s >= far - x)
            allowed[i, j] = all(ahead) and all(behind)
    return allowed


def every_path(t, u, pattern):
    """Paths backwards from the end, with the weight of each cell."""
    if (t, u) == (1, 1):
        yield [(0, 0, 1)]
        return
    for down, right, weight in STEPS[pattern]:
        if t > down and u > right:
            yield from ([*path, (t - 1, u - 1, weight)] for path in every_path(t - down, u - right, pattern))


def least(cost, pattern):
    """Plain dynamic programming."""
    t, u = cost.shape
    total = np.full((t, u), np.inf)
    total[0, 0] = cost[0, 0]
    for i, j in itertools.product(range(t), range(u)):
        for down, right, weight in STEPS[pattern]:
            if i >= down and j >= right:
                total[i, j] = min(total[i, j], total[i - down, j - right] + weight * cost[i, j])
    return total[-1, -1]


def check_path(warp, b, cost, pattern):
    """A path of the pattern from corner to corner whose cells sum to the cost that is stated."""
    n = int(warp.length[b])
    cells = list(zip(warp.ref[b, :n].tolist(), warp.hyp[b, :n].tolist(), strict=True))
    assert cells[0] == (0, 0)
    assert cells[-1] == (cost.shape[0] - 1, cost.shape[1] - 1)
    assert (warp.ref[b, n:] == -1).all()
    assert (warp.hyp[b, n:] == -1).all()
    weights = {(down, right): weight for down, right, weight in STEPS[pattern]}
    total = cost[0, 0]
    for before, cell in itertools.pairwise(cells):
        total += weights[cell[0] - before[0], cell[1] - before[1]] * cost[cell]
    assert float(warp.cost[b]) == pytest.approx(total, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("pattern", STEPS)
@pytest.mark.parametrize("band", BANDS, ids=str)
def test_equals_the_enumeration_of_every_path(pattern, band):
    generator = torch.Generator().manual_seed(0)
    sizes = [(5, 5), (4, 6), (6, 4), (1, 1), (5, 4), (4, 5)]
    cost = torch.randn(len(sizes), 6, 6, generator=generator, dtype=torch.float64)
    for b, (t, u) in enumerate(sizes):
        x = np.where(inside(band, t, u), cost[b, :t, :u].numpy(), np.inf)
        totals = [sum(weight * x[i, j] for i, j, weight in path) for path in every_path(t, u, pattern)]
        call = (cost[b : b + 1], torch.tensor([t]), torch.tensor([u]), pattern, band)
        if min(totals) == np.inf:
            with pytest.raises(ValueError, match=f"pair 0 of {t} x {u} frames has no path"):
                dtw(*call)
            continue
        warp = dtw(*call)
        assert float(warp.cost[0]) == pytest.approx(min(totals), rel=1e-12, abs=1e-12)
        check_path(warp, 0, x, pattern)


@pytest.mark.parametrize("pattern", STEPS)
@pytest.mark.parametrize("band", [None, SakoeChiba(9), Itakura(2.5)], ids=str)
def test_longer_than_a_strip(pattern, band):
    """Sizes around the width of the kernel's strips, in one batch with NaN for padding, on two threads."""
    sizes = [(63, 70), (64, 64), (65, 60), (129, 140), (2, 2), (150, 97)]
    cost = torch.full((len(sizes), 150, 140), torch.nan)
    generator = np.random.default_rng(1)
    for b, (t, u) in enumerate(sizes):
        cost[b, :t, :u] = torch.from_numpy(generator.integers(0, 9, (t, u)).astype(np.float32))
    frames = [torch.tensor(side) for side in zip(*sizes, strict=True)]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        warp = dtw(cost, *frames, pattern, band)
    finally:
        torch.set_num_threads(before)
    for b, (t, u) in enumerate(sizes):
        x = np.where(inside(band, t, u), cost[b, :t, :u].double().numpy(), np.inf)
        assert float(warp.cost[b]) == least(x, pattern)
        check_path(warp, b, x, pattern)


@pytest.mark.parametrize("pattern", STEPS)
def test_equals_librosa(pattern):
    x = np.random.default_rng(2).random((120, 90))
    theirs, path = librosa.sequence.dtw(C=x, **LIBROSA[pattern])
    warp = dtw(torch.from_numpy(x)[None], torch.tensor([120]), torch.tensor([90]), pattern)
    assert float(warp.cost[0]) == pytest.approx(theirs[-1, -1], rel=1e-12)
    n = int(warp.length[0])
    assert torch.stack([warp.ref[0, :n], warp.hyp[0, :n]], 1).tolist() == path[::-1].tolist()


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cityblock", "cosine"])
@pytest.mark.parametrize("features", [1, 4, 7])
def test_of_sequences_is_of_their_distances(metric, features):
    generator = torch.Generator().manual_seed(3)
    ref, hyp = (torch.randn(2, n, features, generator=generator, dtype=torch.float64) + 0.1 for n in (70, 80))
    ref[1, 50:], hyp[1, 66:] = torch.nan, torch.inf
    frames = torch.tensor([70, 50]), torch.tensor([80, 66])
    warp = dtw_sequences(ref, frames[0], hyp, frames[1], metric, "symmetric2", SakoeChiba(20))
    for b in range(2):
        sides = ref[b : b + 1, : frames[0][b]], hyp[b : b + 1, : frames[1][b]]
        x = cdist(sides[0][0].numpy(), sides[1][0].numpy(), metric)
        torch.testing.assert_close(distances(*sides, metric)[0], torch.from_numpy(x), atol=1e-12, rtol=1e-9)
        banded = np.where(inside(SakoeChiba(20), *x.shape), x, np.inf)
        assert float(warp.cost[b]) == pytest.approx(least(banded, "symmetric2"), rel=1e-9)


def test_a_stretched_sequence_costs_nothing():
    x = torch.randn(1, 30, 5)
    times = torch.tensor([1, 3, 2] * 10)
    stretched = x.repeat_interleave(times, 1)
    warp = dtw_sequences(x, torch.tensor([30]), stretched, torch.tensor([60]))
    assert float(warp.cost[0]) == 0
    assert warp.ref[0, :60].tolist() == torch.arange(30).repeat_interleave(times).tolist()
    same = dtw_sequences(x, torch.tensor([30]), x, torch.tensor([30]), pattern="asymmetric")
    assert same.ref.tolist()[0][:30] == same.hyp.tolist()[0][:30] == list(range(30))


@examples(60)
@given(data=st.data())
def test_any_costs(data):
    """Ties, negative costs and forbidden cells."""
    t, u = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    pattern = data.draw(st.sampled_from(sorted(STEPS)))
    cell = st.one_of(st.integers(-2, 2).map(float), st.just(math.inf), st.floats(-1e6, 1e6))
    values = data.draw(st.lists(cell, min_size=t * u, max_size=t * u))
    cost = torch.tensor(values, dtype=torch.float64).view(1, t, u)
    x, call = cost[0].numpy(), (cost, torch.tensor([t]), torch.tensor([u]), pattern)
    if least(x, pattern) == np.inf:
        with pytest.raises(ValueError, match="no path"):
            dtw(*call)
    else:
        check_path(dtw(*call), 0, x, pattern)
        assert float(dtw(*call).cost) == pytest.approx(least(x, pattern), rel=1e-12, abs=1e-9)


def test_an_empty_side_has_no_path():
    warp = dtw(torch.rand(3, 4, 5), torch.tensor([0, 4, 2]), torch.tensor([3, 0, 5]))
    assert warp.cost.isnan().tolist() == [True, True, False]
    assert warp.length.tolist()[:2] == [0, 0]
    with pytest.raises(ValueError, match="pair 1 has an empty side"):
        soft_dtw(torch.rand(2, 4, 5), torch.tensor([4, 4]), torch.tensor([3, 0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"pattern": "diagonal"},
            "pattern must be one of symmetric1, symmetric2, asymmetric, got 'diagonal'",
        ),
        ({"band": SakoeChiba(-1)}, "radius must be at least 0, got -1"),
        ({"band": Itakura(1)}, "slope must be more than 1, got 1"),
        ({"cost": torch.tensor([[[0.0, torch.nan]]])}, r"cost is not a number or infinite at \[0, 0, 1\]"),
        ({"hyp_frames": torch.tensor([3])}, r"hyp_frames must be 1 integers from 0 to 2, .* got \[3\]"),
        ({"pattern": "asymmetric"}, "pair 0 of 1 x 2 frames has no path"),
    ],
)
def test_refuses(change, message):
    call = {"cost": torch.zeros(1, 1, 2), "ref_frames": torch.tensor([1]), "hyp_frames": torch.tensor([2])}
    with pytest.raises(ValueError, match=message):
        dtw(**call | change)


@pytest.mark.parametrize("gamma", [0.01, 1.0, 30.0])
def test_soft_dtw_equals_enumeration(gamma):
    """The value, and the gradient: the share of the paths that enter each cell."""
    sizes = [(4, 4), (3, 5), (5, 1), (2, 4)]
    cost = torch.randn(4, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    cost[1, 1, 2] = torch.inf
    real = torch.zeros(4, 5, 5, dtype=torch.bool)
    for b, (t, u) in enumerate(sizes):
        real[b, :t, :u] = True
    cost = torch.where(real, cost, torch.nan).requires_grad_()
    frames = [torch.tensor(side) for side in zip(*sizes, strict=True)]
    soft = soft_dtw(cost, *frames, gamma)
    soft.sum().backward()
    for b, (t, u) in enumerate(sizes):
        paths = [[(i, j) for i, j, _ in path] for path in every_path(t, u, "symmetric1")]
        totals = torch.stack([sum(cost.detach()[b][cell] for cell in path) for path in paths])
        assert float(soft[b].detach()) == pytest.approx(
            float(-gamma * torch.logsumexp(-totals / gamma, 0)), rel=1e-12
        )
        share = torch.zeros(5, 5, dtype=torch.float64)
        for path, weight in zip(paths, (-totals / gamma).softmax(0), strict=True):
            for cell in path:
                share[cell] += weight
        torch.testing.assert_close(cost.grad[b], share, atol=1e-12, rtol=0)


def test_soft_dtw_gradcheck():
    generator = torch.Generator().manual_seed(5)
    ref, hyp = (torch.randn(2, n, 3, generator=generator, dtype=torch.float64) for n in (6, 5))
    frames = torch.tensor([6, 4]), torch.tensor([5, 5])

    def loss(ref, hyp):
        return soft_dtw(distances(ref, hyp), *frames, 0.5, SakoeChiba(2))

    assert torch.autograd.gradcheck(loss, (ref.requires_grad_(), hyp.requires_grad_()))


def test_soft_dtw_tends_to_dtw():
    cost = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(6))
    frames = torch.tensor([40, 30, 1]), torch.tensor([50, 50, 7])
    for band in (None, SakoeChiba(12)):
        hard = dtw(cost, *frames, band=band)
        for gamma in (1e-1, 1e-3, 1e-5):
            soft = soft_dtw(cost, *frames, gamma, band)
            assert (soft <= hard.cost + 1e-9).all()
            assert (soft >= hard.cost - gamma * math.log(3) * 90).all()  # at most three ways at each step
    x = cost[:1].clone().requires_grad_()
    soft_dtw(x, frames[0][:1], frames[1][:1], 1e-7).sum().backward()
    n, warp = int(hard.length[0]), dtw(cost, *frames)
    n = int(warp.length[0])
    on_path = torch.zeros(40, 50)
    on_path[warp.ref[0, :n], warp.hyp[0, :n]] = 1
    torch.testing.assert_close(x.grad[0], on_path)


def test_soft_dtw_in_float32_and_without_gradient():
    cost = torch.rand(1, 30, 30, generator=torch.Generator().manual_seed(7))
    n = torch.tensor([30])
    with pytest.raises(ValueError, match=r"gamma must be more than 0, got 0; .* use dtw"):
        soft_dtw(cost, n, n, 0)
    narrow, wide = cost.clone().requires_grad_(), cost.double().requires_grad_()
    for x in (narrow, wide):
        soft_dtw(x, n, n, 0.1).sum().backward()
    assert narrow.grad.dtype == torch.float32
    torch.testing.assert_close(narrow.grad.double(), wide.grad, atol=1e-7, rtol=0)
    with torch.no_grad():
        assert not soft_dtw(narrow, n, n, 0.1).requires_grad
