"""Speech with the time of every symbol: what does not fit is refused, what fits is where the sound changes."""

import numpy as np
import pytest

from hmmtts.text.espeak import Espeak
from hmmtts.text.espeak_speech import LEAD, record, speak

pytest.importorskip("espeakng_loader")
TEXT = "She washed six dishes, at ease."


def test_symbols_and_times_correspond():
    transcript = Espeak()(TEXT)
    spoken = speak(TEXT, "en-us", transcript)
    assert len(spoken.starts) == len(transcript.symbols)
    assert spoken.starts == sorted(set(spoken.starts))
    assert spoken.starts[0] == 0
    assert spoken.starts[1] >= round(LEAD * spoken.sample_rate)
    assert not spoken.samples[: round(LEAD * spoken.sample_rate)].any()


def test_hisses_are_where_the_times_say():
    """Voiceless sibilants cross zero at more than a quarter of the samples, vowels and pauses at far fewer."""
    transcript = Espeak()(TEXT)
    spoken = speak(TEXT, "en-us", transcript)
    crossings = np.abs(np.diff(np.signbit(spoken.samples).astype(int)))
    judged = 0
    ends = [*spoken.starts[1:], len(spoken.samples)]
    for symbol, start, end in zip(transcript.symbols, spoken.starts, ends, strict=True):
        rate = crossings[start + 66 : end - 66].mean()  # 3 ms inside
        if symbol in ("s", "ʃ"):
            assert rate > 0.25, (symbol, rate)
        elif symbol == "sil" or set(symbol) & set("ɑæɪiəɛ"):
            assert rate < 0.2, (symbol, rate)
        else:
            continue
        judged += 1
    assert judged == 14


def test_a_slower_voice_takes_longer_over_the_same_symbols():
    transcript = Espeak()(TEXT)
    slow, fast = (speak(TEXT, "en-us", transcript, rate) for rate in (120, 240))
    assert len(slow.starts) == len(fast.starts)
    assert len(slow.samples) > 1.5 * len(fast.samples)


def test_a_phone_without_a_time_of_its_own_is_refused():
    with pytest.raises(ValueError, match=r"gives 'l' no time of its own at sample \d+ of 'All people\.'"):
        speak("All people.", "en-us", Espeak()("All people."))


def test_recording_does_not_depend_on_what_this_process_has_spoken(tmp_path):
    sentences = {"one": TEXT, "two": "All people.", "three": TEXT}
    first = record(sentences, tmp_path, "en-us", 175)
    samples = (tmp_path / "three.flac").read_bytes()
    speak(TEXT, "en-us", Espeak()(TEXT))
    assert record(sentences, tmp_path, "en-us", 175) == first
    assert (tmp_path / "three.flac").read_bytes() == samples
    assert "no time of its own" in first["two"].refused
    assert not (tmp_path / "two.flac").exists()
    assert first["one"].transcript == Espeak()(TEXT)
    assert len(first["one"].boundaries) == len(first["one"].transcript.symbols) + 1


def test_a_failure_of_the_speaking_process_is_told(tmp_path):
    with pytest.raises(RuntimeError, match=r"failed with code 1:(.|\n)*(No such file|Error opening)"):
        record({"one": TEXT}, tmp_path / "absent", "en-us", 175)


def test_symbols_of_another_frontend_are_refused():
    with pytest.raises(ValueError, match=r"espeak-ng says .*, the text "):
        speak(TEXT, "en-us", Espeak(stress=False)(TEXT))
    with pytest.raises(ValueError, match=r"espeak-ng says .*, the text "):
        speak(TEXT, "en-us", Espeak()("Something else."))
