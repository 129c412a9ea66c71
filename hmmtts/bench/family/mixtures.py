"""Mixture HMMs beside hmmlearn, pomegranate and plain torch: likelihood, training step, EM to convergence.

b utterances, t frames, d features, k states, m components of each.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hmmtts.bench.peers import mixtures as peers
from hmmtts.bench.race import Contender, Effort, Run, race
from hmmtts.bench.record import Record
from hmmtts.bench.work import Work
from hmmtts.hmm import Dense, em, log_likelihood, sample, start
from hmmtts.hmm.covariance import Diagonal
from hmmtts.hmm.em import Model, Observed
from hmmtts.hmm.gaussian import Mixture, log_densities

FLOOR = 1e-3
TOLERANCE = 1e-4  # nats per frame: EM stops when an iteration gains less


class Task(NamedTuple):
    """Free parameters, as a training holds them, and the data; all is float32."""

    x: Tensor
    mean: Tensor
    log_variance: Tensor
    weight: Tensor
    initial: Tensor
    transition: Tensor

    def model(self) -> Model:
        mixture = Mixture(self.weight.log_softmax(-1), self.mean, Diagonal(self.log_variance.exp()))
        return Model(Dense(self.initial.log_softmax(-1), self.transition.log_softmax(-1)), mixture)

    def log_likelihood(self) -> Tensor:
        (b, t, _), model = self.x.shape, self.model()
        return log_likelihood(log_densities(self.x, model.mixture), model.arcs, torch.full((b,), t))

    def plainly(self) -> Tensor:
        return peers.plain_torch(
            self.x,
            self.mean,
            self.log_variance,
            *(free.log_softmax(-1) for free in (self.weight, self.initial, self.transition)),
        )

    def gradients(self, total: Callable[["Task"], Tensor]) -> tuple[Tensor, ...]:
        parameters = [parameter.detach().requires_grad_() for parameter in self[1:]]
        return torch.autograd.grad(total(Task(self.x, *parameters)).sum(), parameters)

    def double(self) -> "Task":
        return Task._make(part.double() for part in self)


def works(quick: bool) -> list[Work]:
    effort = Effort(seconds=1, rounds=3) if quick else Effort(seconds=20, rounds=40)
    b, t, d = (2, 30, 4) if quick else (32, 1000, 80)
    k, m = 10, 3
    n, u, c = (4, 60, 3) if quick else (100, 1000, 40)
    return [
        Work(f"gmm_forward_b{b}_t{t}_k{k}_m{m}", partial(_forward, (b, t, d, k, m), effort)),
        Work(f"gmm_step_b{b}_t{t}_k{k}_m{m}", partial(_step, (b, t, d, k, m), effort)),
        Work(f"em_{n}x{u}", partial(_em, (n, u, c, k, m))),
    ]


def _task(b: int, t: int, d: int, k: int, m: int) -> Task:
    g = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    return Task(draw(b, t, d), draw(k, m, d), 0.1 * draw(k, m, d), draw(k, m), draw(k), draw(k, k))


def _forward(shape: tuple[int, ...], effort: Effort) -> list[Record]:
    b, t, _, k, m = shape
    task = _task(*shape)
    truth = _few(task).double().log_likelihood()
    lengths = [t] * b

    def ours(task: Task) -> Run:
        return Run(task.log_likelihood, lambda found: found[: len(truth)])

    def torch_loop(task: Task) -> Run:
        return Run(task.plainly, lambda found: found[: len(truth)])

    def hmmlearn(task: Task) -> Run:
        peer, rows = peers.hmmlearn(task.model()), task.x.flatten(0, 1).double().numpy()
        return Run(lambda: peer.score(rows, lengths), None)  # the sum over all utterances

    def pomegranate(task: Task) -> Run:
        peer = peers.pomegranate(task.model())
        return Run(lambda: peer.log_probability(task.x), None)  # with a cost of its own at the end

    contenders = [
        Contender("ours", ours, bar=22),
        Contender("hmmlearn_scaling", hmmlearn),
        Contender("pomegranate", pomegranate),
        Contender("torch_loop", torch_loop),
    ]
    with torch.no_grad():
        return race(f"gmm_forward_b{b}_t{t}_k{k}_m{m}", task, contenders, partial(_error, (truth,)), effort)


def _step(shape: tuple[int, ...], effort: Effort) -> list[Record]:
    b, t, _, k, m = shape
    task = _task(*shape)
    double = task.double()
    truth = double.gradients(Task.log_likelihood)

    def ours(task: Task) -> Run:
        return Run(lambda: task.gradients(Task.log_likelihood), lambda found: found)

    def torch_loop(task: Task) -> Run:
        return Run(lambda: task.gradients(Task.plainly), lambda found: found)

    contenders = [Contender("ours", ours, bar=38), Contender("torch_loop", torch_loop)]
    return race(f"gmm_step_b{b}_t{t}_k{k}_m{m}", task, contenders, partial(_error, truth), effort)


def _em(shape: tuple[int, ...]) -> list[Record]:
    """From one start, with one rule to stop. `error` is how many nats per frame the end lacks to the better one's."""
    n, u, _, k, m = shape
    work, observed = f"em_{n}x{u}", _observed(*shape)
    g = torch.Generator().manual_seed(1)
    label = start.by_sound(observed, k, g)
    first = Model(start.dense_arcs(label, k), start.mixture(observed, label, Diagonal, k, m, FLOOR, g))
    parts = [Observed(*part) for part in zip(*(value.split(16) for value in observed), strict=True)]
    rows, lengths = observed.x.flatten(0, 1).double().numpy(), [u] * n
    frames = n * u

    def ours() -> Model:
        return em.fit(first, parts, 100, TOLERANCE, FLOOR).model

    def hmmlearn() -> Any:
        peer = peers.hmmlearn(first, n_iter=100, tol=TOLERANCE * frames)
        return peer.fit(rows, lengths)

    ours()
    found = min((_timed(ours) for _ in range(3)), key=lambda timed: timed[0])
    reached = {"ours": float(em.expect(found[1], observed).log_likelihood) / frames}
    seconds = {"ours": found[0]}
    try:
        seconds["hmmlearn"], peer = _timed(hmmlearn)
        reached["hmmlearn"] = peer.score(rows, lengths) / frames
    except ImportError as error:
        missing = Record(work, "hmmlearn", None, "s cpu", None, bar=5, reason=str(error))
        return [Record(work, "ours", found[0], "s cpu", 1.0, 0.0), missing]
    better = max(reached.values())
    return [
        Record(
            work,
            name,
            value,
            "s cpu",
            value / found[0],
            better - reached[name],
            None if name == "ours" else 5,
        )
        for name, value in seconds.items()
    ]


def _observed(n: int, u: int, d: int, k: int, m: int) -> Observed:
    """Made by such a model, whose components overlap."""
    g = torch.Generator().manual_seed(0)
    mean = 0.7 * torch.randn(k, m, d, generator=g)
    stay = (0.9 * torch.eye(k) + 0.1 / k).log()
    frames = torch.full((n,), u)
    path = sample(torch.zeros(n, u, k), Dense(torch.zeros(k), stay), frames, generator=g)
    which = torch.randint(m, path.shape, generator=g)
    return Observed(mean[path, which] + torch.randn(n, u, d, generator=g), frames)


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.process_time()
    answer = call()
    return time.process_time() - begun, answer


def _few(task: Task) -> Task:
    return task._replace(x=task.x[:4])


def _error(truth: tuple[Tensor, ...], found: Any) -> float:
    """The largest error of any of the tensors, relative to its largest element."""
    found = (found,) if isinstance(found, Tensor) else found
    return max(float((a.double() - b).abs().max() / b.abs().max()) for a, b in zip(found, truth, strict=True))
