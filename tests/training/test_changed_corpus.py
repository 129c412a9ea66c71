"""R27: the corpus of a run changes between two lives. What the weights know goes on; what they cannot know is refused."""

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hmmtts import build
from hmmtts.training import run as runs
from hmmtts.training.faults import DataError
from tests.training.test_every_recipe import composed

SMALL = (
    "recipe=folder", "text=characters", "threads=1", "data.workers=0", "data.cache_dir=cache", "run.dir=run",
    "encoder.width=16", "encoder.layers=1", "decoder.dilations=[1]", "pitch.layers=1", "duration.layers=1",
    "aligner.encoder.width=16", "features.f0.resolution=1.0", "callbacks.samples=null", "trainer.val_check_interval=2",
    "trainer.accelerator=cpu", "optim=adam",
)  # fmt: skip


def corpus(folder: Path, texts: list[str], loudness: float = 0.1) -> None:
    (folder / "wavs").mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0)
    for number in range(len(texts)):
        wave = loudness * noise.standard_normal(11025)
        soundfile.write(folder / "wavs" / f"u{number}.wav", wave, 22050)
    rows = [f"u{number}|{text}\n" for number, text in enumerate(texts)]
    (folder / "metadata.csv").write_text("".join(rows))


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of two steps that has no figures yet, so that it would go on; 12 utterances, of them 10 to train on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "evaluate", lambda *_: {"test/mcd_db": 7.0})
    monkeypatch.setattr(runs, "write_report", lambda *_: None)
    corpus(tmp_path / "corpus", ["abc"] * 12)
    life(2)
    return tmp_path


def life(steps: int) -> build.Bundle:
    runs.run(composed(*SMALL, f"trainer.max_steps={steps}"))
    Path("run/metrics.json").unlink()
    return build.load("run/checkpoints/last.ckpt")


def test_new_symbols_are_refused_by_name(begun: Path):
    """As many as before, so that the weights would fit, and z would be spoken as c was learned."""
    corpus(begun / "corpus", ["abz"] * 12)
    with pytest.raises(
        DataError,
        match=r"train holds symbols that .*last\.ckpt was not trained with: z\. What to do: choose another run\.name",
    ):
        life(4)
    assert build.load("run/checkpoints/last.ckpt").step == 2


def test_other_sound_goes_on_with_the_facts_of_the_weights(begun: Path, caplog: pytest.LogCaptureFixture):
    before = build.load("run/checkpoints/last.ckpt").facts
    corpus(begun / "corpus", ["ab"] * 12, loudness=0.02)
    with caplog.at_level(logging.WARNING):
        voice = life(4)
    assert "the corpus has changed since this run began" in caplog.text
    assert (voice.step, voice.facts) == (4, before)
