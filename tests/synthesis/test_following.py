"""A voice follows a speaker: what it says piece by piece is what it says of the whole."""

import numpy as np
import pytest
import soundfile

from hmmtts.synthesis import Voice
from tests.synthesis import voices


def cut(wave: np.ndarray, size: int):
    return (wave[at : at + size] for at in range(0, len(wave), size))


@pytest.mark.parametrize(("size", "rate"), [(220, voices.RATE), (3, voices.RATE), (100_000, 16000)])
def test_phones_of_the_stream_are_those_of_the_whole(voice: Voice, tmp_path, size, rate):
    text = voices.words(300)
    wave, truth = voices.tones(text.replace(" ", ""), 300)
    wave = wave[:6000] if size == 3 else wave
    text = text[:1] if size == 3 else text
    soundfile.write(tmp_path / "x.wav", wave, rate)
    wave, _ = soundfile.read(tmp_path / "x.wav", dtype="float32")
    whole = voice.align(tmp_path / "x.wav", text).phones
    followed = list(voice.follow(text, cut(wave, size), rate, lag=9.0))
    assert [phone.label for phone in followed] == [phone.label for phone in whole]
    for mine, other in zip(followed, whole, strict=True):
        assert mine.start == pytest.approx(other.start, abs=1e-5)
        assert mine.end == pytest.approx(other.end, abs=1e-5)
    if size == 220:
        edges = [phone.start for phone in followed]
        assert np.abs(np.array(edges[2:]) - truth[2 : len(edges)]).max() < 0.03


def test_phones_come_while_the_sound_does(voice: Voice):
    """Each at most the lag, the window and a block of frames after its end; none is changed afterwards."""
    text, lag = voices.words(301), 0.1
    wave, _ = voices.tones(text.replace(" ", ""), 301)
    heard = 0.0

    def live():
        nonlocal heard
        for piece in cut(wave, 110):
            heard += len(piece) / voices.RATE
            yield piece

    late = [heard - phone.end for phone in voice.follow(text, live(), voices.RATE, lag)]
    hop = voice.bundle.model.sizes.acoustic_hop
    assert max(late[:-1]) <= lag + 7 * hop + 0.02
    assert len(late) >= len(text) - 1
    patient = list(voice.follow(text, cut(wave, 110), voices.RATE, 9.0))
    hasty = list(voice.follow(text, cut(wave, 110), voices.RATE, lag))
    assert [phone.label for phone in hasty] == [phone.label for phone in patient]
    assert np.mean([abs(a.end - b.end) < 0.02 for a, b in zip(hasty, patient, strict=True)]) > 0.8


def test_sound_that_ends_before_its_text(voice: Voice):
    wave, _ = voices.tones("a", 302)
    with pytest.raises(ValueError, match=r"the sound ends in .*, symbol \d+ of \d+: is this its text"):
        list(voice.follow("abcabc " * 9, cut(wave[:4000], 500), voices.RATE))


def test_a_neural_hmm_cannot_follow(neural: Voice):
    with pytest.raises(ValueError, match="aligner must be the HMM"):
        neural.follow("abc", [], voices.RATE)
