"""CTC by the left-to-right kernels: torch's loss and gradient, every path written out, and a Viterbi of its own."""

import itertools
import math

import pytest
import torch
from torch.nn.functional import ctc_loss

from hmmtts.hmm.ctc import MARGIN, OTHER, ctc, ctc_align, ctc_log_likelihood

TARGETS = torch.tensor([[1, 2, 2, 3], [3, 3, 3, 0], [2, 0, 0, 0], [0, 0, 0, 0], [1, 2, 1, 2], [1, 1, 0, 0]])
LENGTHS = torch.tensor([4, 3, 1, 0, 4, 2])
FRAMES = torch.tensor([9, 5, 6, 4, 4, 3])  # three of them with no frame to spare


def logits(dtype=torch.float64, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(len(FRAMES), 9, classes, generator=generator, dtype=dtype)


def theirs(x, blank=0):
    return ctc_loss(x.log_softmax(2).transpose(0, 1), TARGETS, FRAMES, LENGTHS, blank, reduction="none")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_torch(backend, dtype):
    """Repeats, an empty text, lengths that vary, no frame to spare; NaN in the padding."""
    tolerance = 1e-5 if dtype == torch.float32 else 1e-11
    x = logits(dtype).requires_grad_()
    theirs(x).sum().backward()
    y = x.detach().clone()
    for b, t in enumerate(FRAMES.tolist()):
        y[b, t:] = torch.nan
    y.requires_grad_()
    ours = -ctc_log_likelihood(y.log_softmax(2), FRAMES, TARGETS, LENGTHS)
    ours.sum().backward()
    torch.testing.assert_close(ours, theirs(x).detach().double(), atol=tolerance, rtol=tolerance)
    for b, t in enumerate(FRAMES.tolist()):
        torch.testing.assert_close(y.grad[b, :t], x.grad[b, :t], atol=tolerance, rtol=0)


def test_equals_torch_on_long_batches():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(6, 300, 40, generator=generator)
    targets = torch.randint(1, 40, (6, 80), generator=generator)
    lengths, frames = (
        torch.randint(20, 81, (6,), generator=generator),
        torch.randint(200, 301, (6,), generator=generator),
    )
    log_probs = (4 * x).log_softmax(2)
    truth = ctc_loss(log_probs.double().transpose(0, 1), targets, frames, lengths, reduction="none")
    ours = ctc_log_likelihood(log_probs, frames, targets, lengths)
    torch.testing.assert_close(-ours, truth, rtol=1e-7, atol=0)


def test_another_blank():
    x, targets = logits(), torch.where(TARGETS == 0, 5, TARGETS)
    shifted = torch.cat([x[..., 1:], x[..., :1]], 2)  # class 0 becomes 4, k becomes k - 1
    first = ctc_log_likelihood(x.log_softmax(2), FRAMES, TARGETS, LENGTHS)
    last = ctc_log_likelihood(shifted.log_softmax(2), FRAMES, targets - 1, LENGTHS, blank=4)
    torch.testing.assert_close(first, last, rtol=1e-12, atol=0)


def test_true_gradient_without_softmax():
    """The derivative by log-probabilities that are not normalised: the posterior, which torch's is not."""
    log_probs = logits()[:, :5, :4].requires_grad_()
    frames = FRAMES.clamp(max=5)
    frames[0] = 5
    assert torch.autograd.gradcheck(
        lambda x: ctc_log_likelihood(x, frames, TARGETS, LENGTHS), (log_probs,), atol=1e-6
    )


def collapse(path, blank=0):
    return [label for label, _ in itertools.groupby(path) if label != blank]


def every_reading(x, text):
    """All frame-by-frame labellings that read as the text, with their scores."""
    for path in itertools.product(range(x.shape[1]), repeat=x.shape[0]):
        if collapse(path) == text:
            yield path, math.fsum(float(x[t, k]) for t, k in enumerate(path))


@pytest.mark.parametrize("text", [[], [1], [1, 1], [1, 2], [2, 1, 2], [1, 2, 2]])
def test_equals_enumeration(backend, text):
    """Definition (2) of the paper: the sum over every labelling that collapses to the text, and the best of them."""
    x = logits(classes=3, seed=2)[0, :5].log_softmax(1)
    readings = dict(every_reading(x, text))
    targets = torch.tensor([[*text, 0]])[:, : max(1, len(text))]
    call = (x[None], torch.tensor([5]), targets, torch.tensor([len(text)]))
    truth = torch.logsumexp(torch.tensor(list(readings.values()), dtype=torch.float64), 0)
    assert float(ctc_log_likelihood(*call)) == pytest.approx(float(truth), rel=1e-12)
    alignment = ctc_align(*call)
    best = max(readings, key=readings.__getitem__)
    assert alignment.path[0].tolist() == list(best)
    assert float(alignment.score) == pytest.approx(readings[best], rel=1e-12)
    for i, label in enumerate(text):
        start, end = int(alignment.start[0, i]), int(alignment.end[0, i])
        assert set(best[start:end]) == {label}
        assert label not in (*best[:start][-1:], *best[end:][:1])
        assert float(alignment.confidence[0, i]) == pytest.approx(float(x[start:end, label].mean()), rel=1e-9)


def viterbi_of_graves(x, text, blank=0):
    """Section 4.1's lattice with the maximum for the sum, in plain Python."""
    states = [blank]
    for label in text:
        states += [label, blank]
    score = [(float(x[0, k]) if n < 2 else -math.inf) for n, k in enumerate(states)]
    back = []
    for t in range(1, len(x)):
        now, taken = [], []
        for n, k in enumerate(states):
            before = [n] + [n - 1] * (n > 0) + [n - 2] * (n > 1 and k not in (blank, states[n - 2]))
            best = max(before, key=lambda m: score[m])
            taken.append(best)
            now.append(score[best] + float(x[t, k]))
        score, back = now, [*back, taken]
    n = max(range(max(0, len(states) - 2), len(states)), key=lambda m: score[m])
    path = [n]
    for taken in reversed(back):
        path.append(taken[path[-1]])
    return [states[n] for n in reversed(path)], score[n]


def test_alignment_equals_an_independent_viterbi(backend):
    generator = torch.Generator().manual_seed(3)
    targets, lengths = torch.randint(1, 6, (5, 12), generator=generator), torch.tensor([12, 9, 1, 5, 0])
    frames = torch.tensor([40, 33, 7, 25, 10])
    log_probs = torch.randn(5, 40, 6, generator=generator, dtype=torch.float64).log_softmax(2)
    alignment = ctc_align(log_probs, frames, targets, lengths)
    for b in range(5):
        t, text = int(frames[b]), targets[b, : lengths[b]].tolist()
        path, score = viterbi_of_graves(log_probs[b, :t], text)
        assert float(alignment.score[b]) == pytest.approx(score, rel=1e-12)
        assert alignment.path[b, :t].tolist() == path
        assert (alignment.path[b, t:] == -1).all()
        assert collapse(alignment.path[b, :t].tolist()) == text


def test_open_gaps_take_what_is_not_in_the_text(backend):
    """The text 1 2 within other speech: a frame outside that is not blank costs the margin."""
    spoken = [3, 0, 4, 1, 1, 0, 2, 3, 3]
    log_probs = torch.full((1, 9, 5), math.log(0.01), dtype=torch.float64)
    log_probs[0, torch.arange(9), torch.tensor(spoken)] = math.log(0.96)
    targets, two, nine = torch.tensor([[1, 2]]), torch.tensor([2]), torch.tensor([9])
    around = torch.tensor([[True, False, True]])
    alignment = ctc_align(log_probs, nine, targets, two, open_gaps=around)
    assert alignment.path[0].tolist() == [OTHER, OTHER, OTHER, 1, 1, 0, 2, OTHER, OTHER]
    assert float(alignment.score) == pytest.approx(9 * math.log(0.96) - 4 * MARGIN)
    assert (alignment.start[0].tolist(), alignment.end[0].tolist()) == ([3, 6], [5, 7])


def test_says_what_is_wrong():
    log_probs, two = torch.zeros(1, 2, 4), torch.tensor([2])
    chain = ctc(torch.tensor([[1, 1]]), two)
    assert chain.feasible(torch.tensor([2])).tolist() == [False]
    assert chain.feasible(torch.tensor([3])).tolist() == [True]
    with pytest.raises(ValueError, match="utterance 0 has 4 frames for 7 states, which need at least 5"):
        ctc_log_likelihood(log_probs, two, torch.tensor([[1, 1]]), two)
    with pytest.raises(ValueError, match=r"targets hold the blank \(0\) as label 1 of utterance 0"):
        ctc(torch.tensor([[1, 0]]), two)
