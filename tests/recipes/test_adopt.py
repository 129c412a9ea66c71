"""Corpora that exist already: recipes/folder, and recipes/ljspeech against a server with a small archive."""

import gzip
import hashlib
import io
import logging
import shutil
import tarfile

import numpy as np
import pytest
import soundfile

from hmmtts.data import fetch
from hmmtts.data.adopt import assign, cover
from hmmtts.data.manifest import SPLITS, Utterance, read_utterances
from tests.data import TEST_DATA, needs_data
from tests.recipes.server import Server


def corpus(folder, count=12, sentence="word {}"):
    (folder / "wavs").mkdir(parents=True)
    noise = np.random.default_rng(0).normal(0, 0.1, 22050)
    for number in range(count):
        soundfile.write(folder / "wavs" / f"u{number:02d}.wav", noise, 22050)
    lines = [f"u{number:02d}|{sentence.format('abcdefghijkl'[number])}\n" for number in range(count)]
    (folder / "metadata.csv").write_text("".join(lines))
    return folder


def prepared(out):
    return {split: list(read_utterances(out / f"cuts_{split}.jsonl.gz")) for split in SPLITS}


def content(out):
    return {path.name: path.read_bytes() for path in out.glob("cuts_*")}


@pytest.fixture
def folder(recipe):
    return recipe("folder")


def test_folder(folder, tmp_path):
    source = corpus(tmp_path / "mine", sentence="word")
    folder.prepare(tmp_path / "out", source)
    splits = prepared(tmp_path / "out")
    assert sorted(u.id for part in splits.values() for u in part) == [
        f"u{number:02d}" for number in range(12)
    ]
    assert all(splits.values())
    utterance = splits["train"][0]
    assert (utterance.rate, utterance.duration, utterance.text) == (22050, 1.0, "word")
    assert utterance.audio.parent == source / "wavs"


def test_rerunning_is_a_no_op_until_the_folder_changes(folder, tmp_path, caplog):
    source, out = corpus(tmp_path / "mine"), tmp_path / "out"
    folder.prepare(out, source)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    with caplog.at_level(logging.INFO):
        folder.prepare(out, source)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert "prepared already" in caplog.text
    metadata = source / "metadata.csv"
    metadata.write_text(metadata.read_text().replace("word a", "word other a"))
    folder.prepare(out, source)
    assert "word other a" in {u.text for part in prepared(out).values() for u in part}


def test_an_error_in_the_folder_stops_with_its_place_and_the_mend(folder, tmp_path):
    source = corpus(tmp_path / "mine")
    (source / "wavs" / "u03.wav").unlink()
    (source / "wavs" / "u05.wav").write_bytes(b"<html>404</html>")
    with pytest.raises(
        ValueError, match=r"has 2 errors:\n  u03: metadata.csv:4: (.|\n)*u05(.|\n)*--fix GOOD.jsonl.gz"
    ):
        folder.prepare(tmp_path / "out", source)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_prepared_corpus_keeps_its_splits(folder, tmp_path):
    folder.prepare(tmp_path / "first", corpus(tmp_path / "mine", sentence="word"))
    folder.prepare(tmp_path / "second", tmp_path / "first")
    names = {split: [u.id for u in part] for split, part in prepared(tmp_path / "first").items()}
    assert {split: [u.id for u in part] for split, part in prepared(tmp_path / "second").items()} == names


def test_missing_arguments(folder, tmp_path):
    with pytest.raises(ValueError, match="data_dir must name the folder"):
        folder.prepare(tmp_path / "out")
    with pytest.raises(ValueError, match="profile must be full, got 'tiny'"):
        folder.prepare(tmp_path / "out", tmp_path, "tiny")


def test_unlisted_ids_and_empty_splits_are_filled_by_hash(caplog):
    names = [f"n{number}" for number in range(200)]
    listed = dict.fromkeys(names[:150], "train")
    with caplog.at_level(logging.INFO):
        of = assign(names, listed.get)
    counts = {split: list(of.values()).count(split) for split in SPLITS}
    assert of == assign(reversed(names), listed.get)
    assert counts["train"] > 150 > 20 > counts["valid"] > 0 < counts["test"] < 20
    assert "50 ids are in no list, such as n150" in caplog.text

    caplog.clear()
    listed = {name: "test" if number < 20 else "train" for number, name in enumerate(names)}
    with caplog.at_level(logging.INFO):
        of = assign(names, listed.get)
    assert [name for name in names if of[name] == "test"] == names[:20]
    assert 5 < list(of.values()).count("valid") < 40
    assert "the lists leave valid empty" in caplog.text
    assert "in no list" not in caplog.text


