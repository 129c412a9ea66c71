"""`hmmtts check`: what it finds, what it lets through, what it prints, writes and returns."""

import json
import os
import random
import re
from inspect import signature
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import typer
from omegaconf import OmegaConf
from typer.testing import CliRunner

from hmmtts.audio.normaliser import Normaliser
from hmmtts.build import checkpoint, program
from hmmtts.build.facts import Facts
from hmmtts.cli import check as verb
from hmmtts.data import check as checks
from hmmtts.data.check import Options, Report, check
from hmmtts.data.corpus import open_corpus
from hmmtts.data.dataset import Transcriber
from hmmtts.data.guard import Casualty
from hmmtts.data.inspect import LIMITS
from hmmtts.data.manifest import read_utterances
from hmmtts.text import Phones, SymbolTable
from tests.corpus.sounds import RATE, cut, speech, write
from tests.corpus.test_folder import CORPORA, corpus, textgrid_times
from tests.data import TEST_DATA, needs_data

HERE = Options(jobs=0)
FIELDS = ["kind", "severity", "id", "file", "line", "message"]


class Outcome(NamedTuple):
    code: int
    printed: str


def hmmtts_check(*arguments: object) -> Outcome:
    app = typer.Typer()
    app.command()(verb.run)
    result = CliRunner().invoke(app, [*map(str, arguments), "--jobs", "0"])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout)


def checked(folder: Path, options: Options = HERE) -> Report:
    return check(open_corpus(str(folder)), options)


def said(report: Report) -> list[str]:
    return [f"{finding.severity}: {finding}" for finding in report.findings]


def broken_corpus(folder: Path) -> Path:
    """a to d are good, each other line has one problem."""
    lines = [
        "a|one",
        "b|two",
        "c|three",
        "d|four",
        "e|half",
        "f|stereo",
        "g|8 kHz",
        "h|gone",
        "i|",
        "a|again",
        "../x|out",
    ]
    good = [f"{name}.wav" for name in "abcdi"]
    corpus(folder, "\n".join(lines) + "\n", tuple(good))
    cut(write(folder / "wavs/e.wav"), 22072)
    write(folder / "wavs/f.wav", np.stack([speech()] * 2, 1))
    write(folder / "wavs/g.wav", speech(rate=8000), 8000)
    write(folder / "wavs/extra.wav")
    return folder


BROKEN = [
    "warning: wavs/extra.wav: no line of metadata.csv names this file",
    "error: e: wavs/e.wav: truncated, header says 44100 bytes, file has 22028",
    "error: f: wavs/f.wav: stereo, one channel is wanted; all channels are equal, keep one (`sox IN OUT remix 1`)",
    "error: g: wavs/g.wav: 8000 Hz, most of the corpus has 22050; resample it (`sox IN -r 22050 OUT`)",
    "error: h: metadata.csv:8: no wavs/h with a suffix .wav, .flac, .mp3, .ogg",
    "error: i: metadata.csv:9: the text is empty",
    "error: a: metadata.csv:10: id 'a' comes twice, first in line 1; only the first counts",
    "error: ../x: metadata.csv:11: id '../x' leaves the data directory",
]


def test_all_problems_in_one_run(tmp_path):
    report = checked(broken_corpus(tmp_path))
    assert said(report) == BROKEN
    assert [entry.utterance.id for entry in report.accepted] == ["a", "b", "c", "d"]
    assert (report.rejected, report.rate, report.ok) == (["e", "f", "g", "h", "i", "a", "../x"], RATE, False)


def test_the_report_does_not_depend_on_the_number_of_processes(tmp_path):
    broken_corpus(tmp_path)
    assert checked(tmp_path, HERE._replace(jobs=2)) == checked(tmp_path)


