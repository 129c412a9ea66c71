"""A voice: how long its sounds are, that they repeat, that streaming changes nothing, that it hears what was said."""

from itertools import pairwise

import numpy as np
import pytest
import soundfile
from lhotse.supervision import AlignmentItem

import hmmtts
from hmmtts import build
from hmmtts.audio.io import resample
from hmmtts.build.checkpoint import CheckpointError
from hmmtts.data.alignment import Times
from hmmtts.synthesis import Speech, Voice
from tests.synthesis import voices

LONG = "The quick brown fox jumps over the lazy dogs and runs on and on. " * 3


def seconds(speech: Speech) -> np.ndarray:
    return np.array([phone.end - phone.start for phone in speech.phones])


def tiles(speech: Speech) -> bool:
    """From 0 to the end without gaps."""
    edges = [(0.0, 0.0), *((phone.start, phone.end) for phone in speech.phones)]
    gaps = [after[0] - before[1] for before, after in pairwise(edges)]
    return np.abs(gaps).max() < 1e-6 and abs(speech.phones[-1].end - speech.seconds) < 1e-4


def test_speech_has_its_phones_and_words_at_their_times(voice):
    speech = voice.synthesize("A cat, a dog.")
    assert speech.audio.dtype == np.float32
    assert speech.sample_rate == voices.RATE
    assert [phone.label for phone in speech.phones] == ["sil", "a", *"cat", "sil", "a", *"dog", "sil"]
    assert [word.label for word in speech.words] == ["A", "cat", "a", "dog"]
    assert tiles(speech)
    cat = speech.words[1]
    assert (cat.start, cat.end) == (speech.phones[2].start, speech.phones[4].end)


def test_the_same_seed_the_same_sound(voice, neural, bundle):
    for one in (voice, neural.varied(temperature=0.7)):
        first, second = one.synthesize("hello", seed=3), one.synthesize("hello", seed=3)
        np.testing.assert_array_equal(first.audio, second.audio)
    again = hmmtts.load(bundle).synthesize("hello", seed=3)
    np.testing.assert_array_equal(again.audio, voice.synthesize("hello", seed=3).audio)
    lively = neural.varied(temperature=0.7)
    assert not np.array_equal(lively.synthesize("hello", 1).audio, lively.synthesize("hello", 2).audio)


def test_a_batch_and_a_stream_give_what_each_text_alone_gives(voice, neural):
    for one in (voice, neural):
        texts = ["A dog.", LONG, "Hi"]
        who = one.who()
        together = list(one.speak([one.spell(text, who) for text in texts], who))
        assert [speech.words[0].label for speech in together] == ["A", "The", "Hi"]
        for text, speech in zip(texts, together, strict=True):
            alone = one.synthesize(text)
            np.testing.assert_allclose(seconds(alone), seconds(speech), atol=1e-4)
            np.testing.assert_allclose(alone.audio, speech.audio, atol=1e-3)
        parts = list(one.stream(LONG))
        assert len(parts) == 3
        np.testing.assert_allclose(
            np.concatenate([part.audio for part in parts]), together[1].audio, atol=1e-3
        )
        joined = [word.start for part in parts for word in part.words]
        np.testing.assert_allclose(joined, [word.start for word in together[1].words], atol=1e-4)
        assert tiles(together[1])


def test_a_stream_speaks_before_it_has_read_the_rest(voice):
    stream = voice.stream(LONG + "{")
    assert next(stream).words[0].label == "The"
    with pytest.raises(ValueError, match="a brace stands alone"):
        list(stream)


@pytest.mark.parametrize(
    ("text", "stretch"), [("A cat, a dog.", 1.7), (LONG, 0.6)], ids=["short-slow", "long-fast"]
)
def test_a_text_fits_the_time_that_it_is_given(voice, neural, text, stretch):
    for one in (voice, neural):
        natural = one.synthesize(text)
        wanted = stretch * natural.seconds
        fitted = one.synthesize(text, duration=wanted)
        assert len(fitted.audio) == round(wanted * voices.RATE)
        rounding = 2 * one.bundle.features.mel.hop_seconds if one is neural else 1e-3
        np.testing.assert_allclose(seconds(fitted), stretch * seconds(natural), atol=rounding)
        assert tiles(fitted) or one is neural


def test_rates_of_the_whole_of_words_and_of_phones(voice):
    natural = seconds(voice.synthesize("a cat sat"))
    np.testing.assert_allclose(seconds(voice.synthesize("a cat sat", rate=2)), natural / 2, atol=1e-4)
    marked = seconds(voice.synthesize("a {0.5: cat} {1 1 4: sat}"))
    np.testing.assert_allclose(natural / marked, [1, 1, 0.5, 0.5, 0.5, 1, 1, 4, 1], rtol=1e-3)


