"""Preemption, non-finite losses, averages, full disks: each fault produced for real on the toy run."""

import logging
import os
import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from hmmtts.batch import Batch
from hmmtts.build import checkpoint
from hmmtts.nn.lengths import Mean
from hmmtts.training.faults import Interrupted, NumericsError
from hmmtts.training.task import Task
from tests.training.state import assert_same, events, final_state
from tests.training.toy import EVERY, STEPS, Diary, ToyModel, train


class SignalAt(Callback):
    def __init__(self, step: int, number: int):
        self.step = step
        self.number = number

    def on_before_backward(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step + 1 == self.step:
            os.kill(os.getpid(), self.number)


class Record(Callback):
    """The weights after every step."""

    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Task, *_: object) -> None:
        self.weights.append(pl_module.model.layers[3].weight.detach().clone())


@pytest.mark.parametrize(
    ("number", "code", "step"),
    [
        (signal.SIGTERM, 143, 9),
        (signal.SIGUSR1, 143, EVERY),
        (signal.SIGHUP, 143, 2),
        (signal.SIGINT, 130, 23),
    ],
)
def test_a_signal_saves_at_the_end_of_the_batch(number, code, step, tmp_path: Path):
    before = signal.getsignal(number)
    diary, whole = Diary([], []), Diary([], [])
    with pytest.raises(Interrupted) as stopped:
        train(tmp_path / "run", diary, SignalAt(step, number), logged=True)
    assert stopped.value.exit_code == code
    assert f"saved step {step}" in str(stopped.value)
    assert checkpoint.header(tmp_path / "run" / "checkpoints" / "last.ckpt")["step"] == step
    assert signal.getsignal(number) == before
    train(tmp_path / "run", diary, logged=True)
    train(tmp_path / "whole", whole, logged=True)
    assert events(tmp_path / "run") == events(tmp_path / "whole")
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "run"))
    assert diary.validations == whole.validations  # also where the signal came just before one


class Poisoned(ToyModel):
    """The loss is NaN for chosen batches."""

    def __init__(self, bad: set[int]):
        super().__init__()
        self.bad = bad
        self.count = 0

    def means(self, batch: Batch) -> dict[str, Mean]:
        means = super().means(batch)
        if self.training:
            self.count += 1
            if self.count in self.bad:
                means["mel"] = Mean(means["mel"].total * float("nan"), means["mel"].number)
        return means


def test_a_nan_costs_one_update(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    record = Record()
    with caplog.at_level(logging.WARNING):
        train(tmp_path, record, model=Poisoned({3, 10}))
    assert torch.equal(record.weights[2], record.weights[1])  # no decay, no momentum either
    assert not torch.equal(record.weights[3], record.weights[2])
    assert torch.isfinite(record.weights[-1]).all()
    warned = [record.getMessage() for record in caplog.records if "non-finite" in record.getMessage()]
    assert len(warned) == 2
    assert warned[0].startswith("step 3: non-finite loss, utterances u")
    kept = torch.load(tmp_path / "faults" / "nonfinite-step=3-rank=0.pt", weights_only=True)
    assert kept["batch"][0][0].startswith("u")


def test_nan_after_nan_stops_the_run_with_a_good_checkpoint(tmp_path: Path):
    with pytest.raises(NumericsError, match=r"update skipped \(3 of 2 allowed in a row\): stopping"):
        train(tmp_path, model=Poisoned(set(range(9, STEPS))))
    last = checkpoint.load(tmp_path / "checkpoints" / "last.ckpt")
    assert last["hmmtts"]["step"] == 8
    assert all(torch.isfinite(value).all() for value in last["state_dict"].values())


def test_the_average_follows_its_definition(tmp_path: Path):
    torch.manual_seed(1)
    expected = ToyModel().layers[3].weight.detach().clone()
    record = Record()
    train(tmp_path, record)
    for step, weight in enumerate(record.weights, start=1):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    last = checkpoint.load(tmp_path / "checkpoints" / "last.ckpt")
    torch.testing.assert_close(last["callbacks"]["EMA"]["average"]["model.layers.3.weight"], expected)
    assert torch.equal(
        last["state_dict"]["model.layers.3.weight"], record.weights[-1]
    )  # the live ones came back


def test_gradient_accumulation_keeps_position_and_steps_apart(tmp_path: Path):
    whole, diary = Diary([], []), Diary([], [])
    train(tmp_path / "whole", whole, accumulate=2)
    assert len(whole.seen) == 2 * STEPS
    with pytest.raises(Interrupted):
        train(tmp_path / "run", diary, SignalAt(11, signal.SIGTERM), accumulate=2)
    train(tmp_path / "run", diary, accumulate=2)
    assert diary.seen == whole.seen
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "run"))
