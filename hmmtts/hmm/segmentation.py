"""Where the utterances of a long text lie in long audio (after Kürzinger et al. 2020, "CTC-segmentation").

Letters: t frames, v classes, s labels of one utterance, n states. The audio may begin before the text and end after it,
and may hold something else between two utterances. The best path is exact, and the memory is that of the scores, not of
t x n cells: an hour against its text fits.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.hmm.ctc import MARGIN, OTHER, ctc, other

WINDOW = 30  # frames over which the weakest place of a segment is averaged


class Segment(NamedTuple):
    """One utterance: frames from `start` to `end` (exclusive), and those of each label.

    Confidences are between 0 and 1: how probable the text's classes are beside the most probable ones, as a geometric
    mean over the frames. `weakest` is that of the worst WINDOW frames, where a word is missing or misread.
    """

    start: int
    end: int
    confidence: float
    weakest: float
    label_start: Int[Tensor, "s"]
    label_end: Int[Tensor, "s"]


def segment(
    log_probs: Float[Tensor, "t v"],
    texts: Sequence[Int[Tensor, "s"]],
    blank: int = 0,
    open_between: bool = True,
    margin: float = MARGIN,
) -> list[Segment]:
    """The segments of utterances spoken in this order.

    Outside the text, a frame that is not blank costs `margin` nats. It should be near the surprise of a frame that the
    emissions mishear: less, and doubtful edges of the text are left out; more, and the text reaches into other speech.
    """
    if not texts or any(len(text) == 0 for text in texts):
        raise ValueError("texts must be at least one utterance of at least one label each")
    if not bool((log_probs < torch.inf).all()):
        raise ValueError("log_probs hold NaN or +inf; they are log-probabilities, finite or -inf")
    labels = torch.cat([torch.as_tensor(text) for text in texts]).cpu()
    lengths = np.array([len(text) for text in texts])
    chain = ctc(labels[None], torch.tensor([len(labels)]), blank, _open_gaps(lengths, open_between)[None])
    if not bool(chain.feasible(torch.tensor([len(log_probs)]))):
        raise ValueError(
            f"{len(log_probs)} frames are too few for {len(labels)} labels: is this the text of another recording?"
        )
    given = log_probs.detach().float().cpu()
    scores = torch.cat([given, other(given, blank, margin)[:, None]], 1)
    classes = chain.classes[0, 1:-1]
    columns = torch.where(classes == OTHER, scores.shape[1] - 1, classes)
    path = torch.from_numpy(_best_path(scores, columns, _skips(chain.topology.skip)))
    behind = scores.gather(1, columns[path][:, None])[:, 0] - given.amax(1)
    return _segments(path, behind.double(), lengths)


def _open_gaps(lengths: np.ndarray, between: bool) -> Tensor:
    gaps = torch.zeros(int(lengths.sum()) + 1, dtype=torch.bool)
    gaps[[0, -1]] = True
    gaps[lengths.cumsum()] |= between
    return gaps


def _skips(skip: Tensor | None) -> Float[np.ndarray, "n"]:
    """The arc that leads into a state, where the topology has the one that leaves it."""
    assert skip is not None
    return np.concatenate([np.full(2, -np.inf), skip[0, 1:-3].double().numpy()])


def _best_path(
    scores: Float[Tensor, "t v"], columns: Int[Tensor, "n"], skips: Float[np.ndarray, "n"]
) -> Int[np.ndarray, "t"]:
    from hmmtts.hmm.backends.cpu import long_text

    long_text.make_ready()
    path = np.empty(len(scores), np.int64)
    total = long_text.best_path(scores.contiguous().numpy(), columns.numpy(), skips, path)
    if total == -np.inf:
        raise ValueError("every path has probability 0: some label is impossible wherever it could be")
    return path


def _segments(path: Int[Tensor, "t"], behind: Float[Tensor, "t"], lengths: np.ndarray) -> list[Segment]:
    """`behind`: by how much the path's class is less probable than the best. Label i is state 2 i + 1."""
    states = 2 * torch.arange(int(lengths.sum())) + 1
    first, last = (torch.searchsorted(path, states, right=right) for right in (False, True))
    total = torch.nn.functional.pad(behind.cumsum(0), (1, 0))
    found: list[Segment] = []
    for end in lengths.cumsum():
        begin = end - lengths[len(found)]
        start, stop = int(first[begin]), int(last[end - 1])
        width = min(WINDOW, stop - start)
        inside = total[start : stop + 1]
        mean, worst = (
            (inside[-1] - inside[0]) / (stop - start),
            ((inside[width:] - inside[:-width]) / width).min(),
        )
        found.append(
            Segment(start, stop, float(mean.exp()), float(worst.exp()), first[begin:end], last[begin:end])
        )
    return found
