"""A run that is killed any number of times ends with the weights of one that never was, bit for bit."""

import random
from pathlib import Path

import pytest
from lightning.pytorch import Callback, Trainer

from hmmtts.build import checkpoint
from tests.training.state import assert_same, events, final_state
from tests.training.toy import EVERY, STEPS, Diary, train


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Diary]:
    """The run that nothing interrupts."""
    folder, diary = tmp_path_factory.mktemp("whole"), Diary([], [])
    train(folder, diary, logged=True)
    assert len(diary.seen) == STEPS
    assert diary.validations == list(range(EVERY, STEPS + 1, EVERY))
    figures = events(folder)
    assert [step for step, _ in figures["train/loss"]] == list(range(1, STEPS + 1))
    assert [step for step, _ in figures["valid/loss"]] == diary.validations
    return folder, diary


def sequences(count: int) -> list[list[tuple[int, str]]]:
    """One to four kills each, every moment; 7 and 14 are the last batches of an epoch, 6 and 12 validate."""
    draw = random.Random(0)
    known = [
        [(2, "batch"), (7, "batch")],
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
            train(tmp_path, diary, KillAt(step, moment), logged=True)
    train(tmp_path, diary, logged=True)
    folder, expected = whole
    assert_same(final_state(folder), final_state(tmp_path))
    assert_same(final_state(folder, "best.ckpt"), final_state(tmp_path, "best.ckpt"))
    assert events(tmp_path) == events(folder)
    assert diary.seen == expected.seen
    assert diary.validations == expected.validations


def test_a_checkpoint_says_who_has_drawn_how_much(tmp_path: Path):
    with pytest.raises(Kill):
        train(tmp_path, KillAt(9, "batch"))
    said = checkpoint.header(tmp_path / "checkpoints" / "last.ckpt")
    assert (said["batches"], said["drawn"], said["ranks"]) == (8, 8, 1)
