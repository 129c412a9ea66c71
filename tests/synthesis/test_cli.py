"""`hmmtts synthesize`, `hmmtts align --checkpoint` and `hmmtts evaluate model` from the command line."""

import csv
import json
import shutil
import sys
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from lhotse.supervision import AlignmentItem

from hmmtts import build, cli, synthesis
from hmmtts.audio import io
from hmmtts.build import objects
from hmmtts.data.alignment import read_textgrid
from hmmtts.data.corpus import open_corpus
from hmmtts.data.manifest import write_utterances
from hmmtts.metrics.definitions import define
from hmmtts.metrics.report.recognise import words
from hmmtts.synthesis import speaking
from hmmtts.training import sentences
from hmmtts.training.data import SpeechData, dataset_of
from hmmtts.training.evaluate import evaluate
from tests.synthesis import voices

TEXT = "A cat sat, a dog ran."


@pytest.fixture
def hmmtts(monkeypatch, capsys):
    """Runs the command in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hmmtts", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return stopped.value.code or 0, *capsys.readouterr()

    return run


def test_a_text_with_its_times_and_spoken_again_with_them(hmmtts, bundle, tmp_path):
    out = tmp_path / "new" / "a.wav"
    code, printed, _ = hmmtts(
        "synthesize", bundle, TEXT, "-o", out, "--times", "json,textgrid", "--duration", "2"
    )
    assert code == 0
    assert "2.00 s of speech" in printed
    assert "real-time factor" in printed
    wave, rate = soundfile.read(out)
    assert (len(wave), rate) == (2 * voices.RATE, voices.RATE)
    times = json.loads(out.with_suffix(".json").read_text())
    assert times["duration"] == 2
    assert [word["label"] for word in times["words"]] == ["A", "cat", "sat", "a", "dog", "ran"]
    grid = read_textgrid(out.with_suffix(".TextGrid"))
    assert [phone.symbol for phone in grid.phones] == [phone["label"] for phone in times["phones"]]
    for name in ("a.json", "a.TextGrid"):
        again = tmp_path / "again.wav"
        assert hmmtts("synthesize", bundle, "--timing", out.parent / name, "-o", again)[0] == 0
        assert np.abs(soundfile.read(again)[0] - wave).max() < 0.01
    assert sorted(path.name for path in out.parent.iterdir()) == ["a.TextGrid", "a.json", "a.wav"]


def test_a_file_of_texts(hmmtts, bundle, tmp_path):
    (tmp_path / "lines.txt").write_text("A cat.\n\nx|A {0.5: dog}.\n")
    code, printed, _ = hmmtts(
        "synthesize", bundle, "--file", tmp_path / "lines.txt", "--out-dir", tmp_path / "out", "--rate", "0.8"
    )
    assert code == 0
    assert "2 texts in" in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0001.wav", "x.wav"]


def test_a_stream_writes_what_the_whole_is(hmmtts, bundle, tmp_path, monkeypatch):
    (tmp_path / "long.txt").write_text(
        "The quick brown fox jumps over the lazy dogs and runs on and on.\n" * 3
    )
    code, printed, _ = hmmtts(
        "synthesize",
        bundle,
        "--file",
        tmp_path / "long.txt",
        "--stream",
        "-o",
        tmp_path / "s.wav",
        "--times",
        "json",
    )
    assert code == 0
    assert "first audio after" in printed
    assert hmmtts("synthesize", bundle, (tmp_path / "long.txt").read_text(), "-o", tmp_path / "w.wav")[0] == 0
    streamed, whole = (soundfile.read(tmp_path / name)[0] for name in ("s.wav", "w.wav"))
    np.testing.assert_allclose(streamed, whole, atol=1e-3)
    times = json.loads((tmp_path / "s.json").read_text())
    assert times["words"][-1]["end"] <= len(streamed) / voices.RATE

    raw, voice, text = BytesIO(), synthesis.load(bundle), (tmp_path / "long.txt").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", SimpleNamespace(buffer=raw))
        speaking.stream(voice, text, speaking.STDOUT, [], voice.who(), 0, 1.0)
    piped = np.frombuffer(raw.getvalue(), "<i2") / 32767
    np.testing.assert_allclose(piped, streamed, atol=1e-3)


def test_bad_synthesis_by_its_message(hmmtts, bundle, tmp_path):
    out = ["-o", tmp_path / "x.wav"]
    (tmp_path / "bad.txt").write_text("a|a cat\nb|ж\n")
    (tmp_path / "twice.txt").write_text("a|a cat\na|a dog\n")
    (tmp_path / "path.txt").write_text("../a|a cat\n")
    (tmp_path / "empty.txt").write_text("\n")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    (tmp_path / "run").mkdir()
    file, folder = ["--file", tmp_path / "bad.txt"], ["--out-dir", tmp_path / "o"]
    for arguments, message in {
        (bundle, "", *out): "text must hold something to speak, got ''",
        (bundle, "ж", *out): "unknown symbols: 'ж' (U+0436)",
        (bundle, *file, *folder): "bad.txt:2: unknown symbols: 'ж'",
        (bundle, "--file", tmp_path / "twice.txt", *folder): "twice.txt:2: the name 'a' is that of line 1 already",
        (bundle, "--file", tmp_path / "path.txt", *folder): "path.txt:1: the name '../a' must be one that a file can have",
        (bundle, "--file", tmp_path / "empty.txt", *folder): "holds no text to speak",
        (bundle, "--file", tmp_path / "none.txt", *folder): "there is no such file",
        (tmp_path / "none", "a", *out): "none does not exist",
        (tmp_path / "run", "a", *out): "has no checkpoints/best.ckpt",
        (tmp_path / "bad.txt", "a", *out): "is damaged or no checkpoint",
        (tmp_path / "foreign.ckpt", "a", *out): "was not written by hmmtts",
        (bundle, "a"): "one text needs --out",
        (bundle, *out): "give TEXT or --file",
        (bundle, *file, *out): "--file needs --out-dir",
        (bundle, "a", "-o", tmp_path / "x.mp3"): "--out must end in .wav, .flac, .ogg",
        (bundle, "a", *out, "--times", "praat"): "--times must be of textgrid, ctm, json, lab, got 'praat'",
        (bundle, "a", *out, "--vocoder", "vocos"): "vocoder must be griffinlim or the path of an .onnx file",
        (bundle, "a", *out, "--duration", "3", "--rate", "2"): "--duration and --rate contradict each other",
        (bundle, "a", *out, "--duration", "3", "--stream"): "--duration needs the whole text",
        (bundle, "", *out, "--stream"): "text must hold something to speak",
        (bundle, "a", *out, "--speaker", "carl"): "'anna', 'bert', got 'carl'",
        (bundle, "a", *out, "--temperature", "1"): "temperature must be left out",
        (bundle, "a", *out, "--timing", tmp_path / "none.json"): "there is no such file",
    }.items():  # fmt: skip
        code, _, printed = hmmtts("synthesize", *arguments)
        assert code == (2 if arguments[0] == bundle else 4), arguments  # 4: it is the checkpoint
        assert message in printed.replace("\n", " "), (arguments, printed)
        assert "Traceback" not in printed
    assert not (tmp_path / "x.wav").exists()
    assert not (tmp_path / "o").exists()


def test_a_corpus_is_aligned_by_a_voice_and_the_run_continues(hmmtts, bundle, tmp_path):
    corpus = voices.corpus(tmp_path / "corpus", 4)
    with (corpus / "metadata.csv").open("a") as rows:
        rows.write("odd|ж|ж\nshort|abc abc abc|abc abc abc\n")
    for name in ("odd", "short"):
        soundfile.write(corpus / "wavs" / f"{name}.wav", voices.tones("a", 0)[0][:2000], voices.RATE)
    command = [
        "align",
        corpus,
        "--checkpoint",
        bundle,
        "--out",
        tmp_path / "out",
        "--format",
        "textgrid,json",
    ]
    code, printed, failure = hmmtts(*command)
    assert code == 3, failure
    assert "4 of 6 utterances aligned" in printed
    assert "not aligned: odd" in printed
    assert "unknown symbols: 'ж'" in printed
    assert "not aligned: short" in printed
    assert "is this the text of another recording?" in printed
    errors = []
    for seed in range(100, 104):
        _, edges = voices.tones(voices.words(seed).replace(" ", ""), seed)
        phones = read_textgrid(tmp_path / "out" / f"u{seed}.TextGrid").phones
        errors += [phone.end - edge for phone, edge in zip(phones, edges[1:], strict=True)]
    assert np.abs(errors).max() < 0.015
    assert "4 of them by an earlier run" in hmmtts(*command)[1]
    other = shutil.copy(bundle, tmp_path / "other.ckpt")
    assert "earlier run" not in hmmtts(*command[:3], other, *command[4:])[1]
    assert "leave --text and --language out" in hmmtts(*command, "--text", "phones")[2]


def test_a_model_is_evaluated_as_training_does(hmmtts, bundle, tmp_path, monkeypatch):
    corpus = voices.corpus(tmp_path / "corpus", 2)
    utterances = [_with_times(entry.utterance) for entry in open_corpus(str(corpus)).entries]
    monkeypatch.setattr(sentences, "prepare", lambda *_: corpus)
    for split in ("train", "valid", "test"):
        write_utterances(corpus / f"cuts_{split}.jsonl.gz", utterances)
    monkeypatch.chdir(tmp_path)
    outputs = ("--json", "m.json", "--csv", "m.csv", "--picture", "m.png")
    code, printed, errors = hmmtts("evaluate", "model", bundle, *outputs)
    assert code == 0, errors
    report = json.loads(Path("m.json").read_text())
    voice = build.load(bundle)
    loading = objects.loading(voice.config)
    dataset = dataset_of(loading, voice.features, voice.frontend, voice.facts, 0)
    batches = SpeechData({"test": utterances}, dataset, loading, 0).evaluation("test")
    expected = evaluate(voice, batches, utterances, anchors=True, workers=0)
    assert report["figures"].keys() == expected.keys()
    for key, value in expected.items():
        assert report["definitions"][key] == define(key)
        got = report["figures"][key]
        assert (got is None and np.isnan(value)) or got == pytest.approx(value, rel=1e-4), key
    assert report["figures"]["test/alignment_accuracy"] > 0.95
    low, high = report["intervals"]["test/mcd_db"]
    assert low < report["figures"]["test/mcd_db"] < high
    rows = list(csv.DictReader(Path("m.csv").read_text().splitlines()))
    assert sorted(row["id"] for row in rows) == ["u100", "u101"]
    mean = np.mean([float(row["test/alignment_accuracy"]) for row in rows])
    assert mean == pytest.approx(report["figures"]["test/alignment_accuracy"], rel=1e-4)
    for word in ("floor", "ceiling", "constant", "uniform", "mcd_db", "mel-cepstral distortion"):
        assert word in printed
    assert Path("m.png").read_bytes().startswith(b"\x89PNG")


def test_a_voice_that_nobody_understands(hmmtts, bundle, tmp_path, monkeypatch):
    """The recogniser hears the text in the recordings, and nothing in what the voice makes."""
    corpus = voices.corpus(tmp_path / "corpus", 2)
    utterances = [_with_times(entry.utterance) for entry in open_corpus(str(corpus)).entries]
    known = {io.read(utterance.audio)[0].tobytes(): words(utterance.text) for utterance in utterances}
    report = sentences.evaluate_bundle(
        build.load(bundle), utterances, recogniser=lambda wave, rate: known.get(wave.tobytes(), [])
    )
    assert report.figures["test/word_error_rate"] == 1
    assert report.figures["test/word_error_rate_natural"] == 0
    assert "pocketsphinx" in report.definitions["test/word_error_rate"]


def _with_times(utterance):
    """The true times of its tones."""
    seed = int(utterance.id[1:])
    _, edges = voices.tones(utterance.text.replace(" ", ""), seed)
    labels = ["sil", *utterance.text.replace(" ", ""), "sil"]
    phones = [AlignmentItem(label, a, b - a) for label, a, b in zip(labels, edges, edges[1:], strict=False)]
    middle = 1 + len(utterance.text.split()[0])
    spans = ((edges[1], edges[middle]), (edges[middle], edges[-2]))
    words = [
        AlignmentItem(word, a, b - a) for word, (a, b) in zip(utterance.text.split(), spans, strict=True)
    ]
    return utterance._replace(
        rate=voices.RATE,
        duration=edges[-1],
        audio_duration=edges[-1],
        phone_times=phones,
        word_times=words,
        speaker="anna",
        language="en",
    )


def test_bad_evaluations_by_their_message(hmmtts, bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, message in {
        ("none",): "none does not exist",
        (bundle, "seed=1"): "options of a corpus need one recipe=NAME, got seed=1",
        (bundle, "recipe=none"): "recipe must be one of",
        (bundle, "--json", "no/m.json"): "its folder does not exist",
    }.items():
        code, _, printed = hmmtts("evaluate", "model", *arguments)
        assert code == (2 if arguments[0] == bundle else 4)
        assert message in printed


@pytest.mark.parametrize("verb", [["synthesize"], ["evaluate", "model"], ["align"]])
def test_help_has_an_example(hmmtts, verb):
    code, printed, _ = hmmtts(*verb, "--help")
    assert code == 0
    assert f"hmmtts {' '.join(verb)} " in printed


def test_a_stream_that_turns_out_wrong_keeps_what_was_spoken(hmmtts, bundle, tmp_path):
    sentence = "The quick brown fox jumps over the lazy dogs and runs on and on. "
    out = tmp_path / "s.wav"
    code, _, printed = hmmtts("synthesize", bundle, f"{sentence}ж", "--stream", "-o", out)
    assert code == 2
    assert "unknown symbols: 'ж'" in printed
    assert "s.wav: ends after" in printed
    assert hmmtts("synthesize", bundle, sentence, "-o", tmp_path / "w.wav")[0] == 0
    np.testing.assert_array_equal(soundfile.read(out)[0], soundfile.read(tmp_path / "w.wav")[0])
