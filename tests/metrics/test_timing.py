"""Boundaries, frames and durations: by hand, against a frame-by-frame count, and the rules for NaN and padding."""

import numpy as np
import pytest
import torch

from hmmtts.metrics.functional import (
    Spans,
    boundary_errors,
    boundary_figures,
    duration_errors,
    duration_figures,
    duration_moments,
    frame_accuracy,
    spans_of_frames,
    uniform_spans,
)

# Utterance 0: a b | pause | c, then silence to 0.7 s. Utterance 1: two phones and padding.
STARTS = [[0.0, 0.1, 0.3, 0.5], [0.05, 0.2, 0.0, 0.0]]
ENDS = [[0.1, 0.3, 0.5, 0.6], [0.2, 0.4, 0.0, 0.0]]
SPOKEN = torch.tensor([[True, True, False, True], [True, True, True, True]])
SYMBOLS = torch.tensor([4, 2])
SECONDS = torch.tensor([0.7, 0.4], dtype=torch.float64)
NAN = float("nan")


def spans(starts=STARTS, ends=ENDS) -> Spans:
    return Spans(torch.tensor(starts, dtype=torch.float64), torch.tensor(ends, dtype=torch.float64))


def perturbed(seed: int = 0, scale: float = 0.03) -> Spans:
    """Edges moved at random, in order."""
    generator = torch.Generator().manual_seed(seed)
    edges = torch.stack(spans(), -1).flatten(1)[:, :6].clone()
    moved = (
        (edges + scale * torch.randn(edges.shape, generator=generator, dtype=torch.float64))
        .sort(1)
        .values.clamp(min=0)
    )
    starts, ends = torch.stack(spans()).clone()
    starts[:, :3], ends[:, :3] = moved[:, 0::2], moved[:, 1::2]
    return Spans(starts, ends)


def test_which_boundaries_are_scored():
    """Every start; an end only before a pause (utterance 0: b and c) or at the end (utterance 1: its second phone)."""
    errors = boundary_errors(spans(), spans(), SYMBOLS, SPOKEN)
    scored = [[(0, 0), (1, 0), (1, 1), (3, 0), (3, 1)], [(0, 0), (1, 0), (1, 1)]]
    assert [(~row.isnan()).nonzero().tolist() for row in errors] == [
        [list(cell) for cell in row] for row in scored
    ]
    assert errors.nansum() == 0


def test_boundary_errors_by_hand():
    late = Spans(spans().starts + 0.012, spans().ends + 0.030)
    errors = boundary_errors(spans(), late, SYMBOLS, SPOKEN)
    assert errors[0, :, 0].tolist() == pytest.approx([12, 12, NAN, 12], nan_ok=True)
    assert errors[0, :, 1].tolist() == pytest.approx([NAN, 30, NAN, 30], nan_ok=True)
    early = boundary_errors(late, spans(), SYMBOLS, SPOKEN)
    assert early[1, 0, 0].item() == pytest.approx(-12)


def test_boundary_figures_by_hand():
    figures = boundary_figures(torch.tensor([0.0, 10.0, -20.0, NAN, 45.0, 12.0]))
    assert figures.boundaries == 5
    assert figures.median_ms == 12
    assert figures.mean_ms.item() == pytest.approx(87 / 5)
    assert figures.bias_ms == 10
    assert {ms: share.item() for ms, share in figures.within.items()} == pytest.approx(
        {10: 0.4, 20: 0.8, 25: 0.8, 50: 1}
    )
    # Less the bias: -10, 0, -30, 35, 2.
    assert {ms: share.item() for ms, share in figures.debiased_within.items()} == pytest.approx(
        {10: 0.6, 20: 0.6, 25: 0.6, 50: 1}
    )
    even = boundary_figures(torch.tensor([1.0, 2.0, 4.0, 9.0]))
    assert even.median_ms == 3


def test_float32_times_do_not_push_an_error_over_the_limit():
    edges = torch.arange(0, 20, 0.01)
    ref = Spans(edges[None, :-1], edges[None, 1:])
    hyp = Spans(ref.starts + 0.02, ref.ends + 0.02)
    count, spoken = torch.tensor([len(edges) - 1]), torch.ones(1, len(edges) - 1, dtype=torch.bool)
    assert boundary_figures(boundary_errors(ref, hyp, count, spoken)).within[20] == 1


def frame_by_frame(ref: Spans, hyp: Spans, row: int, step: float) -> tuple[float, float]:
    """The definition, written as a loop over frames."""
    phones = [i for i in range(SYMBOLS[row]) if SPOKEN[row, i]]

    def place(side: Spans, moment: float) -> tuple[str, int]:
        before = 0
        for number, phone in enumerate(phones):
            if side.starts[row, phone] <= moment < side.ends[row, phone]:
                return "phone", number
            before += bool(side.ends[row, phone] <= moment)
        return "pause", before

    moments = [(i + 0.5) * step for i in range(1000) if (i + 0.5) * step < SECONDS[row]]
    truth, guess = [place(ref, m) for m in moments], [place(hyp, m) for m in moments]
    right = [a == b for a, b in zip(truth, guess, strict=True)]
    in_phone = [r for r, a in zip(right, truth, strict=True) if a[0] == "phone"]
    return float(np.mean(right)), float(np.mean(in_phone))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("step", [0.005, 0.0125])
def test_frame_accuracy_frame_by_frame(seed, step):
    accuracy = frame_accuracy(spans(), perturbed(seed), SYMBOLS, SPOKEN, SECONDS, step)
    for row in range(2):
        overall, spoken = frame_by_frame(spans(), perturbed(seed), row, step)
        assert accuracy.overall[row].item() == pytest.approx(overall, abs=1e-12)
        assert accuracy.spoken[row].item() == pytest.approx(spoken, abs=1e-12)


