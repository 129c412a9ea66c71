"""The rate that a folder is trained at is that of its recordings."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hydra import compose, initialize_config_dir

from hmmtts.build import program
from hmmtts.data.manifest import Utterance, write_utterances
from hmmtts.training.compose import register_recipes
from hmmtts.training.config import checked


def features_of(folder: Path) -> dict:
    register_recipes()
    with initialize_config_dir(str(program.folder("conf")), version_base="1.3"):
        return checked(compose("train", overrides=["recipe=folder", f"data_dir={folder}"]))["features"]


def folder_of(tmp_path: Path, *rates: int) -> Path:
    (tmp_path / "wavs").mkdir()
    for number, rate in enumerate(rates):
        soundfile.write(tmp_path / f"wavs/u{number}.wav", np.zeros(160), rate)
    return tmp_path


@pytest.mark.parametrize(
    ("recorded", "trained", "hop", "win"),
    [
        (22050, 22050, 256, 1024),
        (16000, 16000, 186, 743),
        (48000, 22050, 256, 1024),  # the mel ends at 8 kHz: more would be dropped
        (8000, 16000, 186, 743),
    ],
)
def test_frames_last_as_long_at_every_rate(tmp_path: Path, recorded: int, trained: int, hop: int, win: int):
    features = features_of(folder_of(tmp_path, recorded))
    assert features["sample_rate"] == features["acoustic"]["sample_rate"] == trained
    assert (features["mel"]["hop"], features["mel"]["win"]) == (hop, win)
    assert features["f0"]["hop"] == hop


def test_most_of_the_recordings_decide(tmp_path: Path):
    assert features_of(folder_of(tmp_path, 22050, 16000, 16000))["sample_rate"] == 16000


def test_a_manifest_says_the_rate_itself(tmp_path: Path):
    """As `hmmtts check --fix` writes it, and as a folder that is prepared already has it."""
    utterance = Utterance("u", tmp_path / "u.wav", 16000, 0.0, 1.0, 1.0, "a")
    for name in ("good.jsonl.gz", "cuts_train.jsonl.gz"):
        write_utterances(tmp_path / name, [utterance])
    assert features_of(tmp_path / "good.jsonl.gz")["sample_rate"] == 16000
    assert features_of(tmp_path)["sample_rate"] == 16000


def test_what_cannot_be_looked_at_is_left_to_the_preparation(tmp_path: Path):
    assert features_of(tmp_path / "nowhere")["sample_rate"] == 22050
    (tmp_path / "wavs").mkdir()
    (tmp_path / "wavs/u.wav").write_text("not a sound")
    assert features_of(tmp_path)["sample_rate"] == 22050
