"""Real SIGKILLs and signals: whatever ends a life of a run, the last one ends with what was never interrupted.

Equal are, bit for bit: weights, optimizer, schedule, average, loss scale (by their SHA-256), the utterances in their
order, and what TensorBoard shows.
"""

import os
import random
import signal
import stat
import time
from pathlib import Path

import pytest

from hmmtts.build import checkpoint
from tests.training import life
from tests.training.state import digest, events, final_state
from tests.training.toy import EVERY, STEPS, train

pytestmark = pytest.mark.process


class Outcome:
    """All that a run is compared by."""

    def __init__(self, folder: Path, ranks: int):
        self.last = digest(final_state(folder))
        self.best = digest(final_state(folder, "best.ckpt"))
        self.seen = [life.seen(folder, rank) for rank in range(ranks)]
        self.events = events(folder)
        steps = [step for step, _ in self.events["train/loss"]]
        validations = [step for step, _ in self.events["valid/loss"]]
        assert steps == list(range(1, STEPS + 1))
        assert validations == list(range(EVERY, STEPS + 1, EVERY))


def outcome(folder: Path, ranks: int = 1, **options: object) -> Outcome:
    """Of the last life, which nothing ends."""
    assert life.ended(life.start(folder, ranks, logged=True, **options)) == [0] * ranks, life.said(folder)
    return Outcome(folder, ranks)


def assert_equal(one: Outcome, other: Outcome) -> None:
    for name, value in vars(one).items():
        assert value == getattr(other, name), name


class Whole(dict[int, Outcome]):
    """Runs that nothing interrupts, by the number of their processes."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __missing__(self, ranks: int) -> Outcome:
        self[ranks] = outcome(self.folder / str(ranks), ranks)
        return self[ranks]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(tmp_path_factory.mktemp("whole"))


def test_killed_where_it_hurts(whole, tmp_path: Path):
    """In a validation, at an epoch's last batch, inside an optimizer's step, while a checkpoint is written and just after."""
    for at in [
        (6, "validation"),
        (7, "batch"),
        (11, "optimizer"),
        (12, "writing"),
        (12, "validated"),
        (18, "saved"),
    ]:
        assert life.ended(life.start(tmp_path, logged=True, signals=[at])) == [-signal.SIGKILL], life.said(
            tmp_path
        )
    assert_equal(outcome(tmp_path), whole[1])
    assert "taken over from pid" in life.said(tmp_path)


def test_killed_at_any_time(whole, tmp_path: Path):
    """Whatever the process is doing, its first second of life included."""
    draw, killed = random.Random(1), 0
    for _ in range(4):
        lives = life.start(tmp_path, logged=True, pause=0.1)
        life.begun(tmp_path, lives)
        time.sleep(draw.uniform(0.0, 1.2))
        if lives[0].poll() is None:
            lives[0].kill()
            killed += 1
        lives[0].wait()
    assert killed >= 2
    assert_equal(outcome(tmp_path), whole[1])


def test_two_processes_killed_one_after_the_other_and_together(whole, tmp_path: Path):
    """Step 3 ends an epoch of two ranks, 6 is validated; whoever is left ends by itself."""
    for of, at in [(0, (3, "batch")), (1, (6, "validation")), (1, (11, "optimizer"))]:
        codes = life.ended(life.start(tmp_path, 2, logged=True, signals=[at], of=of))
        assert codes[of] == -signal.SIGKILL
        assert 0 not in codes
    lives = life.start(tmp_path, 2, logged=True, pause=0.1)
    life.begun(tmp_path, lives)
    time.sleep(0.4)
    for one in lives:
        one.kill()
    life.ended(lives)
    assert_equal(outcome(tmp_path, 2), whole[2])


def test_the_loss_scale_is_kept(tmp_path: Path):
    """16-bit training: its scale grows every fifth step, and halves where a gradient overflows."""
    one = outcome(tmp_path / "whole", scaled=True)
    for at in [(7, "batch"), (16, "optimizer")]:
        life.ended(life.start(tmp_path / "run", scaled=True, logged=True, signals=[at]))
    assert_equal(outcome(tmp_path / "run", scaled=True), one)
    scaler = final_state(tmp_path / "run")["MixedPrecision"]
    assert scaler["scale"] > 2.0**16


@pytest.fixture
def requeued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What exists once `scontrol` was asked for anything."""
    asked, fake = tmp_path / "scontrol-was-asked", tmp_path / "bin" / "scontrol"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    return asked


