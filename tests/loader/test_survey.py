import os
from pathlib import Path

import numpy as np
import pytest

from hmmtts.audio.io import write
from hmmtts.data.cache import FeatureCache
from hmmtts.data.dataset import Transcriber
from hmmtts.data.manifest import Utterance
from hmmtts.data.survey import Size, feasible, survey
from hmmtts.text import Transcript
from hmmtts.text.phones import Phones
from tests.audio.signals import pulses
from tests.loader.corpus import RATE, corpus, features, utterance

SPELL = Transcriber(Phones())


def test_a_survey_learns_what_the_corpus_holds(tmp_path: Path):
    utterances = [*corpus(tmp_path), utterance(tmp_path, "z", "u", speaker="two")]
    cache = FeatureCache(features(), tmp_path / "cache")
    found = survey(utterances, cache, SPELL)
    tracks = [cache(spoken) for spoken in utterances]
    assert found.symbols.symbols == ("_", "a", "o", "sil", "u")
    assert found.speakers == ["one", "two"]
    assert found.languages == [""]
    assert found.sizes["z"] == Size(3, len(tracks[-1].mel), len(tracks[-1].acoustic))
    mel = np.concatenate([track.mel for track in tracks]).astype(np.float64)
    acoustic = np.concatenate([track.acoustic for track in tracks]).astype(np.float64)
    np.testing.assert_allclose(found.mel_normaliser().mean, [mel.mean()], rtol=1e-9)
    np.testing.assert_allclose(found.mel_normaliser().deviation, [mel.std()], rtol=1e-9)
    np.testing.assert_allclose(found.mel_normaliser(per_bin=True).mean, mel.mean(0), rtol=1e-9)
    np.testing.assert_allclose(found.acoustic_normaliser().deviation, acoustic.std(0), rtol=1e-9)


def test_processes_find_the_same(tmp_path: Path):
    utterances = corpus(tmp_path)
    alone = survey(utterances, FeatureCache(features(), None), SPELL)
    together = survey(utterances, FeatureCache(features(), tmp_path / "cache"), SPELL, workers=2)
    assert together.sizes == alone.sizes
    np.testing.assert_array_equal(together.mel.mean, alone.mel.mean)


def test_the_log_says_what_was_computed_and_why(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    utterances = corpus(tmp_path)
    with caplog.at_level("INFO"):
        survey(utterances, FeatureCache(features(), tmp_path / "cache"), SPELL)
        assert "0 of 6 files were cached" in caplog.text
        assert "cache miss: 6 files (not in the cache)" in caplog.text
        write(utterances[2].audio, pulses(100.0, utterances[2].duration, RATE), RATE)
        caplog.clear()
        survey(utterances, FeatureCache(features(), tmp_path / "cache"), SPELL)
    assert "5 of 6 files were cached" in caplog.text
    assert "cache miss: 1 file (content changed)" in caplog.text


def test_everything_that_cannot_be_used_is_named_at_once(tmp_path: Path):
    utterances = corpus(tmp_path)
    utterances[1].audio.write_bytes(b"RIFF")
    utterances[3].audio.unlink()
    write(utterances[4].audio, np.zeros(100, np.float32), RATE)
    utterances[4] = utterances[4]._replace(duration=100 / RATE, audio_duration=100 / RATE)
    utterances[5] = utterances[5]._replace(phones=None, phone_times=None, text="")
    with pytest.raises(ValueError, match="4 of 6 utterances cannot be used; `hmmtts check`") as error:
        survey(utterances, FeatureCache(features(), None), SPELL)
    lines = str(error.value).splitlines()[1:]
    assert [line.split(" ")[0] for line in lines] == ["u1", "u3", "u4", "u5"]
    for line, reason in zip(
        lines, ["not readable", "no such file", "more than 128 samples", "no symbol"], strict=True
    ):
        assert reason in line


def test_fewer_frames_than_states_is_left_out_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    utterances = corpus(tmp_path, count=3)
    sizes = {"u0": Size(4, 30, 12), "u1": Size(5, 30, 14), "u2": Size(1, 30, 3)}
    kept = feasible(utterances, sizes, states_per_symbol=3)
    assert [spoken.id for spoken in kept] == ["u0", "u2"]
    assert "u1" in caplog.text
    assert "left out: 14 frames < 15 states; shorten features.acoustic.hop" in caplog.text
    assert feasible(utterances, sizes, states_per_symbol=2) == utterances


def test_the_first_look_is_taken_before_any_worker_starts(tmp_path: Path):
    """librosa compiles at first use; workers that compile at the same time into one cache crash now and then."""
    places = tmp_path / "places"

    def spell(utterance: Utterance) -> Transcript:
        with places.open("a") as file:
            file.write(f"{utterance.id} {os.getpid()}\n")
        return SPELL(utterance)

    utterances = corpus(tmp_path)
    survey(utterances, FeatureCache(features(), tmp_path / "cache"), spell, workers=2)
    seen = dict(line.split() for line in places.read_text().splitlines())
    assert seen.pop(utterances[0].id) == str(os.getpid())
    assert str(os.getpid()) not in seen.values()
