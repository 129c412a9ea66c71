"""HMMLayer against the enumeration of every path, and through copies, averages and half precision."""

import copy
import itertools

import pytest
import torch

from hmmtts.nn import HMMLayer
from hmmtts.nn.emissions.gaussian import Gaussian
from hmmtts.nn.layer import spread
from hmmtts.nn.states import States
from hmmtts.nn.transitions import Learned, Predicted


def layer(transitions=Predicted) -> HMMLayer:
    torch.manual_seed(1)
    made = HMMLayer(States(4, 2), Gaussian(4, 3), transitions(4))
    for parameter in made.parameters():  # away from the flat start, where all paths are equal
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def inputs():
    generator = torch.Generator().manual_seed(2)
    h, x = torch.randn(2, 2, 4, generator=generator), torch.randn(2, 6, 3, generator=generator)
    return h, torch.tensor([2, 1]), x, torch.tensor([6, 5])


def enumerated(made: HMMLayer, h, x) -> tuple[float, torch.Tensor, tuple]:
    """log p, posteriors and the best path of one utterance, from the textbook's sum over all paths."""
    cells = made.states(h[None])
    mean, deviation = (part[0] for part in made.emission.gaussians(cells))
    log_b = torch.distributions.Normal(mean, deviation).log_prob(x[:, None]).sum(-1).double()
    leave = made.transitions.logits(cells)[0].double().sigmoid()
    t, n = log_b.shape
    scores = {}
    for cuts in itertools.combinations(range(1, t), n - 1):
        path = tuple(sum(i >= cut for cut in cuts) for i in range(t))
        score = sum(log_b[i, s] for i, s in enumerate(path))
        for i, s in enumerate(path):
            moves = i + 1 == t or path[i + 1] != s
            score = score + (leave[s].log() if moves else (1 - leave[s]).log())
        scores[path] = score
    total = torch.logsumexp(torch.stack(list(scores.values())), 0)
    posterior = torch.zeros(t, n, dtype=torch.float64)
    for path, score in scores.items():
        posterior[range(t), path] += (score - total).exp()
    return float(total), posterior, max(scores, key=scores.get)


@pytest.mark.parametrize("transitions", [Predicted, Learned])
def test_layer_equals_the_sum_over_all_paths(transitions):
    made, (h, symbols, x, frames) = layer(transitions), inputs()
    trellis = made(h, symbols, x, frames)
    alignment = made.align(trellis)
    for i in range(2):
        t, n = int(frames[i]), 2 * int(symbols[i])
        total, posterior, path = enumerated(made, h[i, : symbols[i]], x[i, :t])
        assert float(trellis.log_likelihood()[i]) == pytest.approx(total, abs=1e-4)
        torch.testing.assert_close(alignment.posterior[i, :t, :n].double(), posterior, atol=1e-4, rtol=0)
        assert tuple(alignment.path[i, :t].tolist()) == path
        assert alignment.durations[i, :n].tolist() == [path.count(s) for s in range(n)]
    assert (alignment.path[1, 5:] == -1).all()
    assert (alignment.posterior[1, 5:] == 0).all()


def test_gradient_of_the_likelihood_is_that_of_the_sum_over_all_paths():
    made, (h, symbols, x, frames) = layer(), inputs()
    made.double()
    h, x = h.double(), x.double()
    weight = made.emission.parameters_of.bias

    def total(value):
        with torch.no_grad():
            weight[0] = value
        return enumerated(made, h[0], x[0])[0]

    at, step = float(weight[0]), 1e-5
    slope = (total(at + step) - total(at - step)) / (2 * step)
    total(at)
    made.float()
    made(h.float(), symbols, x.float(), frames).log_likelihood()[0].backward()
    assert float(made.emission.parameters_of.bias.grad[0]) == pytest.approx(slope, rel=1e-3)


def test_aligned_features_are_expectations():
    made, (h, symbols, x, frames) = layer(), inputs()
    trellis = made(h, symbols, x, frames)
    posterior = trellis.posterior()
    aligned = spread(posterior, trellis.cells)
    expected = sum(posterior[0, 3, n] * trellis.cells[0, n] for n in range(4))
    torch.testing.assert_close(aligned[0, 3], expected)


def test_padding_is_never_read():
    made, (h, symbols, x, frames) = layer(), inputs()
    clean = made.align(made(h, symbols, x, frames))
    h[1, 1:], x[1, 5:] = 1e3, -1e3
    dirty = made.align(made(h, symbols, x, frames))
    assert all(torch.equal(a, b) for a, b in zip(clean, dirty, strict=True))


def test_autocast_leaves_the_layer_in_float32():
    made, (h, symbols, x, frames) = layer(), inputs()
    expected = made(h, symbols, x, frames)
    with torch.autocast("cpu", torch.bfloat16):
        got = made(h, symbols, x, frames)
    assert got.log_obs.dtype == torch.float32
    assert torch.equal(got.log_obs, expected.log_obs)
    assert torch.equal(got.log_likelihood(), expected.log_likelihood())


def test_copies_and_averages_of_the_layer_align_alike():
    made, arguments = layer(), inputs()
    made(*arguments).log_likelihood().sum().backward()
    average = torch.optim.swa_utils.AveragedModel(made)
    average.update_parameters(made)
    expected = made(*arguments).log_likelihood()
    for other in (copy.deepcopy(made), average):
        assert torch.equal(other(*arguments).log_likelihood(), expected)


def test_flat_start_gives_every_state_the_same_density():
    made, (h, symbols, x, frames) = HMMLayer(States(4, 2), Gaussian(4, 3), Predicted(4)), inputs()
    log_obs = made(h, symbols, x, frames).log_obs
    standard = torch.distributions.Normal(0, 1).log_prob(x).sum(-1)
    torch.testing.assert_close(log_obs, standard[..., None].expand_as(log_obs))
