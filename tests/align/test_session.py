"""`hmmtts align` from the command line: real speech, an interrupted run, a changed corpus, bad input by its message."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import typer

from hmmtts.align import session as sessions
from hmmtts.align import training
from hmmtts.align.corpus import read_scripts, speller
from hmmtts.align.session import Session
from hmmtts.align.storage import load_panel
from hmmtts.cli.align import run
from hmmtts.data.alignment import read_textgrid
from hmmtts.data.corpus import open_corpus
from tests.data import TEST_DATA, needs_data


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def hasty(monkeypatch):
    """Tones are learnt in a few iterations."""
    for name in ("COARSE_FIT", "FINE_FIT", "CONTEXT_FIT", "REFIT"):
        monkeypatch.setattr(training, name, 1)


def tones(folder: Path, count: int = 6, phones: bool = True) -> Path:
    """A corpus of three tones between silences: a at 300, b at 1,000 and c at 3,000 Hz, 80 to 160 ms each."""
    random = np.random.default_rng(0)
    (folder / "wavs").mkdir(parents=True)
    rows, spelt = [], []
    for number in range(count):
        order = [list("abc")[i] for i in (random.permutation(3).tolist() + random.permutation(3).tolist())]
        order = [label for i, label in enumerate(order) if i == 0 or order[i - 1] != label]
        pieces = [np.zeros(2400)]
        for label in order:
            length = int(random.integers(1280, 2560))
            pitch = {"a": 300, "b": 1000, "c": 3000}[label]
            pieces.append(0.3 * np.sin(2 * np.pi * pitch * np.arange(length) / 16000))
        wave = np.concatenate([*pieces, np.zeros(2400)]) + 1e-3 * random.standard_normal(
            sum(map(len, pieces)) + 2400
        )
        soundfile.write(folder / "wavs" / f"u{number}.wav", wave, 16000)
        rows.append(f"u{number}|{''.join(order)}|{''.join(order)}")
        spelt.append(f"u{number}|sil {' '.join(order)} sil")
        starts = np.cumsum([0, *map(len, pieces)]) / 16000
        (folder / f"truth{number}.json").write_text(json.dumps(starts.tolist()))
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    if phones:
        (folder / "phones.csv").write_text("\n".join(spelt) + "\n")
    return folder


def align(corpus: Path, out: Path, **options) -> int:
    with pytest.raises(typer.Exit) as end:
        run(str(corpus), out, **{"jobs": 1, **options})
    return end.value.exit_code


@pytest.mark.parametrize("phones", [True, False])
def test_boundaries_of_tones_and_every_format(tmp_path, capsys, phones, hasty):
    """Without phones.csv the letters are the symbols, and the pauses at the ends are found."""
    corpus = tones(tmp_path / "corpus", phones=phones)
    assert align(corpus, tmp_path / "out", format="textgrid,json,ctm,lab") == 0
    errors = []
    for number in range(6):
        times = read_textgrid(tmp_path / "out" / f"u{number}.TextGrid")
        truth = json.loads((corpus / f"truth{number}.json").read_text())
        assert [times.phones[0].symbol, times.phones[-1].symbol] == ["sil", "sil"]
        errors += [item.start - true for item, true in zip(times.phones[1:], truth[1:], strict=True)]
    assert np.abs(errors).max() < 0.02
    assert np.median(np.abs(errors)) < 0.006
    printed = capsys.readouterr().out
    assert "6 of 6 utterances aligned" in printed
    assert "look first at" in printed
    assert len(list((tmp_path / "out").glob("u*"))) == 24


def session(corpus: Path, out: Path, formats=("textgrid",)) -> Session:
    return Session(out, formats, read_scripts(open_corpus(str(corpus)).entries, speller(None, None)))


def test_an_interrupted_run_is_continued_and_equals_an_uninterrupted_one(tmp_path, monkeypatch, hasty):
    corpus = tones(tmp_path / "corpus")
    session(corpus, tmp_path / "whole").run()
    monkeypatch.setattr(sessions, "TOGETHER", 2)
    written, write = [], sessions.output.write

    def interrupted(aligned, folder, formats):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(aligned.id)
        write(aligned, folder, formats)

    monkeypatch.setattr(sessions.output, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session(corpus, tmp_path / "out").run()
    monkeypatch.setattr(sessions.output, "write", write)
    (tmp_path / "out" / ".align" / "journal.jsonl").open("a").write('{"key": "torn li')
    monkeypatch.setattr(sessions, "train", lambda *_: pytest.fail("trained twice"))
    again = session(corpus, tmp_path / "out")
    again.run()
    assert again.continued == 3
    assert sorted(again.notes) == [f"u{n}" for n in range(6)]
    for number in range(6):
        whole, out = (read_textgrid(tmp_path / x / f"u{number}.TextGrid").phones for x in ("whole", "out"))
        np.testing.assert_allclose([item.start for item in out], [item.start for item in whole], atol=1e-3)
    third = session(corpus, tmp_path / "out")
    third.run()
    assert third.continued == 6


def test_a_changed_corpus_is_aligned_anew_and_a_lost_file_again(tmp_path, hasty):
    corpus = tones(tmp_path / "corpus")
    first = session(corpus, tmp_path / "out")
    first.run()
    (tmp_path / "out" / "u0.TextGrid").unlink()
    lost = session(corpus, tmp_path / "out")
    lost.run()
    assert lost.continued == 5
    assert (tmp_path / "out" / "u0.TextGrid").is_file()
    spelt = (corpus / "phones.csv").read_text().splitlines()
    (corpus / "phones.csv").write_text("\n".join([*spelt[:-1], "u5|sil c b a sil"]) + "\n")
    changed = session(corpus, tmp_path / "out")
    assert load_panel(tmp_path / "out" / ".align" / "panel.pt", changed.key) is None
    assert changed._finished() == {}


def test_what_does_not_fit_is_named_with_the_reason(tmp_path, capsys, hasty):
    corpus = tones(tmp_path / "corpus")
    wave, rate = soundfile.read(corpus / "wavs" / "u1.wav")
    soundfile.write(corpus / "wavs" / "u1.wav", wave[: rate // 10], rate)
    phones = (corpus / "phones.csv").read_text().replace("u1|sil", "u1|sil " + "a b c " * 10)
    (corpus / "phones.csv").write_text(phones)
    (corpus / "wavs" / "u2.wav").write_bytes(b"RIFF no sound")
    (corpus / "wavs" / "u3.wav").unlink()
    assert align(corpus, tmp_path / "out") == 3
    printed = capsys.readouterr().out
    assert "3 of 6 utterances aligned" in printed
    assert "not aligned: u1: 0.10 s of sound for" in printed
    assert "not aligned: u2" in printed
    assert "not readable as sound" in printed
    assert "not aligned: u3" in printed
    assert not (tmp_path / "out" / "u1.TextGrid").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "textgrid,praat"}, "--format must be of textgrid, ctm, json, lab, got 'praat'"),
        ({"text": "klingon"}, "--text must be characters, phones or espeak, got 'klingon'"),
    ],
)
def test_bad_options_by_their_message(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(str(tones(tmp_path / "corpus")), tmp_path / "out", **options)


def test_bad_corpora_by_their_message(tmp_path):
    with pytest.raises(ValueError, match="there is no such file"):
        run(str(tmp_path / "nothing"), tmp_path / "out")
    corpus = tones(tmp_path / "corpus")
    with pytest.raises(ValueError, match=r"--out must be a folder, and .*metadata.csv is a file"):
        run(str(corpus), corpus / "metadata.csv")
    shutil.rmtree(corpus / "wavs")
    (corpus / "wavs").mkdir()
    with pytest.raises(ValueError, match="holds no utterance that can be aligned"):
        run(str(corpus), tmp_path / "out")


@needs_data
def test_twenty_utterances_of_speech(tmp_path):
    """A flat start on 20 sentences of espeak-ng, whose true boundaries are known to the sample."""
    source, corpus = TEST_DATA / "espeak_de", tmp_path / "corpus"
    (corpus / "wavs").mkdir(parents=True)
    for name in ("metadata.csv", "phones.csv"):
        lines = (source / name).read_text(encoding="utf-8").splitlines()[:20]
        (corpus / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for line in lines:
        (corpus / "wavs" / f"{line.split('|')[0]}.flac").symlink_to(
            source / "wavs" / f"{line.split('|')[0]}.flac"
        )
    assert align(corpus, tmp_path / "out") == 0
    errors = []
    for path in (tmp_path / "out").glob("*.TextGrid"):
        found, true = (
            read_textgrid(folder / path.name).phones for folder in (tmp_path / "out", source / "alignments")
        )
        assert [item.symbol for item in found] == [item.symbol for item in true]
        errors += [a.start - b.start for a, b in zip(found, true, strict=True) if b.symbol != "sil"]
    assert np.median(np.abs(errors)) < 0.006
    assert (np.abs(errors) <= 0.02).mean() > 0.88