def test_every_symbol_of_valid_and_test_is_trained(caplog):
    spelling = {"a": "x y", "b": "x z", "c": "x y", "d": "q y", "e": "x y"}
    of = {"a": "train", "b": "valid", "c": "valid", "d": "test", "e": "test"}
    utterances = [
        Utterance(name, None, 1, 0.0, 1.0, 1.0, "", phones=phones.split())
        for name, phones in spelling.items()
    ]
    with caplog.at_level(logging.INFO):
        assert cover(utterances, of) == of | {"b": "train", "d": "train"}
    assert "b, d" in caplog.text


def test_what_a_list_names_stays_where_the_list_has_it():
    """The few clips of a known corpus: d is in its list of test sentences, b only fills a split that was left empty."""
    spelling = {"a": "x y", "b": "x z", "c": "x y", "d": "q y", "e": "x y"}
    of = {"a": "train", "b": "valid", "c": "valid", "d": "test", "e": "test"}
    listed = of | {"b": "train", "c": "train"}
    utterances = [
        Utterance(name, None, 1, 0.0, 1.0, 1.0, "", phones=phones.split())
        for name, phones in spelling.items()
    ]
    assert cover(utterances, of, listed.get) == of | {"b": "train"}


@needs_data
@pytest.mark.parametrize("recipe_name", ["demo", "folder"])
def test_a_corpus_with_known_times(recipe, tmp_path, recipe_name):
    recipe(recipe_name).prepare(tmp_path, TEST_DATA / "espeak_ko")
    splits = prepared(tmp_path)
    assert sum(map(len, splits.values())) == 24
    assert all(utterance.phone_times for part in splits.values() for utterance in part)
    trained = {phone for utterance in splits["train"] for phone in utterance.phones}
    assert {phone for part in splits.values() for utterance in part for phone in utterance.phones} == trained


@pytest.fixture(scope="module")
def archive():
    """An archive in LJSpeech's layout, of real clips, one of them of the usual test list."""
    source = TEST_DATA / "ljspeech32"
    rows = [line for line in (source / "metadata.csv").read_text().splitlines() if line[:10] <= "LJ001-0016"][
        -4:
    ]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:bz2") as file:

        def add(name, content):
            info = tarfile.TarInfo(f"LJSpeech-1.1/{name}")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))

        add("metadata.csv", ("\n".join(rows) + "\n").encode())
        add("README", b"LJSpeech")
        for row in rows:
            samples, rate = soundfile.read(source / "wavs" / f"{row[:10]}.flac", dtype="int16")
            wav = io.BytesIO()
            soundfile.write(wav, samples, rate, format="WAV")
            add(f"wavs/{row[:10]}.wav", wav.getvalue())
    return stream.getvalue()


@pytest.fixture
def server(archive):
    serving = Server(archive)
    yield serving
    serving.close()


@pytest.fixture
def ljspeech(recipe, server, monkeypatch):
    """The recipe as it is, but for the address, size and checksum of the archive."""
    module = recipe("ljspeech")
    monkeypatch.setattr(module, "ARCHIVE", remote(server, server.content))
    monkeypatch.setattr(fetch, "PATIENCE", fetch.Patience(attempts=3, pause=0.001))
    return module


def remote(server, content):
    return fetch.Remote(server.url, len(content), hashlib.sha256(content).hexdigest())