def test_frame_accuracy_wants_the_instance_not_the_label():
    """Shifted by a whole phone every frame is wrong, whatever the labels say."""
    edges = torch.arange(6, dtype=torch.float64)[None] / 10
    ref = Spans(edges[:, :-1], edges[:, 1:])
    shifted = Spans(ref.starts + 0.1, ref.ends + 0.1)
    count, spoken, seconds = torch.tensor([5]), torch.ones(1, 5, dtype=torch.bool), torch.tensor([0.5])
    assert frame_accuracy(ref, ref, count, spoken, seconds).overall == 1
    assert frame_accuracy(ref, shifted, count, spoken, seconds).overall == 0


def test_unknown_times_are_left_out():
    unknown = Spans(torch.full((2, 4), NAN), torch.full((2, 4), NAN))
    accuracy = frame_accuracy(unknown, spans(), SYMBOLS, SPOKEN, SECONDS)
    assert accuracy.overall.isnan().all()
    assert accuracy.spoken.isnan().all()
    nothing = boundary_figures(boundary_errors(unknown, spans(), SYMBOLS, SPOKEN))
    assert nothing.boundaries == 0
    assert all(
        value.isnan()
        for value in (*nothing[1:4], *nothing.within.values(), *nothing.debiased_within.values())
    )
    durations = duration_errors(torch.full((1, 2), NAN), torch.ones(1, 2), torch.tensor([2]), SPOKEN[:1, :2])
    assert durations.phones == 0
    assert all(value.isnan() for value in durations[:3])


def test_masked_equals_unpadded():
    hyp = perturbed(3)
    alone = [Spans(*(x[1:, :2] for x in side)) for side in (spans(), hyp)]
    batch = boundary_errors(spans(), hyp, SYMBOLS, SPOKEN)
    assert torch.equal(
        batch[1:, :2].nan_to_num(-1e9), boundary_errors(*alone, SYMBOLS[1:], SPOKEN[1:, :2]).nan_to_num(-1e9)
    )
    assert batch[1, 2:].isnan().all()
    accuracy = frame_accuracy(spans(), hyp, SYMBOLS, SPOKEN, SECONDS)
    bare = frame_accuracy(*alone, SYMBOLS[1:], SPOKEN[1:, :2], SECONDS[1:])
    assert [value[1].item() for value in accuracy] == [value.item() for value in bare]
    ref, other = spans().ends - spans().starts, hyp.ends - hyp.starts
    assert torch.equal(
        duration_moments(ref[1:], other[1:], SYMBOLS[1:], SPOKEN[1:]),
        duration_moments(ref[1:, :2], other[1:, :2], SYMBOLS[1:], SPOKEN[1:, :2]),
    )


def test_durations_by_hand_and_against_numpy():
    ref = torch.tensor([[0.1, 0.2, 9.0, 0.3]], dtype=torch.float64)
    hyp = torch.tensor([[0.12, 0.15, 1.0, 0.3]], dtype=torch.float64)
    figures = duration_errors(ref, hyp, torch.tensor([4]), SPOKEN[:1])  # the third is a pause
    assert figures.accuracy.item() == pytest.approx(1 - 0.07 / 0.6)
    assert figures.rmse_ms.item() == pytest.approx(1000 * ((0.02**2 + 0.05**2) / 3) ** 0.5)
    assert figures.correlation.item() == pytest.approx(np.corrcoef([0.1, 0.2, 0.3], [0.12, 0.15, 0.3])[0, 1])
    assert figures.phones == 3
    far = duration_errors(ref, hyp * 10, torch.tensor([4]), SPOKEN[:1])
    assert far.accuracy == 0


def test_duration_moments_add_up_and_identity():
    torch.manual_seed(0)
    ref, hyp = torch.rand(4, 7, dtype=torch.float64), torch.rand(4, 7, dtype=torch.float64)
    symbols, spoken = torch.tensor([7, 3, 5, 1]), torch.rand(4, 7) > 0.2
    whole = duration_moments(ref, hyp, symbols, spoken)
    parts = sum(
        duration_moments(ref[i : i + 1], hyp[i : i + 1], symbols[i : i + 1], spoken[i : i + 1])
        for i in range(4)
    )
    assert torch.allclose(whole, parts, atol=1e-12)
    same = duration_figures(duration_moments(ref, ref, symbols, spoken))
    assert same.accuracy == 1
    assert same.rmse_ms == 0
    assert same.correlation.item() == pytest.approx(1)
    never = duration_errors(ref, torch.full_like(ref, 0.1), symbols, spoken)
    assert never.correlation.isnan()


def test_spans_of_frames():
    """Frames 0..9 centred on i * 10 ms: three, none, seven. Edges lie halfway between centres."""
    made = spans_of_frames(torch.tensor([[3, 0, 7]]), hop=0.01)
    assert made.starts[0].tolist() == pytest.approx([0, 0.025, 0.025])
    assert made.ends[0].tolist() == pytest.approx([0.025, 0.025, 0.095])
    later = spans_of_frames(torch.tensor([[3, 7]]), hop=0.01, offset=0.005)
    assert later.ends[0].tolist() == pytest.approx([0.03, 0.1])


def test_uniform_spans():
    made = uniform_spans(torch.tensor([2, 4]), torch.tensor([1.0, 2.0]), size=4)
    assert made.starts[0, :2].tolist() == [0, 0.5]
    assert made.ends[1].tolist() == [0.5, 1, 1.5, 2]
