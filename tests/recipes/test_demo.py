"""The embedded corpus: its sentences, its exact times, and that preparing it is repeatable and interruptible."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from hmmtts.data.manifest import SPLITS, read_utterances
from hmmtts.text import from_alignment, marks
from hmmtts.text.espeak import Espeak

pytest.importorskip("espeakng_loader")


@pytest.fixture(scope="module")
def demo(recipe):
    return recipe("demo")


@pytest.fixture(scope="module")
def tiny(demo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    demo.prepare(folder, profile="tiny")
    return folder


@pytest.fixture(scope="module")
def full(demo, tmp_path_factory):
    """The whole corpus, as `python train.py recipe=demo` makes it."""
    folder = tmp_path_factory.mktemp("full")
    demo.prepare(folder)
    return {split: list(read_utterances(folder / f"cuts_{split}.jsonl.gz")) for split in SPLITS}


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def words_of(sentence):
    return re.findall(r"[a-z'-]+", sentence.lower())


def fours(sentences):
    lists = map(words_of, sentences)
    return {tuple(words[at : at + 4]) for words in lists for at in range(len(words) - 3)}


@pytest.mark.parametrize("profile", ["full", "tiny"])
def test_no_sentence_shares_four_words_in_a_row_with_another_split(demo, profile):
    train, valid, test = (fours(demo.sentences(profile, split).values()) for split in SPLITS)
    assert not train & test
    assert not train & valid
    assert not valid & test


def test_enough_sentences_and_words(full):
    counts = {split: len(utterances) for split, utterances in full.items()}
    total = sum(counts.values())
    assert total >= 400
    assert 0.79 < counts["train"] / total < 0.82
    assert 0.09 < counts["test"] / total < 0.11
    texts = [utterance.text for utterances in full.values() for utterance in utterances]
    assert len(set(texts)) == total
    assert len({word for text in texts for word in words_of(text)}) >= 1200


def test_no_sentence_is_left_out(demo, full):
    for split in SPLITS:
        assert [utterance.text for utterance in full[split]] == list(demo.sentences("full", split).values())


def test_every_symbol_is_trained(full):
    trained = Counter(symbol for utterance in full["train"] for symbol in utterance.phones)
    others = {
        symbol for split in ("valid", "test") for utterance in full[split] for symbol in utterance.phones
    }
    assert min(trained[symbol] for symbol in others) >= 5


def test_text_is_read_with_the_symbols_of_the_corpus_pauses_included(full):
    frontend = Espeak("en-us")
    pauses = 0
    for utterance in [utterance for split in SPLITS for utterance in full[split]]:
        read = frontend(utterance.text)
        known = from_alignment(utterance.phone_times, utterance.word_times)
        assert read.symbols == utterance.phones == known.symbols, utterance.id
        assert read.words == known.words
        assert marks(read) == marks(known)
        assert known.symbols[0] == known.symbols[-1] == "sil"
        pauses += known.symbols.count("sil") - 2
    assert pauses > 80  # commas do make pauses


def test_phones_tile_the_utterance(full):
    for utterance in full["test"]:
        assert utterance.phone_times[0].start == 0
        for phone, following in pairwise(utterance.phone_times):
            assert phone.end == pytest.approx(following.start, abs=1e-6)
            assert phone.duration > 0.005
        assert utterance.phone_times[-1].end == pytest.approx(utterance.duration, abs=1e-6)


def test_pauses_are_silent_and_closures_belong_to_their_stops(full):
    """The samples themselves: p, t, k after a sounding phone begin with digital silence, which follows sound."""
    stops, quiet = 0, []
    for utterance in full["test"]:
        samples, rate = soundfile.read(utterance.audio, dtype="int16")
        assert len(samples) == round(utterance.duration * rate)
        for phone, following in pairwise(utterance.phone_times):
            if phone.symbol == "sil":
                pause = samples[round(phone.start * rate) : round(phone.end * rate)]
                quiet.append(np.abs(pause[len(pause) // 2 :].astype(float)).max())
            elif following.symbol in ("p", "t", "k"):
                onset = round(following.start * rate)
                if not samples[onset : onset + 200].any():
                    stops += 1
                    assert samples[onset - 1] != 0
    assert stops > 150
    assert max(quiet) == 0


def test_rerunning_changes_nothing(demo, tiny):
    before = {path: path.stat().st_mtime_ns for path in tiny.rglob("*")}
    demo.prepare(tiny, profile="tiny")
    assert {path: path.stat().st_mtime_ns for path in tiny.rglob("*")} == before


def test_two_runs_give_identical_bytes(demo, tiny, tmp_path):
    demo.prepare(tmp_path, profile="tiny")
    assert content(tmp_path) == content(tiny)


@pytest.mark.parametrize("damage", ["no stamp", "half a file", "other inputs"])
def test_half_a_corpus_is_no_corpus(demo, tiny, damage):
    whole = content(tiny)
    if damage == "no stamp":
        (tiny / "prepared.json").unlink()
        (tiny / "cuts_test.jsonl.gz").unlink()
    elif damage == "half a file":
        path = tiny / "wavs" / "test-0001.flac"
        path.write_bytes(path.read_bytes()[:1000])
    else:
        stamp = tiny / "prepared.json"
        stamp.write_text(stamp.read_text().replace('"key": "', '"key": "0'))
    demo.prepare(tiny, profile="tiny")
    assert content(tiny) == whole


def test_another_preparation_leaves_no_file_of_the_first_and_every_file_of_others(
    demo, tiny, tmp_path, monkeypatch
):
    folder = tmp_path / "corpus"
    shutil.copytree(tiny, folder)
    (folder / "wavs" / "mine.wav").write_bytes(b"mine")
    fewer = {split: dict(list(demo.sentences("tiny", split).items())[:2]) for split in SPLITS}
    monkeypatch.setattr(demo, "sentences", lambda profile, split: fewer[split])
    demo.prepare(folder, profile="tiny")
    names = {path.name for path in (folder / "wavs").iterdir()}
    assert names == {f"{split}-000{number}.flac" for split in SPLITS for number in (1, 2)} | {"mine.wav"}


def test_unknown_profile(demo, tmp_path):
    with pytest.raises(ValueError, match="profile must be one of full, tiny, got 'huge'"):
        demo.prepare(tmp_path, profile="huge")


def test_without_espeak_the_error_names_the_command(demo, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ImportError, match=r'pip install "hmmtts\[espeak\]"'):
        demo.prepare(tmp_path, profile="tiny")


def test_help(demo):
    answer = subprocess.run(
        [sys.executable, demo.__file__, "--help"], capture_output=True, text=True, check=True
    )
    assert "--profile {full,tiny}" in answer.stdout


def test_a_preparation_that_fails_halfway_is_done_again(demo, tiny, tmp_path, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(demo, "write_utterances", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            demo.prepare(tmp_path, profile="tiny")
    assert len(list(tmp_path.rglob("*.flac"))) == 40
    demo.prepare(tmp_path, profile="tiny")
    assert content(tmp_path) == content(tiny)