def preempted(run: Path, number: int, of: int | None, moment: str, step: int) -> int:
    """A life of two processes that the signal ends; the step that it saved."""
    if moment == "at any time":
        before = [life.batches(run, rank) for rank in (0, 1)]
        lives = life.start(run, 2, fork=True, logged=True, pause=0.1)
        while any(life.batches(run, rank) == before[rank] and lives[rank].poll() is None for rank in (0, 1)):
            time.sleep(0.02)
        time.sleep(random.Random(step).uniform(0.0, 0.4))
        for rank in (0, 1) if of is None else (of,):
            life.send(run, lives[rank].pid, number)
    else:
        workers = int(moment == "loading")  # what is waited for is another process
        signals = [(step, moment, number)]
        lives = life.start(run, 2, fork=True, logged=True, signals=signals, of=of, workers=workers)
    assert life.ended(lives) == [143, 143], life.said(run)
    assert time.time() - (run / "signalled").stat().st_mtime < 10
    saved = checkpoint.load(run / "checkpoints" / "last.ckpt")["hmmtts"]["step"]
    assert f"received {signal.Signals(number).name}: saved step {saved}, exiting 143" in life.said(run)
    return saved


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP], ids=lambda it: it.name)
def test_two_processes_and_every_signal_to_either_or_both(number, whole, requeued: Path, tmp_path: Path):
    """Five moments for each: all ranks leave at the end of that batch, the next life goes on, and nobody is requeued."""
    every = {"optimizer": 1, "loading": 1, "validation": EVERY, "saving": 4, "at any time": 1}
    cases = [(moment, of) for moment in every for of in (0, 1, None)]
    random.Random(number).shuffle(cases)
    runs, saved = [tmp_path / "run-0"], 0
    for moment, of in cases:
        step = (saved // every[moment] + 1) * every[moment]
        if step + 1 > STEPS or (moment == "at any time" and saved > STEPS // 2):  # no room left for it
            runs.append(tmp_path / f"run-{len(runs)}")
            saved, step = 0, every[moment]
        before, saved = saved, preempted(runs[-1], number, of, moment, step)
        if moment == "at any time":
            assert before < saved
        else:
            between_batches = moment != "optimizer"
            assert saved == step + between_batches, (moment, of)
    for run in runs:
        assert_equal(outcome(run, 2, fork=True), whole[2])
    assert not requeued.exists()


def test_under_slurm_nothing_is_requeued_unasked(requeued: Path, tmp_path: Path, monkeypatch):
    """Lightning would, by `scontrol requeue`, on SIGUSR1."""
    for name, value in {
        "JOB_ID": 7,
        "JOB_NAME": "train",
        "NTASKS": 1,
        "PROCID": 0,
        "LOCALID": 0,
        "NODEID": 0,
    }.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    lives = life.start(tmp_path / "run", signals=[(5, "optimizer", signal.SIGUSR1)])
    assert life.ended(lives) == [143], life.said(tmp_path / "run")
    assert not requeued.exists()


def test_a_signal_to_every_process_of_a_run(tmp_path: Path):
    """As a terminal's Ctrl-C and a scheduler send it: the loading processes must outlive it, since the batch needs them."""
    train(tmp_path / "whole")
    for number, code in [(signal.SIGINT, 130), (signal.SIGTERM, 143)]:
        lives = life.start(tmp_path / "run", workers=2, pause=0.1, own_group=True)
        life.begun(tmp_path / "run", lives)
        time.sleep(0.3)
        os.killpg(lives[0].pid, number)
        assert life.ended(lives) == [code], life.said(tmp_path / "run")
        assert f"received {number.name}: saved step" in life.said(tmp_path / "run")
    assert life.ended(life.start(tmp_path / "run", workers=2)) == [0]
    assert digest(final_state(tmp_path / "run")) == digest(final_state(tmp_path / "whole"))


def test_a_second_interrupt_leaves_at_once_even_while_saving(tmp_path: Path):
    assert life.ended(life.start(tmp_path, signals=[(10, "batch", signal.SIGTERM)])) == [143]
    lives = life.start(tmp_path, slow_save=20)
    saving = tmp_path / "checkpoints" / "saving"
    while not saving.exists() and lives[0].poll() is None:
        time.sleep(0.02)
    began = time.monotonic()
    lives[0].send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert lives[0].poll() is None  # the first one lets it finish
    lives[0].send_signal(signal.SIGINT)
    assert life.ended(lives) == [130]
    assert time.monotonic() - began < 15  # and not after the 20 s of the save
    assert "second SIGINT: leaving now; the last checkpoint is intact" in life.said(tmp_path)
    assert checkpoint.load(tmp_path / "checkpoints" / "last.ckpt")["hmmtts"]["step"] == 10
    assert life.ended(life.start(tmp_path)) == [0]
    assert not list(tmp_path.glob("checkpoints/.tmp-*"))
