"""`hmmtts select` on sounds that it can tell apart, and what it says of arguments that cannot work."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hmmtts.cli.select import run

OPTIONS = {
    "states": "1,2", "components": "1", "files": 4, "folds": 2, "topology": "dense", "jobs": 1, "seed": 0,
    "preset": "default", "picture": None, "json": None,
}  # fmt: skip


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """Three files of noise that is now bright and now dull: two states."""
    generator = np.random.default_rng(0)
    bright = np.repeat(np.tile([True, False], 5), 1600)
    for i in range(3):
        noise = 0.1 * generator.standard_normal(len(bright))
        dull = np.convolve(noise, np.ones(16) / 4, "same")
        soundfile.write(tmp_path / f"{i}.wav", np.where(bright, noise, dull), 16000)
    return tmp_path


def test_two_kinds_of_sound_ask_for_two_states(sounds: Path, capsys):
    target = sounds / "figures.json"
    run(sounds, **{**OPTIONS, "json": target, "picture": sounds / "selection.png"})
    one, two = json.loads(target.read_text())
    assert (one["candidate"]["states"], two["candidate"]["states"]) == (1, 2)
    assert two["held_out"] > one["held_out"] + 1
    assert two["bic"] < one["bic"]
    assert (sounds / "selection.png").is_file()
    assert "3 files" in capsys.readouterr().out


WRONG = {
    "--states must be whole numbers, at least 1, with commas, got '0,2'": {"states": "0,2"},
    "--components must be whole numbers, at least 1, with commas, got 'few'": {"components": "few"},
    "--topology must be dense or left_to_right, got 'ring'": {"topology": "ring"},
    "folds must lie between 2 and the number of utterances, 3, got 9": {"folds": 9},
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_argument_is_named(message: str, sounds: Path):
    with pytest.raises(ValueError, match=message):
        run(sounds, **{**OPTIONS, **WRONG[message]})


def test_a_folder_without_sounds_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match="must hold at least two sound files"):
        run(tmp_path, **OPTIONS)