@needs_data
def test_ljspeech_downloads_through_a_broken_connection(ljspeech, server, tmp_path, caplog):
    server.bad = ["short"]
    with caplog.at_level(logging.INFO):
        ljspeech.prepare(tmp_path)
    splits = prepared(tmp_path)
    assert server.sent == len(server.content)
    assert sorted(u.id for part in splits.values() for u in part) == [f"LJ001-00{n}" for n in range(13, 17)]
    assert [u.id for u in splits["test"]] == ["LJ001-0015"]
    assert "the lists leave valid empty" in caplog.text
    assert {(u.speaker, u.language) for part in splits.values() for u in part} == {("LJ", "en-us")}
    assert not list(tmp_path.glob("*.bz2*"))
    before, asked = content(tmp_path), len(server.asked)
    ljspeech.prepare(tmp_path)
    assert (content(tmp_path), len(server.asked)) == (before, asked)


@needs_data
def test_ljspeech_refuses_what_is_not_the_archive(ljspeech, server, tmp_path, monkeypatch):
    expected = remote(server, server.content)
    monkeypatch.setattr(ljspeech, "ARCHIVE", expected._replace(sha256="0" * 64))
    with pytest.raises(ValueError, match="sha256 mismatch: expected 0000"):
        ljspeech.prepare(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(ljspeech, "ARCHIVE", expected)
    server.bad = ["page"]
    with pytest.raises(ValueError, match="the server offers 21 of text/html"):
        ljspeech.prepare(tmp_path)
    assert not (tmp_path / "corpus").exists()


@needs_data
def test_ljspeech_refuses_a_hostile_archive(ljspeech, server, tmp_path, monkeypatch):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:bz2") as file:
        info = tarfile.TarInfo("LJSpeech-1.1/../../../escaped")
        info.size = 1
        file.addfile(info, io.BytesIO(b"x"))
    server.content = stream.getvalue()
    monkeypatch.setattr(ljspeech, "ARCHIVE", remote(server, server.content))
    with pytest.raises(ValueError, match="would leave the target folder"):
        ljspeech.prepare(tmp_path / "out")
    assert not list(tmp_path.rglob("escaped"))
    assert not (tmp_path / "out" / "corpus").exists()


@needs_data
def test_ljspeech_takes_an_existing_copy_with_flac(ljspeech, server, tmp_path):
    ljspeech.prepare(tmp_path, TEST_DATA / "ljspeech32")
    splits = prepared(tmp_path)
    assert server.asked == []
    assert {u.audio.suffix for part in splits.values() for u in part} == {".flac"}
    assert sum(map(len, splits.values())) == 32
    assert "LJ001-0015" in [u.id for u in splits["test"]]


@needs_data
def test_ljspeech_ids_that_are_not_of_the_corpus_go_by_hash(ljspeech, tmp_path, caplog):
    copy = shutil.copytree(TEST_DATA / "ljspeech32", tmp_path / "copy")
    metadata = copy / "metadata.csv"
    metadata.write_text(metadata.read_text().replace("LJ001-0003", "MINE-0003"))
    (copy / "wavs" / "LJ001-0003.flac").rename(copy / "wavs" / "MINE-0003.flac")
    shutil.rmtree(copy / "alignments")
    (copy / "phones.csv").unlink()
    with caplog.at_level(logging.INFO):
        ljspeech.prepare(tmp_path / "out", copy)
    assert "1 ids are in no list, such as MINE-0003" in caplog.text


def test_the_usual_lists(recipe):
    part = recipe("ljspeech").usual_lists()
    names = [f"LJ{chapter:03d}-{number:04d}" for chapter in range(1, 51) for number in range(1, 600)]
    parts = [part(name) for name in names]
    assert (parts.count("valid"), parts.count("test")) == (100, 500)
    assert set(parts) == {"train", "valid", "test"}
    assert part("LJ051-0001") is part("LJ001-0001.wav") is part("VCTK-1") is None
    # The first and last of each list, as they are published with Tacotron 2.
    assert [part(name) for name in ("LJ022-0023", "LJ004-0045", "LJ045-0096", "LJ050-0209")] == [
        "valid",
        "valid",
        "test",
        "test",
    ]


def test_manifests_are_gzip_without_a_date(folder, tmp_path):
    folder.prepare(tmp_path / "out", corpus(tmp_path / "mine"))
    raw = (tmp_path / "out" / "cuts_train.jsonl.gz").read_bytes()
    assert raw[4:8] == b"\0\0\0\0"
    assert gzip.decompress(raw)