def test_json_exit_code_and_terminal(tmp_path):
    broken_corpus(tmp_path / "corpus")
    outcome = hmmtts_check(tmp_path / "corpus", "--json", tmp_path / "check.json")
    assert outcome.code == 3
    assert "4 ok, 7 rejected" in outcome.printed
    for line in BROKEN:
        assert line.partition(": ")[2] in outcome.printed
    written = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))
    assert list(written) == ["ok", "rejected", "findings"]
    assert (written["ok"], written["rejected"]) == (4, 7)
    assert [list(finding) for finding in written["findings"]] == [FIELDS] * len(BROKEN)
    assert written["findings"][4] == {
        "kind": "missing-audio",
        "severity": "error",
        "id": "h",
        "file": "metadata.csv",
        "line": 8,
        "message": "no wavs/h with a suffix .wav, .flac, .mp3, .ogg",
    }


def test_a_good_corpus_is_exit_code_0_and_warnings_do_not_change_that(tmp_path):
    outcome = hmmtts_check(corpus(tmp_path, "\ufeffa|x\n"))
    assert outcome.code == 0
    assert "byte order mark" in outcome.printed
    assert "1 ok, 0 rejected" in outcome.printed


def test_many_findings_of_a_kind_are_counted(tmp_path):
    corpus(tmp_path, "".join(f"x{n}|\n" for n in range(30)))
    printed = hmmtts_check(tmp_path, "--show", 2).printed
    assert printed.count("the text is empty") == 2
    assert "... and 28 more: --show 30 or --json FILE lists them all" in printed


def test_what_a_text_holds_is_printed_as_it_is(tmp_path):
    folder = corpus(tmp_path / "[bold]", "a|[bold]сat[/]\n")
    printed = hmmtts_check(folder, "--fix", tmp_path / "[b].jsonl.gz").printed
    assert f"folder {folder}, listed" in printed
    assert "[bold]сat[/]" in printed
    assert f"{tmp_path}/[b].jsonl.gz: 1 utterances" in printed


def test_fix_writes_what_can_be_used(tmp_path):
    broken_corpus(tmp_path / "corpus")
    fixed = tmp_path / "fixed.jsonl.gz"
    outcome = hmmtts_check(tmp_path / "corpus", "--fix", fixed)
    assert outcome.code == 3
    assert "4 utterances\nleft out: e, f, g, h, i, a, ../x\n" in outcome.printed
    assert [(u.id, u.text, u.rate, u.duration) for u in read_utterances(fixed)] == [
        (name, text, RATE, 1.0) for name, text in zip("abcd", ["one", "two", "three", "four"], strict=True)
    ]
    assert hmmtts_check(fixed).code == 0


def test_nothing_is_written_into_the_corpus(tmp_path):
    broken_corpus(tmp_path)
    paths = [tmp_path, *tmp_path.rglob("*")]
    before = [(path, path.stat().st_mtime_ns) for path in paths]
    hmmtts_check(tmp_path)
    assert [(path, path.stat().st_mtime_ns) for path in [tmp_path, *tmp_path.rglob("*")]] == before


def test_a_given_sample_rate(tmp_path):
    report = checked(corpus(tmp_path), HERE._replace(sample_rate=16000))
    assert said(report) == [
        "error: a: wavs/a.wav: 22050 Hz, --sample-rate asks for 16000; resample it (`sox IN -r 16000 OUT`)"
    ]


def test_fewer_frames_than_states(tmp_path):
    """1 s has 201 frames at 5 ms, 41 letters have 205 states; 40 letters have 200."""
    corpus(tmp_path, f"a|{'x' * 40}\nb|{'x' * 41}\n", ("a.wav", "b.wav"))
    assert said(checked(tmp_path)) == [
        "error: b: metadata.csv:2: 201 frames < 205 states, so that no alignment exists; "
        "shorten the hop (now 5 ms) or leave it out"
    ]
    assert said(checked(tmp_path, HERE._replace(states_per_symbol=4))) == []
    assert said(checked(tmp_path, HERE._replace(hop=0.004))) == []


