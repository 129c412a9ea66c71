"""Frames of a stream are those of the whole, edges and dither included."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hmmtts.audio import io, streaming
from hmmtts.audio.cepstra import Cepstra
from hmmtts.audio.mel import LogMel
from tests.examples import examples

EXTRACTORS = {
    "mel": LogMel(8000, n_fft=256, hop=64, win=200, n_mels=20, fmax=4000),
    "mel_same": LogMel(8000, n_fft=256, hop=64, win=256, n_mels=20, fmax=4000, padding="same"),
    "mel_wide_hop": LogMel(8000, n_fft=64, hop=100, win=64, n_mels=8, fmax=4000),
    "cepstra": Cepstra(8000, fmax=4000, dither=0.1),
    "cepstra_deltas": Cepstra(8000, window=0.025, hop=0.01, deltas=2, fmax=4000, dither=0.1),
}  # fmt: skip


def sound(samples: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(samples).standard_normal(samples)).astype(np.float32)


def streamed(extractor, wave, cuts, block=1) -> torch.Tensor:
    """`cuts`: sizes of the pieces; what remains comes last, with the end or before it."""
    ears, frames, at = streaming.begin(extractor), [], 0
    for size in cuts:
        ears, made = streaming.hear(extractor, ears, wave[at : at + size], block=block)
        frames.append(made)
        at += size
    ears, made = streaming.hear(extractor, ears, wave[at:], ended=True, block=block)
    return torch.cat([*frames, made])


@pytest.mark.parametrize("name", EXTRACTORS)
@pytest.mark.parametrize("samples", [150, 640, 2001, 4000])
def test_frames_are_those_of_the_whole(name, samples):
    """To the rounding of float32; a frame that saw an edge or other noise is off by far more."""
    extractor, wave = EXTRACTORS[name], sound(samples)
    whole = extractor(torch.from_numpy(wave)[None])[0]
    for cuts in ([], [1] * samples if samples < 700 else [333, 0, 100], [samples]):
        torch.testing.assert_close(streamed(extractor, wave, cuts), whole, atol=2e-5, rtol=0)


@examples(20)
@given(
    cuts=st.lists(st.integers(0, 300), max_size=15), samples=st.integers(200, 2500), block=st.integers(1, 5)
)
@pytest.mark.parametrize("name", ["mel", "cepstra_deltas"])
def test_the_pieces_change_no_bit(name, cuts, samples, block):
    extractor, wave = EXTRACTORS[name], sound(samples)
    assert torch.equal(streamed(extractor, wave, cuts, block), streamed(extractor, wave, [], block))


@pytest.mark.parametrize(
    ("name", "latest"), [("mel", 128), ("mel_same", 160), ("cepstra", 29 + 31), ("cepstra_deltas", 100 + 320 + 31)]
)  # fmt: skip
def test_a_frame_comes_half_a_window_after_its_centre(name, latest):
    """And four frames more for deltas of deltas, and at most 31 samples whose noise is not settled."""
    extractor, wave = EXTRACTORS[name], sound(2000)
    ears, frames = streaming.begin(extractor), 0
    for samples in range(1, 2001):
        ears, made = streaming.hear(extractor, ears, wave[samples - 1 : samples])
        frames += len(made)
        assert frames >= max(0, samples - latest) // extractor.hop
    assert len(ears.sound) + len(ears.raw) < 2000 - 3 * extractor.hop


def test_too_short_a_sound_is_refused_as_offline():
    with pytest.raises(ValueError, match="a log-mel needs more than 128 samples, got 100"):
        streamed(EXTRACTORS["mel"], sound(100), [10])


def test_resampling_in_pieces_changes_no_bit():
    wave = sound(5000)
    pieces = [wave[:7], wave[7:7], wave[7:3000], wave[3000:]]
    assert np.array_equal(
        np.concatenate([*streaming.resampled(pieces, 22050, 16000)]), io.resample(wave, 22050, 16000)
    )
    assert np.array_equal(np.concatenate([*streaming.resampled(pieces, 8000, 8000)]), wave)