def test_given_times_are_spoken(voice, neural):
    for one in (voice, neural):
        speech = one.synthesize("a {0.6: cat} sat")
        times = Times(
            *(
                [AlignmentItem(x.label, x.start, x.end - x.start) for x in row]
                for row in (speech.phones, speech.words)
            )
        )
        again = one.timed(times, "a cat sat")
        np.testing.assert_allclose(seconds(again), seconds(speech), atol=2e-3)
        by_words = one.timed(Times(None, times.words))
        assert [word.label for word in by_words.words] == ["a", "cat", "sat"]
        for found, given in zip(by_words.words, speech.words, strict=True):
            assert abs(found.start - given.start) < 0.012
        with pytest.raises(
            ValueError, match="--timing is of another text: from phone 2 on the text has d o g, the file"
        ):
            one.timed(times, "a dog")


def test_speakers_are_named(voice):
    anna, bert = (voice.synthesize("a cat", speaker=name) for name in ("anna", "bert"))
    assert not np.array_equal(anna.audio, bert.audio)
    np.testing.assert_array_equal(voice.synthesize("a cat").audio, anna.audio)


def test_the_quantile_of_an_hmm_slows_it_down(neural):
    slow, fast = (neural.varied(quantile=q).synthesize("a cat").seconds for q in (0.9, 0.2))
    assert slow > 2 * fast


@pytest.mark.parametrize("rate", [voices.RATE, 16000])
def test_a_recording_is_aligned_where_its_tones_change(voice, tmp_path, rate):
    """Held-out tones; the aligner was trained without any times."""
    errors = []
    for seed in range(50, 55):
        text = voices.words(seed)
        wave, edges = voices.tones(text.replace(" ", ""), seed)
        soundfile.write(tmp_path / "x.wav", resample(wave, voices.RATE, rate), rate)
        found = voice.align(tmp_path / "x.wav", text)
        assert [word.label for word in found.words] == text.split()
        assert found.phones[0].start == 0
        assert found.phones[-1].end == pytest.approx(len(wave) / voices.RATE, abs=1e-3)
        errors += [phone.end - edge for phone, edge in zip(found.phones, edges[1:], strict=True)]
        assert min(phone.confidence for phone in found.phones) > 0.9
    assert np.abs(errors).max() < 0.015


def test_the_wrong_text_is_told_by_score_and_confidence(voice, tmp_path):
    wave, _ = voices.tones("abcacb", 7)
    soundfile.write(tmp_path / "x.wav", wave, voices.RATE)
    right, wrong = (voice.align(tmp_path / "x.wav", text) for text in ("abc acb", "cab bca"))
    assert right.score > wrong.score + 1
    soundfile.write(tmp_path / "x.wav", wave[:4000], voices.RATE)
    with pytest.raises(
        ValueError, match=r"x\.wav: 0\.\d+ s of sound for \d+ symbols, which need at least .* s: is this"
    ):
        voice.align(tmp_path / "x.wav", "abc " * 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": ""}, "text must hold something to speak, got ''"),
        ({"text": "?! ..."}, "text must hold something to speak"),
        ({"text": "a ж"}, r"unknown symbols: 'ж' \(U\+0436\)"),
        ({"speaker": "carl"}, "speaker must be one that the voice has learnt, 'anna', 'bert', got 'carl'"),
        ({"language": "de"}, "language must be one that the voice has learnt, 'en', got 'de'"),
        ({"rate": 0.0}, "rate must lie between 0.1 and 10, got 0"),
        ({"duration": 60.0}, r"duration must lie between .* which takes .* by itself, got 60"),
    ],
)
def test_bad_requests_by_their_message(voice, options, message):
    with pytest.raises(ValueError, match=message):
        voice.synthesize(**({"text": "a cat"} | options))


def test_a_manner_that_a_voice_has_not_is_refused(voice, neural):
    with pytest.raises(ValueError, match="temperature must be left out: only a neural HMM"):
        voice.varied(temperature=0.5)
    with pytest.raises(ValueError, match="quantile must be left out: this voice predicts one duration"):
        voice.varied(quantile=0.5)
    with pytest.raises(ValueError, match="quantile must lie between 0 and 1, got 1"):
        neural.varied(quantile=1.0)
    times = Times([AlignmentItem("a", 0.01 * n, 0.01) for n in range(20)], None)
    with pytest.raises(ValueError, match=r"this voice cannot speak the text in 0\.\d+ seconds"):
        neural.timed(times)


def test_a_geometric_voice_has_a_quantile():
    slots = [override for override in voices.SMALL if not override.startswith("duration.")]
    geometric = Voice(voices.bundle([*slots, "duration=geometric"]))
    slow, fast = (geometric.varied(quantile=q).synthesize("a cat").seconds for q in (0.9, 0.2))
    assert slow > 2 * fast


def test_a_bundle_of_another_version_is_refused_by_name(bundle, tmp_path):
    old = build.load(bundle)
    del old.config["model"]
    build.save(old, tmp_path / "old.ckpt")
    with pytest.raises(CheckpointError, match=r"made by another version of hmmtts: its config has no model"):
        build.load(tmp_path / "old.ckpt")