def test_the_defaults_are_those_of_the_configuration():
    files = ("data/default", "features/acoustic/cepstra", "aligner/hmm")
    data, acoustic, aligner = (OmegaConf.load(program.folder("conf") / f"{name}.yaml") for name in files)
    given = signature(verb.run).parameters
    assert given["batch_seconds"].default == HERE.batch_seconds == data.max_seconds
    assert given["batch_items"].default == HERE.batch_items == data.max_items
    assert HERE.buckets == data.bucket_count
    assert given["hop"].default / 1000 == HERE.hop == acoustic.hop
    assert given["states_per_symbol"].default == HERE.states_per_symbol == aligner.states_per_symbol
    assert (given["min_seconds"].default, given["max_seconds"].default) == (LIMITS.shortest, LIMITS.longest)


def test_the_biggest_batch(tmp_path):
    """32 utterances a batch at most: 20 of 1 s fit, padded to 201 frames and the longest text's 7 letters."""
    corpus(
        tmp_path,
        "".join(f"u{n}|{'x' * (3 + n % 5)}\n" for n in range(20)),
        tuple(f"u{n}.wav" for n in range(20)),
    )
    biggest = checked(tmp_path, HERE._replace(buckets=1)).biggest
    assert biggest == (20, 1.0, 201, 35)
    assert checked(tmp_path, HERE._replace(buckets=1, batch_seconds=5.0)).biggest.items == 5


@pytest.mark.parametrize("name", ["new\nline", "bell\a", os.fsdecode(b"caf\xe9"), "\x1b[31mred"])
@pytest.mark.parametrize("listed", [True, False])
def test_file_names_of_any_bytes(tmp_path, name, listed):
    """They can neither break the report nor draw on the terminal."""
    corpus(tmp_path, "a|x\n", ("a.wav", "b.wav"))
    (tmp_path / "wavs/b.wav").rename(tmp_path / f"wavs/{name}.wav")
    (tmp_path / "wavs/a.txt").write_text("x")
    if not listed:
        (tmp_path / "metadata.csv").unlink()
    outcome = hmmtts_check(tmp_path, "--json", tmp_path / "check.json")
    assert outcome.code == (0 if listed else 3)
    assert json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))["ok"] == 1
    assert not set(outcome.printed) & set("\a\x1b")
    told = "names this file" if listed else "holds U+"
    assert sum(told in line for line in outcome.printed.split("\n")) == 1


def test_symbols_that_a_model_does_not_know(tmp_path):
    corpus(tmp_path, "a|one\nb|one two\n", ("a.wav", "b.wav"))
    report = checked(tmp_path, HERE._replace(symbols=SymbolTable.learn(["one"])))
    assert said(report) == [
        "error: b: metadata.csv:2: unknown symbols: 't' (U+0074) x1, 'w' (U+0077) x1",
    ]


def test_against_a_trained_voice(tmp_path):
    """What a checkpoint holds, but for its tensors."""
    normaliser = Normaliser((0.0,), (1.0,))
    facts = Facts(SymbolTable.learn(["abc", ["sil"]]), normaliser, normaliser, ("",), ("",), 10.0)
    config = {"text": {"_target_": "hmmtts.text.phones.Phones"}, "data": {"corpus_phones": False}}
    header = {"format": checkpoint.FORMAT, "config": config, "facts": facts.state()}
    checkpoint.save({"hmmtts": header}, tmp_path / "voice.ckpt")
    folder = corpus(tmp_path / "corpus", "u|sil a b\nv|sil a d d\n", ("u.wav", "v.wav"))
    outcome = hmmtts_check(folder, "--bundle", tmp_path / "voice.ckpt")
    assert outcome.code == 3
    assert "v: metadata.csv:2: unknown symbols: 'd' (U+0064) x2" in outcome.printed
    assert "1 ok, 1 rejected" in outcome.printed
    with pytest.raises(ValueError, match="exclude each other"):
        hmmtts_check(folder, "--bundle", tmp_path / "voice.ckpt", "--text", "phones")


