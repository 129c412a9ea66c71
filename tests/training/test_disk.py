"""Disks that refuse: full ones, read-only ones, limits, lost folders. The faults are the kernel's own."""

import errno
import logging
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from hmmtts.build import checkpoint
from hmmtts.training.faults import EnvironmentFault, exit_code
from tests.training.state import digest, final_state
from tests.training.toy import STEPS, train

ROOT = Path(__file__).resolve().parents[2]


def set_limit(size: int | None) -> None:
    """The kernel refuses to let any file grow beyond `size` bytes: what torch.save meets halfway."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


@pytest.fixture(autouse=True)
def _no_limit_remains() -> Iterator[None]:
    yield
    set_limit(None)


class Refuse(Callback):
    """No checkpoint fits between two steps."""

    def __init__(self, first: int, last: int):
        self.steps = range(first, last + 1)

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        set_limit(4000 if trainer.global_step + 1 in self.steps else None)


def test_a_refused_write_is_told_in_the_disks_own_words(tmp_path: Path):
    content = {"hmmtts": {"format": 1, "step": 1, "batches": 1}, "state_dict": {"w": torch.zeros(2000)}}
    checkpoint.save(content, tmp_path / "a.ckpt")
    set_limit(4000)
    with pytest.raises(OSError) as refused:
        checkpoint.save(content | {"more": torch.ones(9)}, tmp_path / "a.ckpt")
    assert refused.value.errno == errno.EFBIG
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]
    assert "more" not in checkpoint.load(tmp_path / "a.ckpt")


def test_a_refused_checkpoint_costs_a_warning_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Those of steps 8 and 12 are refused; the run ends as if nothing had been."""
    with caplog.at_level(logging.WARNING):
        train(tmp_path / "run", Refuse(8, 12))
    train(tmp_path / "whole")
    assert digest(final_state(tmp_path / "run")) == digest(final_state(tmp_path / "whole"))
    told = [record.getMessage() for record in caplog.records if "not written" in record.getMessage()]
    assert told[0] == (
        "checkpoint step=8.ckpt of step 8 not written: File too large; last.ckpt of step 6 is kept. "
        "The next attempt is at step 12"
    )
    assert not list((tmp_path / "run" / "checkpoints").glob(".tmp-*"))


def test_after_several_failures_in_a_row_the_run_stops(tmp_path: Path):
    with pytest.raises(EnvironmentFault, match=r"step 8 is kept\. 4 failures in a row: stopping") as end:
        train(tmp_path, Refuse(9, STEPS))
    set_limit(None)
    assert exit_code(end.value) == 6
    assert checkpoint.load(tmp_path / "checkpoints" / "last.ckpt")["hmmtts"]["step"] == 8


def test_a_run_whose_last_step_is_not_saved_is_not_finished(tmp_path: Path):
    with pytest.raises(EnvironmentFault, match="the last step, 24, could not be saved, so the run is not"):
        train(tmp_path, Refuse(STEPS, STEPS))
    set_limit(None)
    train(tmp_path)
    assert checkpoint.load(tmp_path / "checkpoints" / "last.ckpt")["hmmtts"]["step"] == STEPS


