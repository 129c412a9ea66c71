"""A run that is killed any number of times ends with the weights of one that never was, bit for bit."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from hmmtts.build import checkpoint
from tests.training.toy import EVERY, STEPS, Diary, train

ROOT = Path(__file__).resolve().parents[2]


class Kill(BaseException):
    """What nobody catches."""


class KillAt(Callback):
    def __init__(self, step: int, moment: str):
        self.step = step
        self.moment = moment

    def _at(self, trainer: Trainer, moment: str) -> None:
        if moment == self.moment and trainer.global_step == self.step:
            raise Kill

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        self._at(trainer, "batch")

    def on_validation_batch_end(self, trainer: Trainer, *_: object) -> None:
        self._at(trainer, "validation")

    def on_before_backward(self, trainer: Trainer, *_: object) -> None:
        self._at(trainer, "backward")


def final_state(folder: Path) -> dict:
    content = checkpoint.load(folder / "checkpoints" / "last.ckpt")
    del content["callbacks"]["Checkpoints"]  # compared through best.ckpt
    return content


def assert_same(one: object, other: object, where: str = "") -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, (first, second) in enumerate(zip(one, other, strict=True)):
            assert_same(first, second, f"{where}/{index}")
    else:
        assert one == other, where


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Diary]:
    """The run that nothing interrupts."""
    folder, diary = tmp_path_factory.mktemp("whole"), Diary([], [])
    train(folder, diary)
    assert len(diary.seen) == STEPS
    assert diary.validations == list(range(EVERY, STEPS + 1, EVERY))
    return folder, diary


def sequences(count: int) -> list[list[tuple[int, str]]]:
    """One to four kills each, every moment; 7 and 14 are the last batches of an epoch, 6 and 12 validate."""
    draw = random.Random(0)
    known = [
        [(7, "batch")],
        [(6, "validation"), (6, "validation")],
        [(14, "batch"), (14, "backward"), (18, "validation")],
    ]
    while len(known) < count:
        steps = sorted(draw.choices(range(1, STEPS), k=draw.randint(1, 4)))
        known.append([(step, draw.choice(["batch", "backward"])) for step in steps])
    return known


@pytest.mark.parametrize("kills", sequences(6), ids=str)
def test_killed_and_resumed_equals_uninterrupted(kills, whole, tmp_path: Path):
    diary = Diary([], [])
    for step, moment in kills:
        with pytest.raises(Kill):
            train(tmp_path, diary, KillAt(step, moment))
    train(tmp_path, diary)
    folder, expected = whole
    assert_same(final_state(folder), final_state(tmp_path))
    best = [checkpoint.load(path / "checkpoints" / "best.ckpt")["state_dict"] for path in (folder, tmp_path)]
    assert_same(*best)
    assert diary.seen == expected.seen
    assert diary.validations == expected.validations


SLOW = """
import sys, time
from pathlib import Path
from lightning.pytorch import Callback
from tests.training.toy import train

class Slow(Callback):
    def on_train_batch_end(self, *_):
        time.sleep(0.1)
    def on_validation_batch_end(self, *_):
        time.sleep(0.2)
    def on_train_start(self, *_):
        Path(sys.argv[1], "begun").touch()

train(Path(sys.argv[1]), Slow())
"""


@pytest.mark.process
def test_real_kills_at_random_times(whole, tmp_path: Path):
    """SIGKILL, up to five lives, whatever the process is doing; then it runs to its end."""
    draw, killed = random.Random(1), 0
    for _ in range(5):
        (tmp_path / "begun").unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and not (tmp_path / "begun").exists():
            time.sleep(0.02)
        time.sleep(draw.uniform(0.2, 1.6))
        if process.poll() is None:
            process.kill()
            killed += 1
        process.wait()
    assert killed >= 2
    train(tmp_path)
    assert_same(final_state(whole[0]), final_state(tmp_path))
