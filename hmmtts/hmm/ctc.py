"""Connectionist temporal classification (Graves et al. 2006) as a left-to-right model of the same kernels.

Letters: b utterances, t frames, v classes (one of them the blank), s labels of a text, n states = 2 s + 3. The states are
start, gap, label, gap, label, ... gap, end. A gap emits the blank, may be left out unless it parts equal labels, and the
first and the last always may. Start and end emit nothing: each takes one frame more, before and after the audio, so that
a model which begins in one state and ends in one says that a path may begin and end in a blank or in a label.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hmmtts.hmm.inference import hard_durations, log_likelihood, viterbi
from hmmtts.hmm.topology import LeftToRight

NOTHING = -1  # the class of start and end: score 0
OTHER = -2  # the class of an open gap: what is not in the text
MARGIN = (
    1.0  # nats by which an open gap is worse than the best class of a frame, so that the text is preferred
)
AROUND = 2  # frames that start and end take
NEVER = float("-inf")


class CTC(NamedTuple):
    """The chain of every utterance: its arcs, the class that each state emits, and how many states it has."""

    topology: LeftToRight
    classes: Int[Tensor, "b n"]
    states: Int[Tensor, "b"]
    blank: int

    def feasible(self, frames: Int[Tensor, "b"]) -> Bool[Tensor, "b"]:
        """Which utterances have frames enough for their labels, and one more wherever two equal ones follow."""
        return self.topology.feasible(frames + AROUND, self.states)


class Trellis(NamedTuple):
    """What `log_likelihood`, `posteriors`, `viterbi` and `expected_counts` take, in their order."""

    log_obs: Float[Tensor, "b t+2 n"]
    topology: LeftToRight
    frames: Int[Tensor, "b"]
    states: Int[Tensor, "b"]


def ctc(
    targets: Int[Tensor, "b s"],
    lengths: Int[Tensor, "b"],
    blank: int = 0,
    open_gaps: Bool[Tensor, "b s+1"] | None = None,
) -> CTC:
    """The chain of each text. An open gap takes any audio instead of the blank: what is not in the text."""
    b, s = targets.shape
    place = torch.arange(s, device=targets.device)
    real = place < lengths.to(targets.device)[:, None]
    if bool((real & (targets == blank)).any()):
        utterance, label = (real & (targets == blank)).nonzero()[0].tolist()
        raise ValueError(
            f"targets hold the blank ({blank}) as label {label} of utterance {utterance}; leave blanks out"
        )
    labels = torch.where(real, targets, blank)
    classes = torch.full((b, 2 * s + 3), blank, dtype=torch.int64, device=targets.device)
    classes[:, 2:-1:2] = labels
    if open_gaps is not None:
        classes[:, 1::2] = torch.where(open_gaps, OTHER, blank)
    classes[:, 0] = NOTHING
    end = 2 * lengths.to(targets.device)[:, None] + 2
    state = torch.arange(2 * s + 3, device=targets.device)
    classes = torch.where(state == end, NOTHING, classes)

    stay = torch.where((state == 0) | (state == end), NEVER, 0.0)
    skip = torch.full(classes.shape, NEVER, device=targets.device)
    skip[:, 0] = torch.where(real.any(1), 0.0, NEVER)
    differs = torch.ones_like(real)
    differs[:, :-1] = labels[:, :-1] != labels[:, 1:]
    skip[:, 2:-1:2] = torch.where(real & (differs | (place == lengths.to(place)[:, None] - 1)), 0.0, NEVER)
    return CTC(LeftToRight(stay, torch.zeros_like(skip), skip), classes, end[:, 0] + 1, blank)


def trellis(
    log_probs: Float[Tensor, "b t v"], frames: Int[Tensor, "b"], chain: CTC, margin: float = MARGIN
) -> Trellis:
    """The scores of the states, taken from the log-probabilities of the classes; differentiable."""
    frames = frames.to(log_probs.device)
    b, t, _ = log_probs.shape
    index = chain.classes.clamp(min=0)[:, None].expand(b, t, -1)
    scores = log_probs.gather(2, index).masked_fill((chain.classes == NOTHING)[:, None], 0.0)
    is_open = chain.classes == OTHER
    if bool(is_open.any()):
        scores = torch.where(is_open[:, None], other(log_probs, chain.blank, margin)[:, :, None], scores)
    scores = torch.nn.functional.pad(scores, (0, 0, 1, 1))
    outside = torch.arange(t + AROUND, device=frames.device) == frames[:, None] + 1
    scores = torch.where(outside[:, :, None], 0.0, scores)
    return Trellis(scores, chain.topology, frames + AROUND, chain.states)


def other(log_probs: Float[Tensor, "*b t v"], blank: int, margin: float = MARGIN) -> Float[Tensor, "*b t"]:
    """The score of an open gap: the blank, or whatever is most probable less the margin."""
    return torch.maximum(log_probs.amax(-1) - margin, log_probs[..., blank])


def ctc_log_likelihood(
    log_probs: Float[Tensor, "b t v"],
    frames: Int[Tensor, "b"],
    targets: Int[Tensor, "b s"],
    lengths: Int[Tensor, "b"],
    blank: int = 0,
) -> Float[Tensor, "b"]:
    """log p(text | audio): minus the CTC loss, float64, with the true gradient by every log-probability.

    torch's own gradient is that only behind a log_softmax.
    """
    return log_likelihood(*trellis(log_probs, frames, ctc(targets, lengths, blank)))


class CTCAlignment(NamedTuple):
    """Label i is spoken in the frames start[b, i] to end[b, i] (exclusive); beyond `lengths` both are 0."""

    path: Int[Tensor, "b t"]  # the class at every frame, OTHER in open gaps; -1 in the padding
    start: Int[Tensor, "b s"]
    end: Int[Tensor, "b s"]
    confidence: Float[Tensor, "b s"]  # mean log-probability of the label over its frames
    score: Float[Tensor, "b"]  # log-probability of the path


def ctc_align(
    log_probs: Float[Tensor, "b t v"],
    frames: Int[Tensor, "b"],
    targets: Int[Tensor, "b s"],
    lengths: Int[Tensor, "b"],
    blank: int = 0,
    open_gaps: Bool[Tensor, "b s+1"] | None = None,
    margin: float = MARGIN,
) -> CTCAlignment:
    """Forced alignment: the most probable path that reads as the text."""
    chain = ctc(targets, lengths, blank, open_gaps)
    lattice = trellis(log_probs, frames, chain, margin)
    best = viterbi(*lattice)
    durations = hard_durations(best.path, chain.classes.shape[1])
    ends = durations.cumsum(1) - 1  # without the frame of the start
    labels = slice(2, -1, 2)
    real = torch.arange(targets.shape[1], device=ends.device) < lengths.to(ends.device)[:, None]
    start = torch.where(real, ends[:, 1:-2:2], 0)
    end = torch.where(real, ends[:, labels], 0)
    path = best.path[:, 1:-1]
    inside = torch.arange(path.shape[1], device=path.device) < frames.to(path.device)[:, None]
    state = torch.where(inside, path, 0)
    classes = torch.where(inside, chain.classes.gather(1, state), -1)
    on_path = lattice.log_obs.detach()[:, 1:-1].gather(2, state[:, :, None])[:, :, 0]
    total = torch.zeros(durations.shape, dtype=torch.float64, device=path.device)
    total.scatter_add_(1, state, torch.where(inside, on_path, 0.0).double())
    confidence = torch.where(real, total[:, labels] / durations[:, labels].clamp(min=1), 0.0)
    return CTCAlignment(classes, start, end, confidence, best.score)
