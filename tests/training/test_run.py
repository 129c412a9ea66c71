"""The whole program on the tiny demo profile: it learns, it does not learn from nonsense, it resumes, it reports."""

import json
import logging
import re
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from hmmtts import build
from hmmtts.build import program
from hmmtts.data.manifest import manifests, read_utterances, write_utterances
from hmmtts.metrics.definitions import define
from hmmtts.training import run as runs
from hmmtts.training.compose import register_recipes
from hmmtts.training.config import checked
from hmmtts.training.faults import ConfigError, DataError, Interrupted
from hmmtts.training.prepare import prepare
from hmmtts.training.run_folder import Start

# A model that is small everywhere, so that a run takes seconds; the aligner keeps its shape, since it is what must learn.
SMALL = [
    "recipe=demo", "prepare.profile=tiny", "threads=1", "data.workers=0", "data.max_seconds=60", "run.name=t",
    "encoder.width=16", "encoder.layers=1", "decoder.dilations=[1]", "pitch.layers=1", "duration.layers=1",
    "aligner.encoder.width=64", "aligner.encoder.patience=20", "vocoder.iterations=2", "callbacks.samples.sentences=1",
    "features.acoustic.hop=0.005", "features.f0.resolution=1.0", "trainer.max_steps=60", "trainer.val_check_interval=60",
    "trainer.gradient_clip_val=20", "optim.pace={}", "optim.optimizer.lr=0.01",
]  # fmt: skip


def composed(*overrides: str) -> dict:
    register_recipes()
    with initialize_config_dir(str(program.folder("conf")), version_base="1.3"):
        return checked(compose("train", overrides=[*SMALL, *overrides]))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny profile, spoken once for all tests of this file."""
    out = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out)
        folder = prepare("demo", {"profile": "tiny"}, None).resolve()
    test = manifests(folder)["test"]
    write_utterances(test, list(read_utterances(test))[:1])  # its sound takes a second to judge
    return folder


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A run from nothing to its report."""
    place = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(runs, "prepare", lambda *_: corpus)
        return place / "runs/demo/t", runs.run(composed(f"data.cache_dir={corpus}/cache"))


def accuracies(folder: Path) -> list[float]:
    """Alignment accuracy at every validation, as the run itself logged it."""
    return [
        float(v) for v in re.findall(r"valid/alignment_accuracy ([\d.]+)", (folder / "train.log").read_text())
    ]


def test_the_alignment_is_learned(finished: tuple[Path, dict]):
    """In 60 steps, from a flat start, the true times never seen; equal parts of the utterance would give 25 %."""
    assert finished[1]["best"]["uniform/alignment_accuracy"] < 0.35
    assert len(accuracies(finished[0])) == 1
    assert accuracies(finished[0])[0] > 0.90


@pytest.mark.process
def test_nothing_is_learned_from_transcripts_of_other_recordings(corpus: Path, tmp_path: Path, monkeypatch):
    """The same corpus, model and steps, but every training text belongs to another sound; judged on true pairs."""
    found = manifests(corpus)
    for split in ("valid", "test"):
        write_utterances(tmp_path / f"cuts_{split}.jsonl.gz", list(read_utterances(found[split])))
    train = sorted(read_utterances(found["train"]), key=lambda utterance: utterance.duration)
    wrong = [
        text._replace(
            audio=sound.audio,
            duration=sound.duration,
            audio_duration=sound.audio_duration,
            phone_times=None,
            word_times=None,
        )
        for text, sound in zip(train, [*train[1:], train[0]], strict=True)  # of nearly the same length
    ]
    write_utterances(tmp_path / "cuts_train.jsonl.gz", wrong)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "prepare", lambda *_: tmp_path)
    monkeypatch.setattr(
        runs, "evaluate", lambda *_: {"test/mcd_db": float("nan")}
    )  # the sound does not matter here
    monkeypatch.setattr(runs, "write_report", lambda *_: None)
    runs.run(composed(f"data.cache_dir={corpus}/cache"))
    assert len(accuracies(tmp_path / "runs/demo/t")) == 1
    assert accuracies(tmp_path / "runs/demo/t")[0] < 0.6


