"""Where EM starts: which frames belong to which state, at first, and what model follows from that.

Letters: b utterances, t frames, n frames of all utterances, d features, k states (or clusters), m components of each.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.hmm.covariance import Covariance
from hmmtts.hmm.em import Observed, estimate, gather
from hmmtts.hmm.gaussian import Mixture
from hmmtts.hmm.topology import Dense, LeftToRight, left_to_right

ENOUGH = 20_000  # frames to find clusters in


class Clusters(NamedTuple):
    centre: Float[Tensor, "k d"]
    label: Int[Tensor, "n"]


def k_means(
    x: Float[Tensor, "n d"],
    clusters: int,
    tries: int = 4,
    rounds: int = 20,
    generator: torch.Generator | None = None,
) -> Clusters:
    """The tightest of a few tries, each from the seeds of k-means++ (Arthur & Vassilvitskii 2007), on a random part
    of many frames."""
    if len(x) < clusters:
        raise ValueError(f"{clusters} clusters need at least as many frames, got {len(x)}")
    chosen = torch.randperm(len(x), generator=generator)[: max(ENOUGH, clusters)].to(x.device)
    part = x[chosen]
    found = [
        _lloyd(part, _seeds(part, clusters, generator), rounds) for _ in range(tries if clusters > 1 else 1)
    ]
    centre = min(found, key=lambda centre: _looseness(part, centre))
    return Clusters(centre, _nearest(x, centre))


def _lloyd(x: Float[Tensor, "n d"], centre: Float[Tensor, "k d"], rounds: int) -> Float[Tensor, "k d"]:
    for _ in range(rounds):
        label = _nearest(x, centre)
        sums = torch.zeros_like(centre).index_add_(0, label, x)
        size = torch.bincount(label, minlength=len(centre))[:, None]
        moved = torch.where(size > 0, sums / size, centre)
        if torch.equal(moved, centre):
            break
        centre = moved
    return centre


def _looseness(x: Float[Tensor, "n d"], centre: Float[Tensor, "k d"]) -> float:
    return float((x - centre[_nearest(x, centre)]).square().sum())


def _seeds(x: Float[Tensor, "n d"], clusters: int, generator: torch.Generator | None) -> Float[Tensor, "k d"]:
    """Each new seed is a frame drawn in proportion to its squared distance from the seeds before."""
    seeds = [x[int(torch.randint(len(x), (), generator=generator))]]
    far = (x - seeds[0]).square().sum(1)
    for _ in range(clusters - 1):
        weight = far.cpu() if bool(far.sum() > 0) else torch.ones(len(x))
        seeds.append(x[int(torch.multinomial(weight, 1, generator=generator))])
        far = torch.minimum(far, (x - seeds[-1]).square().sum(1))
    return torch.stack(seeds)


def _nearest(x: Float[Tensor, "n d"], centre: Float[Tensor, "k d"]) -> Int[Tensor, "n"]:
    middle = centre.mean(0)
    near = centre - middle
    return torch.addmm(-0.5 * near.square().sum(1), x - middle, near.T).argmax(1)


def by_sound(observed: Observed, states: int, generator: torch.Generator | None = None) -> Int[Tensor, "b t"]:
    """A state for each frame, by k-means over all frames; -1 in the padding."""
    real = _real(observed)
    label = torch.full(real.shape, -1, dtype=torch.int64, device=real.device)
    label[real] = k_means(observed.x[real], states, generator=generator).label
    return label


def in_order(observed: Observed, states: int) -> Int[Tensor, "b t"]:
    """A state for each frame, every utterance cut into equal parts; -1 in the padding."""
    frames = observed.frames.to(observed.x.device)[:, None]
    t = torch.arange(observed.x.shape[1], device=observed.x.device)
    return torch.where(t < frames, t * states // frames, -1)


def dense_arcs(label: Int[Tensor, "b t"], states: int) -> Dense:
    """Arcs as often as the labels take them, and each once more: none is impossible."""
    pairs = (label[:, :-1] * states + label[:, 1:])[label[:, 1:] >= 0]
    counts = 1.0 + torch.bincount(pairs, minlength=states**2).view(states, states)
    first = 1.0 + torch.bincount(label[:, 0], minlength=states)
    return Dense((first / first.sum()).log(), (counts / counts.sum(1, keepdim=True)).log())


def ordered_arcs(frames: Int[Tensor, "b"], states: int) -> LeftToRight:
    """Every state lasts as long as the others, on average over the utterances."""
    stay = 1 - states / frames.double().mean().clamp(min=states + 1)
    return left_to_right(stay.log().float().expand(1, states).clone())


def mixture(
    observed: Observed,
    label: Int[Tensor, "b t"],
    kind: type[Covariance],
    states: int,
    components: int,
    floor: float,
    generator: torch.Generator | None = None,
) -> Mixture:
    """Of the frames with each label, the components found in them by k-means."""
    x, own = observed.x[_real(observed)], label[label >= 0]
    before = flat(observed, kind, states, components, generator)
    weight = x.new_zeros(len(x), components, states)
    for state in range(states):
        there = (own == state).nonzero()[:, 0]
        if len(there) >= components:
            weight[there, k_means(x[there], components, generator=generator).label, state] = 1.0
    return estimate(before, gather(before, x, weight.flatten(1)), floor)


def flat(
    observed: Observed,
    kind: type[Covariance],
    states: int,
    components: int,
    generator: torch.Generator | None = None,
) -> Mixture:
    """All variances are those of the data, all means near its mean: a tenth of a deviation away, at random, since EM
    could not tell equal ones apart."""
    x = observed.x[_real(observed)]
    variance, mean = torch.var_mean(x.double(), 0, correction=0)
    away = torch.randn(states, components, x.shape[1], generator=generator).to(x.device)
    return Mixture(
        torch.full((states, components), 1 / components, device=x.device).log().to(x.dtype),
        (mean + 0.1 * variance.sqrt() * away).to(x.dtype),
        kind.alike(variance.clamp(min=1e-6).to(x.dtype), states, components),
    )


def _real(observed: Observed) -> Tensor:
    x, frames = observed
    return torch.arange(x.shape[1], device=x.device) < frames.to(x.device)[:, None]
