"""The fast kernels work on blocks of states: numbers of states around a block's edges, against the reference in float64."""

import pytest
import torch

from hmmtts.hmm import LeftToRight, expected_counts, log_likelihood, posteriors, viterbi

EDGES = torch.tensor([15, 16, 17, 31, 32, 33, 50])
LONGEST = int(EDGES.max())


def batch(kind: str, spare: int) -> tuple[torch.Tensor, LeftToRight, torch.Tensor]:
    """`spare` frames beyond one for every state; all padding is NaN."""
    g = torch.Generator().manual_seed(spare)
    frames = EDGES + spare
    b, t = len(EDGES), int(frames.max())
    log_obs = 30 * torch.randn(b, t, LONGEST, generator=g)
    arcs = [torch.randn(*((b, t) if kind == "per frame" else (b,)), LONGEST, generator=g) for _ in range(3)]
    if kind == "plain":
        arcs = [torch.zeros(b, LONGEST)] * 2
    elif kind == "arcs":
        arcs[0][:, 5] = float(
            "-inf"
        )  # a state that may not be stayed in: arcs cannot be folded into the emissions
    real = (torch.arange(t) < frames[:, None])[:, :, None] & (torch.arange(LONGEST) < EDGES[:, None])[:, None]
    return log_obs.masked_fill(~real, float("nan")), LeftToRight(*arcs[: 3 if kind == "skips" else 2]), frames


def wide(log_obs: torch.Tensor, topology: LeftToRight) -> tuple[torch.Tensor, LeftToRight]:
    arcs = (None if arc is None else arc.double() for arc in topology)
    return log_obs.double().nan_to_num(0.0), LeftToRight(*arcs)


@pytest.mark.parametrize("kind", ["plain", "arcs", "per frame", "skips"])
@pytest.mark.parametrize("spare", [0, 1, 40])
def test_parity_at_the_edges_of_blocks(kind, spare, monkeypatch):
    log_obs, topology, frames = batch(kind, spare)
    with monkeypatch.context() as patch:
        patch.setenv("HMMTTS_BACKEND", "reference")
        exact = (*wide(log_obs, topology), frames, EDGES)
        truth = [f(*exact) for f in (log_likelihood, posteriors, viterbi, expected_counts)]
    question = (log_obs, topology, frames, EDGES)
    torch.testing.assert_close(log_likelihood(*question), truth[0], rtol=1e-8, atol=1e-6)
    torch.testing.assert_close(posteriors(*question).double(), truth[1], rtol=0, atol=2e-5)
    best = viterbi(*question)
    torch.testing.assert_close(best.score, truth[2].score, rtol=1e-7, atol=1e-4)
    assert (best.path == truth[2].path).float().mean() > 0.999  # float32 may decide a near tie otherwise
    for count, expected in zip(expected_counts(*question), truth[3], strict=True):
        if expected is not None:
            torch.testing.assert_close(count.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("place", [(0, 0), (0, 49), (3, 40), (48, 2), (80, 47), (89, 0), (89, 49)])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_value_is_found_wherever_it_is(place, value):
    """Also where no path can come by: it is a fault of whoever made it."""
    log_obs, topology, frames = batch("plain", 40)
    log_obs[6, place[0], place[1]] = value
    for question in (log_likelihood, posteriors, viterbi):
        with pytest.raises(ValueError, match=f"in utterance 6, frame {place[0]}, state {place[1]}"):
            question(log_obs, topology, frames, EDGES)


def test_a_graph_that_is_kept_gives_the_same_gradient_again():
    log_obs, topology, frames = batch("plain", 40)
    log_obs.requires_grad_()
    total = log_likelihood(log_obs, topology, frames, EDGES).sum()
    total.backward(retain_graph=True)
    assert log_obs.grad is not None
    first = log_obs.grad.clone()
    log_obs.grad.zero_()
    total.backward()
    assert torch.equal(log_obs.grad, first)
