"""`hmmtts check` of what is prepared already: our manifests, a recipe by its name, manifests of lhotse."""

from pathlib import Path

import pytest

from hmmtts.data.check import check
from hmmtts.data.corpus import open_corpus, open_folder
from hmmtts.data.manifest import from_lhotse, write_utterances
from tests.corpus.sounds import cut, speech, write
from tests.corpus.test_check import HERE, checked, hmmtts_check, said
from tests.corpus.test_folder import corpus


def manifest(folder: Path, split: str = "train", names: str = "ab") -> Path:
    corpus(folder, "".join(f"{name}|text\n" for name in names), tuple(f"{name}.wav" for name in names))
    report = check(open_folder(folder, "utf-8"), HERE)
    path = folder / f"cuts_{split}.jsonl.gz"
    write_utterances(path, (entry.utterance for entry in report.accepted))
    return path


def test_a_manifest_that_the_files_have_left_behind(tmp_path):
    path = manifest(tmp_path, names="abcd")
    write(tmp_path / "wavs/a.wav", speech(rate=16000), 16000)
    write(tmp_path / "wavs/b.wav", speech(1.5))
    cut(tmp_path / "wavs/c.wav", 22072)
    (tmp_path / "wavs/d.wav").unlink()
    a, rate, b, c, d = said(checked(path))
    assert "the manifest says 22050 Hz, the file has 16000; prepare the corpus again" in a
    assert "16000 Hz, most of the corpus has 22050" in rate
    assert "the manifest says 1.000 s, the file has 1.500; prepare the corpus again" in b
    assert "truncated" in c
    assert "no such file" in d


def test_one_id_in_two_splits(tmp_path):
    manifest(tmp_path, "train", "ab")
    (tmp_path / "cuts_test.jsonl.gz").write_bytes((tmp_path / "cuts_train.jsonl.gz").read_bytes())
    assert said(checked(tmp_path)) == [
        "error: a: cuts_test.jsonl.gz:1: id 'a' comes twice, first in cuts_train.jsonl.gz:1; only the first counts",
        "error: b: cuts_test.jsonl.gz:2: id 'b' comes twice, first in cuts_train.jsonl.gz:2; only the first counts",
    ]


def test_bad_lines_of_a_manifest(tmp_path):
    path = tmp_path / "cuts.jsonl"
    path.write_text('{"id": 3}\nnonsense\n')
    first, second = said(checked(path))
    assert first.startswith("error: cuts.jsonl:1: not a lhotse cut (KeyError: 'type')")
    assert second.startswith("error: cuts.jsonl:2: not a lhotse cut (JSONDecodeError")


def test_recipes_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"data/demo holds no corpus yet; make it with `python recipes/demo/prepare\.py`"
    ):
        open_corpus("recipe=demo")
    manifest(tmp_path / "data/demo")
    assert hmmtts_check("recipe=demo").code == 0


def test_what_a_recipe_of_lhotse_prepared(tmp_path):
    """lhotse's own LJSpeech recipe, run on a corpus of its layout."""
    from lhotse.recipes import prepare_ljspeech

    corpus(
        tmp_path / "LJSpeech-1.1",
        "LJ001-0001|Dr. A|Doctor A\nLJ001-0002|B|B\n",
        ("LJ001-0001.wav", "LJ001-0002.wav"),
    )
    made = prepare_ljspeech(tmp_path / "LJSpeech-1.1", tmp_path / "manifests")
    assert [utterance.text for utterance in from_lhotse(**made)] == ["Doctor A", "B"]
    report = checked(tmp_path / "manifests")
    assert [(entry.utterance.id, entry.utterance.text) for entry in report.accepted] == [
        ("LJ001-0001", "Doctor A"),
        ("LJ001-0002", "B"),
    ]
    assert report.findings == []


def test_damaged_manifests_of_lhotse(tmp_path):
    (tmp_path / "x_recordings_all.jsonl.gz").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"x_supervisions_all\.jsonl\.gz are no manifests of lhotse"):
        open_corpus(str(tmp_path))