def test_a_run_shorter_than_the_validation_interval_ends_with_figures(
    corpus: Path, tmp_path: Path, monkeypatch
):
    """`trainer.max_steps=30` of a recipe that validates every 2,000: a first try, and it must reach its table."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "prepare", lambda *_: corpus)
    monkeypatch.setattr(runs, "evaluate", lambda *_: {"test/mcd_db": 7.0})
    run = composed(f"data.cache_dir={corpus}/cache", "trainer.max_steps=2", "trainer.val_check_interval=2000")
    assert runs.run(run)["best"]["test/mcd_db"] == 7.0
    assert (tmp_path / "runs/demo/t/report.html").is_file()


def test_a_symbol_that_training_lacks_is_told_before_the_training(corpus: Path, tmp_path: Path, monkeypatch):
    for split, path in manifests(corpus).items():
        texts = list(read_utterances(path))
        if split == "test":
            texts[0] = texts[0]._replace(phones=["sil", "ʘ", "sil"], phone_times=None)
        write_utterances(tmp_path / path.name, texts)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "prepare", lambda *_: tmp_path)
    with pytest.raises(DataError, match=r"test holds symbols that no text of train has: ʘ\. Move"):
        runs.run(composed(f"data.cache_dir={corpus}/cache"))


def test_metrics_json_has_the_keys_and_their_definitions(finished: tuple[Path, dict]):
    folder, returned = finished
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics.keys() == {"best", "last", "definitions", "health"}
    for name in ("mcd_db", "f0_rmse_hz", "f0_median_abs_hz", "vuv_error"):
        for condition in ("test", "test_given_durations", "floor", "ceiling"):
            assert f"{condition}/{name}" in metrics["best"]
        assert f"test/{name}" in metrics["last"]
    for key in (
        "test/duration_accuracy",
        "test/alignment_accuracy",
        "test/boundary_within_20ms",
        "constant/f0_rmse_hz",
    ):
        assert metrics["best"][key] is not None
    assert metrics["best"]["train/seconds"] > 0
    for key in metrics["best"].keys() - {"train/seconds", "train/steps"}:
        assert metrics["definitions"][key] == define(key)
    assert "step 60" in metrics["health"][0]
    assert metrics["best"]["test/mcd_db"] == pytest.approx(returned["best"]["test/mcd_db"])


def test_the_folder_is_self_contained(finished: tuple[Path, dict]):
    folder, _ = finished
    names = {path.name for path in folder.iterdir()}
    assert names >= {"config.yaml", "train.log", "checkpoints", "metrics.json", "report.html"}
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    page = (folder / "report.html").read_text()
    assert "data:audio/wav;base64," in page
    assert "data:image/png;base64," in page
    assert "<polyline" in page
    assert "test/mcd_db" in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # opens offline


def test_a_finished_run_reports_itself(
    finished: tuple[Path, dict], capsys: pytest.CaptureFixture, monkeypatch
):
    folder, returned = finished
    monkeypatch.chdir(folder.parents[2])
    monkeypatch.setattr(runs, "_train", None)  # nothing is trained
    assert runs.run(composed())["best"]["test/mcd_db"] == pytest.approx(returned["best"]["test/mcd_db"])
    assert "test/alignment_accuracy" in capsys.readouterr().out


def test_the_bundle_speaks_as_the_training_did(finished: tuple[Path, dict], tmp_path: Path):
    bundle = build.load(finished[0])
    build.save(bundle, tmp_path / "voice.ckpt")
    again = build.load(tmp_path / "voice.ckpt")
    assert again.facts == bundle.facts
    assert (tmp_path / "voice.ckpt").stat().st_size < 0.5 * (
        finished[0] / "checkpoints/best.ckpt"
    ).stat().st_size
    ids = torch.tensor([[1, 5, 9, 2]])
    for one, other in zip(say(bundle, ids), say(again, ids), strict=True):
        assert torch.equal(one, other)


def say(bundle: build.Bundle, ids: torch.Tensor) -> tuple:
    zero = torch.zeros(1, dtype=torch.long)
    return bundle.model.synthesize(ids, torch.tensor([ids.shape[1]]), torch.zeros_like(ids), zero, zero)


def test_a_corpus_that_does_not_exist_is_told_with_the_mend(tmp_path: Path, monkeypatch, caplog):
    """And not how to resume what has not begun; nothing is prepared."""
    monkeypatch.chdir(tmp_path)
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(
            DataError,
            match=rf"data_dir=nowhere: there is no file or folder {tmp_path}/nowhere; give the path",
        ),
    ):
        runs.run(composed("data_dir=nowhere"))
    assert "starting at step 0" in caplog.text
    assert "resume with" not in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_interrupted_says_how_to_resume_and_another_config_is_refused(
    corpus: Path, tmp_path: Path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "prepare", lambda *_: corpus)
    monkeypatch.setattr("sys.argv", ["train.py", "recipe=demo", "run.name=t"])
    fit = runs.Trainer.fit

    def interrupted(self, *arguments, **options):
        self.limit_val_batches = 1
        self.fit_loop.epoch_loop.max_steps = 2
        fit(self, *arguments, **options)
        raise Interrupted("received SIGTERM: saved step 2, exiting 143", 143)

    monkeypatch.setattr(runs.Trainer, "fit", interrupted)
    settings = (f"data.cache_dir={corpus}/cache", "optim.optimizer.lr=0.001")
    with pytest.raises(Interrupted, match=r"resume with: python train.py recipe=demo run.name=t"):
        runs.run(composed(*settings))
    other = (f"data.cache_dir={corpus}/cache", "optim.optimizer.lr=0.002")
    with pytest.raises(
        ConfigError,
        match=r"another config: optim\.optimizer\.lr was 0\.001, is 0\.002\. What to do: choose another run\.name=\.\.\., or "
        r"take the changes back; to go on with them all the same: resume_allow=\[optim\]",
    ):
        runs.run(composed(*other))
    said = (tmp_path / "runs/demo/t/train.log").read_text()
    assert "resume with" not in said, "what was refused would be refused again"
    with caplog.at_level(logging.WARNING), pytest.raises(Interrupted):
        runs.run(composed(*other, "resume_allow=[optim]"))
    assert "as resume_allow says: optim.optimizer.lr was 0.001, is 0.002" in caplog.text
    with pytest.raises(ConfigError, match=r"encoder\.width was 16, is 24\. .*take the changes back$"):
        runs.run(composed(*settings, "encoder.width=24", "resume_allow=[optim]"))
    with pytest.raises(ConfigError, match=r"resume_allow must be of data, .*, got encoder"):
        runs.run(composed(*settings, "encoder.width=24", "resume_allow=[encoder]"))
    logging.getLogger().handlers.clear()


def test_other_processes_go_on_where_those_before_stopped(corpus: Path, monkeypatch, caplog):
    monkeypatch.setattr(runs, "prepare", lambda *_: corpus)
    config = composed(f"data.cache_dir={corpus}/cache", "data.max_seconds=10")
    with caplog.at_level(logging.WARNING):
        _, data = runs.voice_and_data(config, Start(None, 3, 3, "", drawn=3, ranks=2))
    assert data.loading.epochs(data.splits["train"]).batches > 6
    assert data.position == 6
    assert "2 processes trained this run, now 1: the order of the data is kept" in caplog.text
