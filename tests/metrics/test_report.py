"""`hmmtts evaluate`: its figures against an independent judge and the functions, its files, and its answers to bad input."""

import csv
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from praatio import textgrid

from hmmtts import cli
from hmmtts.audio.io import read, write
from hmmtts.metrics.functional import compare_speech
from hmmtts.metrics.report.alignment import INTO_PAUSE, evaluate_alignment
from hmmtts.metrics.report.folders import common
from hmmtts.metrics.report.phone_classes import phone_classes
from hmmtts.metrics.report.recognise import read_texts, word_errors, words
from hmmtts.metrics.report.speech import evaluate_speech
from hmmtts.metrics.report.tables import plain, shown
from hmmtts.metrics.report.textgrid import read_phones
from tests.data import TEST_DATA, needs_data
from tests.metrics.reference import PAIRS, both

JUDGE = TEST_DATA.parent / "tools" / "score_alignments.py"
needs_judge = pytest.mark.skipif(not JUDGE.is_file(), reason="no independent judge beside the test corpora")


@pytest.fixture
def hmmtts(monkeypatch, capsys):
    """Runs the command in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hmmtts", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return stopped.value.code, *capsys.readouterr()

    return run


def write_grid(path: Path, intervals: list[tuple[float, float, str]], tier: str = "phones") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = textgrid.Textgrid()
    grid.addTier(textgrid.IntervalTier(tier, intervals, 0, intervals[-1][1]))
    grid.save(str(path), format="long_textgrid", includeBlankSpaces=True)


def perturb(source: Path, target: Path, seed: int) -> None:
    """The same phones with every edge moved by up to a third of its neighbours, and half of the pauses swallowed."""
    generator = np.random.default_rng(seed)
    tier = textgrid.openTextgrid(str(source), includeEmptyIntervals=True).getTier("phones")
    edges = np.array([0.0, *(entry.end for entry in tier.entries)])
    room = np.minimum(np.diff(edges)[:-1], np.diff(edges)[1:]) / 3
    moved = edges.copy()
    moved[1:-1] += 0.004 + room * generator.uniform(-1, 1, len(room))
    labels = [entry.label for entry in tier.entries]
    intervals = []
    for start, end, label in zip(moved[:-1], moved[1:], labels, strict=True):
        if label == "sil" and intervals and generator.random() < 0.5:
            before = intervals.pop()
            intervals.append((before[0], end, before[2]))  # the phone before takes the pause
        else:
            intervals.append((start, end, label))
    write_grid(target, intervals)


@pytest.fixture(scope="module")
def perturbed(tmp_path_factory) -> tuple[Path, Path]:
    """A corpus of 12 utterances and a hypothesis of them: 10 perturbed, one with a wrong phone, one missing."""
    folder = tmp_path_factory.mktemp("alignment")
    corpus, hypothesis = folder / "corpus", folder / "hypothesis"
    (corpus / "alignments").mkdir(parents=True)
    sources = sorted((TEST_DATA / "flite_slt" / "alignments").glob("*.TextGrid"))[:12]
    for seed, source in enumerate(sources):
        shutil.copy(source, corpus / "alignments")
        if seed < 10:
            perturb(source, hypothesis / source.name, seed)
    entries = textgrid.openTextgrid(str(sources[10]), includeEmptyIntervals=False).getTier("phones").entries
    wrong = [(entry.start, entry.end, "ZH" if at == 3 else entry.label) for at, entry in enumerate(entries)]
    write_grid(hypothesis / sources[10].name, wrong)
    return corpus, hypothesis


@needs_data
@needs_judge
def test_agrees_with_the_independent_judge(perturbed, tmp_path):
    corpus, hypothesis = perturbed
    subprocess.run([sys.executable, JUDGE, corpus, hypothesis, "--json", tmp_path / "judge.json"], check=True)
    judge = json.loads((tmp_path / "judge.json").read_text())
    ours = evaluate_alignment(corpus, hypothesis)
    assert ours.figures["boundaries"] == judge["boundaries"] > 300
    assert sorted(ours.failed) == sorted(judge["failed"])
    assert len(ours.failed) == 2
    for name in ("median_ms", "mean_ms", "bias_ms"):
        assert ours.figures[f"boundary_{name}"] == pytest.approx(judge[name], abs=1e-9)
    for ms in (10, 20, 25, 50):
        assert 100 * ours.figures[f"boundary_within_{ms}ms"] == pytest.approx(judge[f"within_{ms}"], abs=1e-9)
        assert 100 * ours.figures[f"boundary_debiased_within_{ms}ms"] == pytest.approx(
            judge[f"debiased_{ms}"], abs=1e-9
        )
    assert 0.05 < ours.figures["boundary_within_10ms"] < 0.95


@needs_data
def test_alignment_report(perturbed):
    report = evaluate_alignment(*perturbed)
    assert report.figures["alignment_utterances"] == len(report.utterances) == 10
    assert sorted(report.failed.values())[0] == "missing"
    assert "phone 3 is ZH, the reference has" in sorted(report.failed.values())[1]
    for name, (low, high) in report.intervals.items():
        assert low <= report.figures[name] <= high, name
    counts = {label: figures["boundaries"] for label, figures in report.classes.items()}
    assert sum(counts.values()) == report.figures["boundaries"]
    assert counts["vowel"] > counts["affricate"] > 0
    assert counts[INTO_PAUSE] >= 10  # every utterance ends
    assert report.uniform["alignment_accuracy"] < 0.5 < report.figures["alignment_accuracy"] < 1
    mean = np.mean([one["alignment_accuracy"] for one in report.utterances.values()])
    assert report.figures["alignment_accuracy"] == pytest.approx(mean)


def test_equal_parts_count_the_pauses(tmp_path):
    """What is cut into equal parts already has no error against equal parts."""
    write_grid(tmp_path / "a.TextGrid", [(0, 1, "sil"), (1, 2, "a"), (2, 3, "b"), (3, 4, "sil"), (4, 5, "c")])
    report = evaluate_alignment(tmp_path, tmp_path)
    assert report.figures["boundaries"] == 5
    assert np.abs(report.uniform_errors).max() < 1e-9
    assert report.uniform["alignment_accuracy"] == 1


@needs_data
def test_a_corpus_against_itself_is_perfect():
    corpus = TEST_DATA / "espeak_ko"
    report = evaluate_alignment(corpus, corpus)
    assert report.figures["alignment_accuracy"] == report.figures["boundary_within_10ms"] == 1
    assert report.figures["boundary_mean_ms"] == 0
    assert report.figures["duration_accuracy"] == report.figures["duration_correlation"] == pytest.approx(1)
    assert not report.failed


@needs_data
def test_alignment_command(perturbed, tmp_path, hmmtts):
    corpus, hypothesis = perturbed
    outputs = [tmp_path / name for name in ("a.json", "a.csv", "a.png")]
    code, out, err = hmmtts(
        "evaluate", "alignment", "--ref", corpus, "--hyp", hypothesis,
        "--json", outputs[0], "--csv", outputs[1], "--picture", outputs[2],
    )  # fmt: skip
    assert code == 0, err
    content = json.loads(outputs[0].read_text())
    assert f"{100 * content['figures']['alignment_accuracy']:.1f} %" in out
    assert content["definitions"].keys() == content["figures"].keys() | {"uniform"}
    for name in (*content["definitions"], *content["failed"], *content["classes"]):
        assert name in out
    assert len(list(csv.DictReader(outputs[1].open()))) == 10
    assert outputs[2].read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def voices(tmp_path_factory) -> tuple[Path, Path]:
    """Two voices that speak two sentences, one recording without a synthesis, TextGrids that fit for one sentence."""
    folder = tmp_path_factory.mktemp("speech")
    ref, hyp = folder / "ref", folder / "hyp"
    for side, pick in ((ref, "ref"), (hyp, "test")):
        side.mkdir()
        for pair in ("A0", "A1"):
            wave, rate = read(TEST_DATA / "metric_pairs" / "wavs" / PAIRS[pair][pick])
            write(side / f"{pair}.wav", wave[: int(1.2 * rate)], rate)
    write_grid(ref / "A0.TextGrid", [(0, 0.2, "a"), (0.2, 0.5, "b"), (0.5, 0.6, "sil")])
    write_grid(hyp / "A0.TextGrid", [(0, 0.3, "a"), (0.3, 0.6, "b")])
    write_grid(ref / "A1.TextGrid", [(0, 0.3, "a")])
    write_grid(hyp / "A1.TextGrid", [(0, 0.3, "c")])
    shutil.copy(ref / "A1.wav", ref / "A2.wav")
    return ref, hyp


@needs_data
def test_speech_report(voices):
    report = evaluate_speech(*voices, anchors=False)
    assert report.missing == ["A2"]
    assert report.figures["speech_utterances"] == 2
    assert report.figures["duration_accuracy"] == pytest.approx(1 - 0.1 / 0.5)
    assert report.figures["duration_phones"] == 2
    assert report.other_phones == ["A1"]
    for name, low_high in report.intervals.items():
        figure = report.figures[name]
        assert math.isnan(low_high[0]) or low_high[0] <= figure + 1e-12, name
    rows = report.utterances.values()
    for name in ("mcd_db", "mcd_by_index_db", "spectral_distortion_db", "f0_rmse_cents", "vuv_error"):
        assert report.figures[name] == pytest.approx(np.mean([row[name] for row in rows])), name
    assert report.figures["f0_covoiced_frames"] == sum(row["f0_covoiced_frames"] for row in rows)
    assert "floor" not in report.anchors
    assert 0 < report.anchors["constant"]["f0_rmse_hz"] < 60


@needs_data
def test_speech_command_with_anchors(voices, tmp_path, hmmtts):
    ref, hyp = tmp_path / "wavs", tmp_path / "hyp"
    for side, source in zip((ref, hyp), voices, strict=True):
        side.mkdir()
        shutil.copy(source / "A0.wav", side)
    outputs = [tmp_path / name for name in ("s.json", "s.csv", "s.svg")]
    code, out, err = hmmtts(
        "evaluate", "speech", "--ref", ref, "--hyp", hyp,
        "--json", outputs[0], "--csv", outputs[1], "--picture", outputs[2],
    )  # fmt: skip
    assert code == 0, err
    content = json.loads(outputs[0].read_text())
    # The same speaker through a vocoder is nearer than another speaker, and that one nearer than a drone.
    floor, ceiling = (content["anchors"][name]["mcd_db"] for name in ("floor", "ceiling"))
    assert floor < content["figures"]["mcd_db"] < ceiling
    assert "frames paired along the exact DTW path" in content["pairing"]
    assert content["intervals"]["mcd_db"] == [None, None]  # one utterance has no interval
    for name in content["definitions"]:
        assert name in out
    (row,) = csv.DictReader(outputs[1].open())
    assert float(row["mcd_db"]) == pytest.approx(content["figures"]["mcd_db"], abs=1e-4)
    assert outputs[2].read_text().lstrip().startswith("<?xml")


@needs_data
def test_rates_may_differ_and_the_lower_one_limits_the_band(voices, tmp_path):
    ref, _ = voices
    (tmp_path / "hyp").mkdir()
    wave, rate = read(ref / "A1.wav")
    write(
        tmp_path / "hyp" / "A1.wav", wave.repeat(2), 2 * rate
    )  # the same, by repetition: images above 8 kHz only
    report = evaluate_speech(ref, tmp_path / "hyp", anchors=False)
    assert report.fmax == 8000
    assert report.figures["mcd_db"] < 3
    assert evaluate_speech(ref, tmp_path / "hyp", fmax=4000, anchors=False).fmax == 4000


@needs_data
def test_word_error_rates(voices, tmp_path):
    pytest.importorskip("pocketsphinx")
    ref, hyp = voices
    (tmp_path / "m.csv").write_text("A0|But if by that|but if by that\nA1|x|something else again\n")
    texts = read_texts(tmp_path / "m.csv")
    assert texts["A0"] == ["but", "if", "by", "that"]
    report = evaluate_speech(ref, hyp, anchors=False, texts=texts)
    rates = [row["word_error_rate"] for row in report.utterances.values()]
    assert report.figures["word_error_rate"] == pytest.approx((4 * rates[0] + 3 * rates[1]) / 7)
    assert report.figures["word_error_rate_natural"] >= 0
    with pytest.raises(ValueError, match=r"A1: no words in the texts given \(1 of 2"):
        evaluate_speech(ref, hyp, texts={"A0": ["but"]})


def test_word_errors():
    assert words("Don't stop -- 3 times, ÉTÉ!") == ["don't", "stop", "times", "été"]
    for ref, hyp, errors in (
        ("abc", "abc", 0),
        ("abc", "", 3),
        ("", "ab", 2),
        ("kitten", "sitting", 3),
        ("ab", "ba", 2),
    ):
        assert word_errors(list(ref), list(hyp)) == errors


def test_phone_classes():
    arpabet = phone_classes(["AA1", "Y", "TH", "CH", "NG", "dx", "p"])
    assert [*arpabet.values()] == [
        "vowel",
        "approximant",
        "fricative",
        "affricate",
        "nasal",
        "approximant",
        "stop",
    ]
    ipa = phone_classes(["ˈyː", "tʃ", "t͡s", "th", "ŋ", "ɹ", "əl", "ɬa", "?", "ç"])
    expected = [
        "vowel",
        "affricate",
        "affricate",
        "stop",
        "nasal",
        "approximant",
        "vowel",
        "approximant",
        "other",
        "fricative",
    ]
    assert [*ipa.values()] == expected


@needs_data
@pytest.mark.parametrize("corpus", ["flite_slt", "espeak_en_us", "espeak_de", "espeak_ko", "ljspeech32"])
def test_every_phone_of_the_corpora_has_a_class(corpus):
    inventory = json.loads((TEST_DATA / corpus / "corpus.json").read_text())["inventory"].keys() - {
        "sil",
        "spn",
    }
    assert "other" not in phone_classes(inventory).values()


def test_nothing_undefined_reaches_json_or_looks_like_a_number():
    assert plain({"a": [1.0, math.nan], "b": (math.inf, "x")}) == {"a": [1.0, None], "b": [None, "x"]}
    assert shown("mcd_db", math.nan) == "undefined"
    assert shown("vuv_error", 0.1234) == "12.3 %"
    assert shown("boundaries", 12.0) == "12"


def test_foreign_files(tmp_path):
    ref, hyp, text = tmp_path / "ref", tmp_path / "hyp", "not a TextGrid"
    write_grid(ref / "a.TextGrid", [(0, 1, "x")])
    for name, content, message in (
        ("text", text, r"a\.TextGrid: not readable as a TextGrid"),
        ("empty", "", r"a\.TextGrid: not readable as a TextGrid"),
    ):
        path = hyp / name / "a.TextGrid"
        path.parent.mkdir(parents=True)
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            evaluate_alignment(ref, path.parent)
    write_grid(tmp_path / "tier" / "a.TextGrid", [(0, 1, "x")], tier="Mary")
    with pytest.raises(ValueError, match="no tier is called phones or phone or phonemes, only Mary"):
        read_phones(tmp_path / "tier" / "a.TextGrid")
    write_grid(tmp_path / "other" / "a.TextGrid", [(0, 0.5, "x"), (0.5, 1, "y")])
    with pytest.raises(
        ValueError, match=r"no utterance has the phones of .* a: 2 phones, the reference has 1"
    ):
        evaluate_alignment(ref, tmp_path / "other")
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "a.wav").write_text("not a sound")
    with pytest.raises(ValueError, match=r"a\.wav: not readable as sound"):
        evaluate_speech(tmp_path / "audio", tmp_path / "audio")


def test_two_files_of_one_id(tmp_path):
    for name in ("x/a.wav", "y/a.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="have one id, a: give a folder that holds one of them"):
        common(tmp_path, tmp_path, (".wav",), "wavs")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speech", "--ref", "nowhere", "--hyp", "{full}"], "nowhere: not a folder"),
        (["speech", "--ref", "{empty}", "--hyp", "{full}"], "no file that ends in .wav"),
        (
            ["alignment", "--ref", "{full}", "--hyp", "{other}"],
            "no utterance in common: the first holds e.g. a, the second e.g. b",
        ),
        (
            ["alignment", "--ref", "{full}", "--hyp", "{full}", "--picture", "x.bmp"],
            "--picture must end in .png",
        ),
        (
            ["alignment", "--ref", "{full}", "--hyp", "{full}", "--json", "nowhere/x.json"],
            "its folder does not exist",
        ),
        (["speech", "--ref", "{full}", "--hyp", "{full}", "--asr"], "metadata.csv: no such file"),
    ],
)
def test_bad_input_is_answered_without_a_traceback(tmp_path, monkeypatch, hmmtts, arguments, message):
    monkeypatch.chdir(tmp_path)
    folders = {name: tmp_path / name for name in ("empty", "full", "other")}
    folders["empty"].mkdir()
    write_grid(folders["full"] / "a.TextGrid", [(0, 1, "x")])
    write_grid(folders["other"] / "b.TextGrid", [(0, 1, "x")])
    code, _, err = hmmtts("evaluate", *(text.format(**folders) for text in arguments))
    assert code == 2
    assert message in err


@needs_data
def test_figures_of_a_folder_are_those_of_the_pairs(tmp_path):
    """Whole files this time, at 16 kHz as they are: the published figure of the pair."""
    for side, pick in (("ref", "ref"), ("hyp", "test")):
        (tmp_path / side).mkdir()
        shutil.copy(TEST_DATA / "metric_pairs" / "wavs" / PAIRS["A0"][pick], tmp_path / side / "A0.wav")
    report = evaluate_speech(tmp_path / "ref", tmp_path / "hyp", anchors=False)
    assert report.figures["mcd_db"] == pytest.approx(
        PAIRS["A0"]["mcd_db"]["world_mcep24_noc0_dtw_exact"], abs=5.1e-5
    )
    assert report.figures["mcd_db"] == pytest.approx(compare_speech(*both("A0")).mcd_db, abs=1e-6)
    assert torch.get_default_dtype() == torch.float32