def test_a_frontend_reads_the_text(tmp_path):
    corpus(tmp_path, "a|h e sil\nb|||\n".replace("|||", "| |"), ("a.wav", "b.wav"))
    (tmp_path / "phones.csv").write_text("a|x\n")
    report = checked(tmp_path, HERE._replace(transcribe=Transcriber(Phones(), corpus_phones=False)))
    assert [entry.symbols for entry in report.accepted] == [3]


def test_speaking_rate(tmp_path):
    lines = [f"u{n:02}|{'abcdefgh'[: 5 + n % 4]}" for n in range(12)] + ["u12|" + "a" * 40, "u13|a"]
    corpus(tmp_path, "\n".join(lines) + "\n", tuple(f"u{n:02}.wav" for n in range(14)))
    fast, slow = said(checked(tmp_path))
    assert fast.startswith("warning: u12: wavs/u12.wav: 40.0 symbols a second, the median is 6.")
    assert slow.startswith("warning: u13: wavs/u13.wav: 1.0 symbols a second")


def test_a_decoder_that_dies_is_a_finding(tmp_path, monkeypatch):
    """The processes themselves: test_guard.py."""
    corpus(tmp_path)
    monkeypatch.setattr(
        checks, "guarded", lambda _, tasks, *__: ((task, Casualty("no result in 60 s")) for task in tasks)
    )
    assert said(checked(tmp_path)) == [
        "error: a: wavs/a.wav: damaged so that decoding fails: no result in 60 s"
    ]


def test_names_that_are_no_corpus(tmp_path):
    with pytest.raises(
        ValueError, match="there is no such file; a corpus is a manifest, a folder or recipe=NAME"
    ):
        open_corpus(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="whose name ends in"):
        open_corpus(str(write(tmp_path / "a.wav")))
    with pytest.raises(ValueError, match=r"--text 'nonsense' must be one of .*phones"):
        hmmtts_check(corpus(tmp_path), "--text", "nonsense")


def test_nonsense_of_every_kind_ends_in_findings(tmp_path):
    """Random names, random bytes, random metadata: never an exception."""
    source = random.Random(0)
    (tmp_path / "wavs").mkdir()
    rows = []
    for number in range(60):
        suffix = source.choice([".wav", ".flac", ".mp3", ".ogg", ".txt", ""])
        (tmp_path / "wavs" / f"{number}{suffix}").write_bytes(source.randbytes(source.randrange(300)))
        rows.append(
            str(number).encode() + source.choice([b"|", b"", b"||", b"\t", b"|x|"]) + source.randbytes(20)
        )
    (tmp_path / "metadata.csv").write_bytes(b"\n".join(rows))
    report = checked(tmp_path)
    assert report.accepted == []
    assert not report.ok


@needs_data
@pytest.mark.parametrize("name", CORPORA)
def test_the_test_corpora_pass_and_keep_their_times(name, tmp_path):
    """From TextGrid to manifest and back: within 1 ms of the file."""
    fixed = tmp_path / "cuts.jsonl.gz"
    outcome = hmmtts_check(TEST_DATA / name, "--fix", fixed, "--json", tmp_path / "check.json")
    written = json.loads((tmp_path / "check.json").read_text())
    assert [finding for finding in written["findings"] if finding["severity"] == "error"] == []
    assert outcome.code == 0
    utterances = list(read_utterances(fixed))
    assert (
        len(utterances) == written["ok"] == len((TEST_DATA / name / "metadata.csv").read_bytes().splitlines())
    )
    for utterance in utterances:
        given = textgrid_times(TEST_DATA / name / "alignments" / f"{utterance.id}.TextGrid", "phones")
        assert [item.symbol for item in utterance.phone_times] == [label for _, _, label in given]
        times = np.array([(item.start, item.end) for item in utterance.phone_times])
        assert np.abs(times - np.array([(start, end) for start, end, _ in given])).max() < 1e-3
    assert re.search(rf"{len(utterances):,} ok, 0 rejected", outcome.printed)
