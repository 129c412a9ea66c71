"""HMM, the module: against enumeration, and it learns what it is told to."""

import itertools

import torch

from hmmtts.nn import HMM


def enumerated(model: HMM, x: torch.Tensor) -> tuple[float, torch.Tensor, tuple]:
    initial, transition = model.initial.softmax(-1), model.transition.softmax(-1)
    mean, deviation = (part[0] for part in model.gaussians())
    log_b = torch.distributions.Normal(mean, deviation).log_prob(x[:, None]).sum(-1)
    scores = {}
    for path in itertools.product(range(len(initial)), repeat=len(x)):
        score = initial[path[0]].log() + sum(log_b[t, s] for t, s in enumerate(path))
        scores[path] = score + sum(transition[a, b].log() for a, b in itertools.pairwise(path))
    total = torch.logsumexp(torch.stack(list(scores.values())), 0)
    posterior = torch.zeros(len(x), len(initial))
    for path, score in scores.items():
        posterior[range(len(x)), path] += (score - total).exp()
    return float(total), posterior, max(scores, key=scores.get)


def model() -> HMM:
    torch.manual_seed(0)
    made = HMM(states=3, features=2)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


@torch.no_grad()
def test_hmm_equals_the_sum_over_all_paths():
    made, frames = model(), torch.tensor([5, 3])
    x = torch.randn(2, 5, 2)
    x[1, 3:] = 1e4  # padding
    for i, t in enumerate(frames):
        total, posterior, path = enumerated(made, x[i, :t])
        torch.testing.assert_close(float(made(x, frames)[i]), total, atol=1e-4, rtol=0)
        torch.testing.assert_close(made.posteriors(x, frames)[i, :t], posterior, atol=1e-5, rtol=0)
        assert tuple(made.viterbi(x, frames).path[i, :t].tolist()) == path
    assert (made.viterbi(x, frames).path[1, 3:] == -1).all()


def test_samples_follow_the_model():
    made = model()
    path, x = made.sample(torch.tensor([4000, 2]), torch.Generator().manual_seed(3))
    counts = torch.zeros(3, 3)
    for a, b in itertools.pairwise(path[0].tolist()):
        counts[a, b] += 1
    torch.testing.assert_close(
        counts / counts.sum(1, keepdim=True), made.transition.softmax(-1).detach(), atol=0.06, rtol=0
    )
    mean, deviation = (part[0] for part in made.gaussians())
    for state in range(3):
        drawn = x[0, path[0] == state]
        torch.testing.assert_close(drawn.mean(0), mean[state].detach(), atol=0.15, rtol=0.1)
        torch.testing.assert_close(drawn.std(0), deviation[state].detach(), atol=0.15, rtol=0.1)
    assert (path[1, 2:] == -1).all()
    assert (x[1, 2:] == 0).all()


def test_training_finds_the_states_that_made_the_data():
    torch.manual_seed(0)
    truth = HMM(2, 1)
    with torch.no_grad():
        truth.mean.copy_(torch.tensor([[-2.0], [2.0]]))
        truth.transition.copy_(torch.tensor([[2.0, 0.0], [0.0, 2.0]]))
    frames = torch.full((8,), 50)
    path, x = truth.sample(frames, torch.Generator().manual_seed(1))
    learner = HMM(2, 1)
    with torch.no_grad():
        learner.mean.copy_(torch.tensor([[-0.1], [0.1]]))
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.1)
    for _ in range(60):
        loss = -learner(x, frames).sum() / frames.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < -truth(x, frames).sum().item() / 400 + 0.02
    assert (learner.viterbi(x, frames).path == path).float().mean() > 0.97
