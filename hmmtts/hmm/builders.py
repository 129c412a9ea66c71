"""Topologies from what one knows: durations, phones, limits, levels, forbidden arcs, what another model has counted.

Letters: b utterances, s symbols, n states in order, k states of a dense model, d longest duration, m states of a model
that holds each state several times. Arguments are probabilities and frames, results log-probabilities: every row sums
to one and what is forbidden is -inf. A row is what leaves a state: its arcs and, where a model can end, its end.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hmmtts.hmm.topology import Dense, LeftToRight


def by_durations(
    frames: Float[Tensor, "b n"],
    states: Int[Tensor, "b"] | None = None,
    leap: Float[Tensor, "b n"] | float = 0.0,
) -> LeftToRight:
    """States in order that last so many frames on average: the start of an aligner, or a clock to test one with.

    With the probability `leap`, who leaves a state leaves out the next one too: optional states, such as a pause
    between two words. The last state is never left out.
    """
    _at_least_one("frames", frames)
    leap = torch.as_tensor(leap, dtype=frames.dtype, device=frames.device).expand_as(frames)
    if bool(((leap < 0) | (leap > 1)).any()):
        raise ValueError(f"leap must be a probability, got {float(leap[(leap < 0) | (leap > 1)][0]):g}")
    b, n = frames.shape
    states = torch.full((b,), n) if states is None else states
    beyond = torch.arange(n, device=frames.device) >= states.to(frames.device)[:, None] - 2
    leave, leap = 1 / frames, leap.masked_fill(beyond, 0.0)
    skip = (leave * leap).log() if bool((leap > 0).any()) else None
    return LeftToRight((1 - leave).log(), (leave * (1 - leap)).log(), skip)


def by_phones(
    ids: Int[Tensor, "b s"],
    mean_frames: Float[Tensor, "v"],
    states_per_symbol: int,
    pace: Float[Tensor, "b s"] | float = 1.0,
) -> LeftToRight:
    """Each symbol as long as its kind lasts on average, times `pace`, over equal states.

    Kinds know that a vowel is longer than a stop; `pace` knows the prosody: the speaker's rate, stress, the last
    syllable of a phrase. A symbol lasts at least one frame a state.
    """
    if states_per_symbol < 1:
        raise ValueError(f"states_per_symbol must be at least 1, got {states_per_symbol}")
    symbol = mean_frames[ids] * pace
    return by_durations((symbol / states_per_symbol).clamp(min=1).repeat_interleave(states_per_symbol, 1))


class InOrder(NamedTuple):
    """A left-to-right model whose state i is a copy of state_of[b, i]; beyond `states`, padding is 0.

    Emissions become `log_obs.gather(2, state_of[:, None].expand(-1, t, -1))`, and a path of copies one of states
    `state_of.gather(1, path)`.
    """

    topology: LeftToRight
    state_of: Int[Tensor, "b m"]
    states: Int[Tensor, "b"]


def at_least(
    frames: Float[Tensor, "b n"], fewest: Int[Tensor, "b n"], states: Int[Tensor, "b"] | None = None
) -> InOrder:
    """States in order that last `frames` on average and never less than `fewest`: a chain of copies for each.

    The last copy alone is stayed in, so that a duration is `fewest` and a geometric rest. For limits from above take
    `with_durations` or a semi-Markov model.
    """
    b, n = frames.shape
    states = torch.full((b,), n) if states is None else states
    real = torch.arange(n, device=frames.device) < states.to(frames.device)[:, None]
    bad = real & ((fewest < 1) | (frames < fewest))
    if bool(bad.any()):
        utterance, state = bad.nonzero()[0].tolist()
        raise ValueError(
            f"state {state} of utterance {utterance} cannot last {float(frames[utterance, state]):g} frames on average "
            f"and at least {int(fewest[utterance, state])}: fewest must be from 1 to the average"
        )
    copies = torch.where(real, fewest, 0)
    rows = [torch.arange(n, device=frames.device).repeat_interleave(count) for count in copies]
    state_of = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    place = torch.arange(state_of.shape[1], device=frames.device)
    is_last = place == copies.cumsum(1).gather(1, state_of) - 1
    rest = (frames - fewest + 1).gather(1, state_of)
    return InOrder(by_durations(torch.where(is_last, rest, 1.0)), state_of, copies.sum(1))


class Flat(NamedTuple):
    """A dense model over states that belong to others: state i of it is part of owner[i].

    Emissions of the owners become `log_obs[..., owner]`; for states of a hierarchy, which are their own, they are given.
    """

    topology: Dense
    owner: Int[Tensor, "m"]


def with_durations(model: Dense, laws: Float[Tensor, "k d"]) -> Flat:
    """Any state may follow any other, and each lasts as its law says: laws[:, i] is the probability of i + 1 frames.

    A semi-Markov model as a plain one, each state a chain with an exit of its own probability at every frame (Russell
    and Cook 1987). The model's arcs say what follows a state once it is left, and have none to itself.
    """
    k, d = laws.shape
    if bool((model.transition.diagonal() > -torch.inf).any()):
        raise ValueError(
            "transition must have no arc from a state to itself: how long it lasts, its law says"
        )
    if not torch.allclose(laws.sum(1), torch.ones(k).to(laws), atol=1e-4):
        raise ValueError(f"laws must hold probabilities whose rows sum to 1, got sums {laws.sum(1).tolist()}")
    survival = laws.flip(1).cumsum(1).flip(1)
    exit_ = torch.where(survival > 0, laws / survival.clamp(min=1e-30), 1.0).clamp(max=1)
    exit_[:, -1] = 1
    owner = torch.arange(k, device=laws.device).repeat_interleave(d)
    leaves = exit_.reshape(-1)
    transition = torch.zeros(k * d, k * d, dtype=laws.dtype, device=laws.device)
    transition[:, ::d] = leaves[:, None] * model.transition.exp()[owner]
    inside = torch.arange(k * d - 1, device=laws.device)
    inside = inside[inside % d != d - 1]
    transition[inside, inside + 1] += 1 - leaves[inside]
    initial = torch.zeros_like(leaves)
    initial[::d] = model.initial.exp()
    final = leaves if model.final is None else leaves * model.final.exp()[owner]
    return Flat(Dense(initial.log(), transition.log(), final.log()), owner)


def hierarchical(outer: Dense, inner: Sequence[Dense]) -> Flat:
    """Units made of states: phones of a few states each, say, that follow each other as the outer model says.

    Each inner model says by `final` how probably its unit ends in each state; the outer one then chooses the next unit,
    the same one too. Units of one model keep states of their own.
    """
    if len(inner) != len(outer.initial):
        raise ValueError(
            f"inner must be one model for each of {len(outer.initial)} outer states, got {len(inner)}"
        )
    for unit, model in enumerate(inner):
        if model.final is None:
            raise ValueError(
                f"inner model {unit} must say by `final` how probably its unit ends in each state"
            )
    sizes = torch.tensor([len(model.initial) for model in inner])
    owner = torch.arange(len(inner)).repeat_interleave(sizes).to(outer.initial.device)
    within = torch.block_diag(*(model.transition.exp() for model in inner))
    enter = torch.cat([model.initial for model in inner]).exp()
    leave = torch.cat([model.final for model in inner if model.final is not None]).exp()
    transition = within + leave[:, None] * outer.transition.exp()[owner][:, owner] * enter
    initial = outer.initial.exp()[owner] * enter
    final = None if outer.final is None else (leave * outer.final.exp()[owner]).log()
    return Flat(Dense(initial.log(), transition.log(), final), owner)


def constrained(weights: Float[Tensor, "k k"], allowed: Bool[Tensor, "k k"]) -> Float[Tensor, "k k"]:
    """Probabilities from weights of which only some may stay: the others are 0, and each row is shared anew."""
    if bool((weights < 0).any()):
        raise ValueError("weights must not be negative")
    kept = torch.where(allowed, weights, 0.0)
    total = kept.sum(1, keepdim=True)
    if bool((total <= 0).any()):
        row = int((total[:, 0] <= 0).nonzero()[0])
        raise ValueError(
            f"row {row} has no arc left that is allowed and has weight: allow one, if only to itself"
        )
    return kept / total


def adapted(prior: Dense, counts: Dense, strength: float) -> Dense:
    """The prior moved towards what was counted in new data (maximum a posteriori): a speaker's or a corpus's own arcs.

    `counts` are `expected_counts` of utterances; the prior weighs as much as `strength` visits of each state. What the
    prior forbids stays forbidden.
    """
    if not strength > 0:
        raise ValueError(
            f"strength must be more than 0, got {strength}: without a prior, unseen states have no arcs"
        )
    rows = _rows(prior)
    seen = [counts.transition.sum(0)] + ([] if prior.final is None else [_final(counts).sum(0)[:, None]])
    weight = torch.where(rows > 0, strength * rows + torch.cat(seen, 1).to(rows), 0.0)
    share = weight / weight.sum(1, keepdim=True)
    start = prior.initial.exp()
    initial = torch.where(start > 0, strength * start + counts.initial.sum(0).to(start), 0.0)
    k = len(initial)
    final = None if prior.final is None else share[:, k].log()
    return Dense((initial / initial.sum()).log(), share[:, :k].log(), final)


def _rows(model: Dense) -> Float[Tensor, "k k+1"]:
    ends = [] if model.final is None else [model.final[:, None]]
    return torch.cat([model.transition, *ends], 1).exp()


def _final(counts: Dense) -> Float[Tensor, "b k"]:
    if counts.final is None:
        raise ValueError("counts must be of a model that ends as the prior does: their `final` is missing")
    return counts.final


def _at_least_one(name: str, frames: Tensor) -> None:
    if bool((frames < 1).any()):
        place = (frames < 1).nonzero()[0].tolist()
        raise ValueError(
            f"{name} must be at least 1, got {float(frames[tuple(place)]):g} at {place}: no state lasts less"
        )