class Lose(Callback):
    """At a step the folder of TensorBoard's files is gone, and a file has its name."""

    def __init__(self, folder: Path, step: int):
        self.folder = folder
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == self.step:
            shutil.rmtree(self.folder)
            self.folder.touch()


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_lost_logs_cost_one_warning_and_a_count(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        train(tmp_path / "run", Lose(tmp_path / "logs", 9), logged=True, logs=tmp_path / "logs")
    train(tmp_path / "whole")
    assert digest(final_state(tmp_path / "run")) == digest(final_state(tmp_path / "whole"))
    told = [record.getMessage() for record in caplog.records if record.name == "hmmtts.training.logger"]
    assert len(told) == 2
    assert told[0].startswith("TensorBoard events cannot be written ([Errno 20] Not a directory")
    assert told[1].endswith("entries of TensorBoard could not be written")


# From here on with a disk of its own, in a mount namespace that ends with the process.

DISK = 'mount -t tmpfs -o size="$0" tmpfs "$1" && shift && exec "$@"'

TRAIN = """
import hashlib, logging, sys
from pathlib import Path
from lightning.pytorch import Callback
from hmmtts.training.console import logging_to
from tests.training.toy import ToyModel, train
import torch

class Large(ToyModel):  # its checkpoint: weights, average and two moments of 60,000 numbers, 0.96 MB
    def __init__(self):
        super().__init__()
        self.more = torch.nn.Parameter(torch.zeros(60_000))
    def means(self, batch):
        means = super().means(batch)
        return means | {"mel": means["mel"]._replace(total=means["mel"].total + self.more.square().sum())}

class Fill(Callback):  # another program takes all that is free at step 9, and gives it back at step 17
    def on_train_batch_start(self, trainer, *_):
        trainer.logger.text("words", "w" * 1000, trainer.global_step)  # so that no page has room for what follows
        logging.getLogger("words").warning("w" * 1000)
        filler = disk / "filler"
        last = run / "checkpoints" / "last.ckpt"
        if trainer.global_step == 9:
            self.kept = hashlib.sha256(last.read_bytes()).digest()
            try:
                with filler.open("wb", buffering=0) as file:
                    for size in (1 << 12, 1):
                        while file.write(bytes(size)):
                            pass
            except OSError as error:
                print("filled", error.errno, flush=True)
        if trainer.global_step == 17:  # those of steps 12 and 16 did not fit, if it is their disk
            same = hashlib.sha256(last.read_bytes()).digest() == self.kept
            print("kept as it was" if same else "saved since", flush=True)
            filler.unlink()

disk, elsewhere = map(Path, sys.argv[1:3])
run, logs = (disk / "run", disk / "run") if sys.argv[3] == "all" else (elsewhere / "run", disk)
run.mkdir(exist_ok=True)
def life(*arguments, **options):
    torch.manual_seed(1)
    train(*arguments, model=Large(), **options)
with logging_to(run / "train.log"):
    life(run, Fill(), logged=True, logs=logs)
life(elsewhere / "whole")
from tests.training.state import digest, final_state
assert digest(final_state(run)) == digest(final_state(elsewhere / "whole"))
print("leftovers:", [path.name for path in (run / "checkpoints").iterdir() if path.name.startswith(".")])
"""


def on_a_small_disk(tmp_path: Path, size: str, what: str) -> str:
    """What TRAIN said, with a disk of `size`. `what` is on it: all, or the logs alone."""
    if subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True
    ).returncode:
        pytest.skip("no disk can be mounted here (root is needed); the limits on files above stand in for it")
    disk, elsewhere = tmp_path / "disk", tmp_path / "elsewhere"
    disk.mkdir()
    elsewhere.mkdir()
    command = [
        "unshare",
        "-m",
        "sh",
        "-c",
        DISK,
        size,
        str(disk),
        sys.executable,
        "-c",
        TRAIN,
        str(disk),
        str(elsewhere),
        what,
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        env=os.environ | {"TMPDIR": str(elsewhere)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.process
def test_a_disk_that_is_full_for_a_while(tmp_path: Path):
    """ENOSPC: checkpoints are told to be missing, the good ones stay, and the run ends as it would have."""
    said = on_a_small_disk(tmp_path, "6m", "all")
    assert "filled 28" in said
    told = [line for line in said.splitlines() if "not written" in line]
    assert told, said
    assert "step 12 not written: no space left on" in told[0]
    assert (
        "(needed 1.0 MB, free 0.0 MB); last.ckpt of step 8 is kept. The next attempt is at step 16" in told[0]
    )
    assert "step 16 not written" in said
    assert "kept as it was" in said
    assert "leftovers: []" in said
    assert (
        said.count("train.log cannot be written ([Errno 28] No space left on device); training goes on") == 1
    )
    assert "messages could not be written" in said
    assert "Traceback" not in said


@pytest.mark.process
def test_a_full_disk_of_logs_alone(tmp_path: Path):
    said = on_a_small_disk(tmp_path, "64k", "logs")
    assert "filled 28" in said
    assert "saved since" in said
    assert "not written" not in said
    assert said.count("training goes on without them") == 1
    assert "entries of TensorBoard could not be written" in said
