"""What is measured beside the training: a real leak is told, a profile can be opened, rates count what was trained on."""

import json
import logging
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from hmmtts.training.callbacks.memory import MemoryMonitor, growth, resident
from hmmtts.training.callbacks.profile import Profile
from hmmtts.training.callbacks.throughput import Throughput
from hmmtts.training.logger import EventLogger
from hmmtts.training.schedule import Constant
from hmmtts.training.task import Task
from tests.training.toy import Indices, ToyModel, collate

MIB = 2**20


class Leak(Callback):
    def __init__(self, mib: int) -> None:
        self.mib, self.held = mib, []

    def on_train_batch_end(self, *_: object) -> None:
        self.held.append(b"x" * (self.mib * MIB))


def train(folder: Path, *callbacks: Callback, steps: int = 30) -> dict[str, list[float]]:
    """The scalars that a logger was given."""
    torch.manual_seed(1)
    task = Task(ToyModel(), {"mel": 1.0, "size": 0.1}, partial(torch.optim.SGD, lr=0.1), Constant())
    logged: dict[str, list[float]] = {}

    class Kept(EventLogger):
        def log_metrics(self, metrics, step=None) -> None:
            for name, value in metrics.items():
                logged.setdefault(name, []).append(float(value))

    trainer = Trainer(
        accelerator="cpu", max_steps=steps, max_epochs=-1, logger=Kept(str(folder)), enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False, callbacks=list(callbacks), log_every_n_steps=1,
        default_root_dir=folder,
    )  # fmt: skip
    batches = [[index % 22 for index in range(4)]] * steps
    trainer.fit(task, torch.utils.data.DataLoader(Indices(), batch_sampler=batches, collate_fn=collate))
    return logged


@pytest.mark.parametrize("leak", [0, 32])
def test_a_leak_is_told_once_and_nothing_else_is(leak, tmp_path: Path, caplog):
    leaks = Leak(leak)  # held to the end: what it holds is compared with what was logged
    with caplog.at_level(logging.WARNING):
        logged = train(tmp_path, leaks, MemoryMonitor(every=1, looks=8, leak_mib=16.0))
    told = [record.getMessage() for record in caplog.records if "a leak?" in record.getMessage()]
    assert len(told) == (1 if leak else 0)
    if leak:
        step, grows = re.match(
            r"step (\d+), rank 0: memory grows by (\S+) MiB every 1 batches", told[0]
        ).groups()
        assert 16 <= int(step) < 24  # two windows of looks; what else the process holds may come and go
        assert 16 < float(grows) < 48
    assert logged["memory/mib"][-1] == pytest.approx(resident() / MIB, rel=0.1)
    assert logged["memory/peak_mib"][-1] >= logged["memory/mib"][-1] - 8  # the kernel counts it coarsely


def test_a_slope_is_no_jump():
    for place in range(1, 10):
        assert growth([1.0] * place + [90.0] * (10 - place)) == 0
    assert growth([3.0, 5, 7, 60, 11, 13, 15, 17, 19, 21]) == 2


def test_a_profile_opens_as_a_chrome_trace(tmp_path: Path):
    train(tmp_path, Profile(steps=2, warm_up=2), steps=6)
    events = json.loads((tmp_path / "trace-rank=0.json").read_text())["traceEvents"]
    steps = {event["name"] for event in events if event.get("name", "").startswith("ProfilerStep#")}
    assert steps == {"ProfilerStep#2", "ProfilerStep#3"}
    assert any(event["name"] == "aten::addmm" for event in events if "name" in event)
    assert not (tmp_path / "trace-rank=1.json").exists()
    train(tmp_path / "none", Profile(), steps=3)
    assert not list((tmp_path / "none").glob("trace*"))


def test_rates_leave_the_first_batches_out(tmp_path: Path):
    logged = train(tmp_path, Throughput(every=10, warm_up=10))
    assert (
        len(set(logged["speed/batches_per_second"])) == 2
    )  # the logger repeats the last one until there is a new one
    assert logged["speed/utterances_per_second"][0] == pytest.approx(
        4 * logged["speed/batches_per_second"][0]
    )
    assert logged["speed/frames_per_second"][0] == pytest.approx(20 * logged["speed/batches_per_second"][0])
    assert logged["speed/share_of_padding"][0] == 0
    assert 0 < logged["speed/share_of_waiting"][0] < 1
