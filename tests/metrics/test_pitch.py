"""F0 errors: against other tools and true tracks, identities, undefined is NaN, padding changes nothing."""

import math

import numpy as np
import pytest
import torch

from hmmtts.metrics.functional import compare_speech, constant_pitch, pitch_errors
from tests.data import needs_data
from tests.metrics.reference import CHOSEN, FOLDER, PAIRS, both, world

NAMES = {
    "f0_rmse_hz": "rmse_hz",
    "f0_rmse_ln": "rmse_logf0",
    "f0_rmse_cents": "rmse_cents",
    "vuv_error": "vuv_error",
    "f0_covoiced_frames": "both_voiced",
}


@needs_data
@pytest.mark.parametrize("pair", CHOSEN)
def test_harvest_of_the_reference_pairs(pair):
    for pairing, theirs in (("index", "f0_nodtw"), ("dtw", "f0_dtw_world_path")):
        ours = compare_speech(*both(pair), pairing)._asdict()
        for name, other in NAMES.items():
            expected = PAIRS[pair][theirs]["harvest"][other]
            assert abs(ours[name] - expected) <= max(0.03 * expected, 1e-3), (pairing, name)


@needs_data
@pytest.mark.parametrize("side", ["ref", "test"])
def test_harvest_against_the_true_track(side):
    """The track that flite's waveform was made from."""
    name = PAIRS["A0"][side].removesuffix(".wav")
    truth, tracked = (
        np.load(FOLDER / "features" / f"{name}_f0true.npy").astype(np.float64),
        world(f"{name}.wav").f0,
    )
    frames = min(len(truth), len(tracked))
    errors = pitch_errors(
        torch.from_numpy(truth[:frames])[None],
        torch.from_numpy(tracked[:frames])[None],
        torch.tensor([frames]),
    )
    expected = PAIRS["A0"][f"f0_tracker_vs_truth_{side}"]["harvest"]
    for ours, theirs in (("rmse_hz", "rmse_hz"), ("rmse_ln", "rmse_logf0"), ("vuv_error", "vuv_error")):
        assert getattr(errors, ours).item() == pytest.approx(expected[theirs], rel=0.03)
    assert errors.covoiced.item() == expected["both_voiced"]
    assert errors.rmse_hz.item() < 5


@pytest.fixture
def contour():
    torch.manual_seed(0)
    f0 = 100 + 100 * torch.rand(2, 30, dtype=torch.float64)
    f0[:, 10:15] = 0
    return f0, torch.tensor([30, 12])


def test_identities(contour):
    f0, length = contour
    same = pitch_errors(f0, f0, length)
    assert torch.stack(same[:5]).abs().max() == 0
    assert same.covoiced.tolist() == [25, 10]
    semitone = pitch_errors(f0, f0 * 2 ** (1 / 12), length)
    assert semitone.rmse_ln.tolist() == pytest.approx([math.log(2) / 12] * 2, abs=1e-12)
    assert semitone.rmse_ln[0].item() == pytest.approx(0.0578, abs=5e-5)
    assert semitone.rmse_cents.tolist() == pytest.approx([100, 100], abs=1e-9)
    other = f0.flip(1)
    for a, b in zip(pitch_errors(f0, other, length), pitch_errors(other, f0, length), strict=True):
        assert torch.equal(a, b)


def test_by_hand():
    ref = torch.tensor([[100.0, 100.0, 0.0, 200.0, 0.0]], dtype=torch.float64)
    hyp = torch.tensor([[103.0, 96.0, 150.0, 0.0, 0.0]], dtype=torch.float64)
    errors = pitch_errors(ref, hyp, torch.tensor([5]))
    assert errors.covoiced.item() == 2
    assert errors.rmse_hz.item() == pytest.approx((25 / 2) ** 0.5)
    assert errors.median_abs_hz.item() == pytest.approx(3.5)
    assert errors.vuv_error.item() == pytest.approx(2 / 5)


def test_undefined_is_nan_with_a_count():
    voiced, unvoiced = torch.full((1, 4), 120.0), torch.zeros(1, 4)
    errors = pitch_errors(voiced, unvoiced, torch.tensor([4]))
    assert all(value.isnan() for value in errors[:4])
    assert errors.covoiced.item() == 0
    assert errors.vuv_error.item() == 1
    for empty in (voiced, voiced[:, :0]):
        nothing = pitch_errors(empty, empty, torch.tensor([0]))
        assert all(value.isnan() for value in nothing[:5])


def test_masked_equals_unpadded(contour):
    f0, length = contour
    hyp = f0 * 1.1 + 3
    f0[1, 12:], hyp[1, 12:] = torch.nan, 500
    batch = pitch_errors(f0, hyp, length)
    alone = pitch_errors(f0[1:, :12], hyp[1:, :12], length[1:])
    for padded, bare in zip(batch, alone, strict=True):
        assert padded[1].item() == pytest.approx(bare.item(), abs=1e-12)


def test_constant_pitch_scores_the_standard_deviation(contour):
    f0, length = contour
    errors = pitch_errors(f0, constant_pitch(f0, length), length)
    for row, size in enumerate(length.tolist()):
        track = f0[row, :size].numpy()
        assert errors.rmse_hz[row].item() == pytest.approx(track[track > 0].std())
    assert errors.vuv_error.tolist() == [0, 0]
