"""One live run per folder; where a run starts is said and never guessed."""

import fcntl
import os
import re
import socket
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from hmmtts.build import checkpoint
from hmmtts.build.checkpoint import CheckpointError
from hmmtts.training.faults import ConfigError, EnvironmentFault
from hmmtts.training.run_folder import RunFolder, write_json
from tests.training.test_checkpoint import ROOT, content


def test_a_folder_in_use_is_refused(tmp_path: Path):
    with (
        RunFolder(tmp_path / "lj"),
        pytest.raises(EnvironmentFault, match=rf"lj is in use by pid {os.getpid()} on host .* since"),
    ):
        RunFolder(tmp_path / "lj").__enter__()
    with RunFolder(tmp_path / "lj"):
        pass


HOLD = """
import os, sys, time
from pathlib import Path
from hmmtts.training.run_folder import RunFolder
RunFolder(Path(sys.argv[1])).__enter__()
print("held", flush=True)
time.sleep(600)
"""


def test_another_process_is_refused_while_one_lives_and_takes_over_when_it_is_killed(tmp_path: Path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(
            EnvironmentFault, match=rf"in use by pid {holder.pid} on host .*; choose another run.name="
        ):
            RunFolder(tmp_path).__enter__()
    finally:
        holder.kill()
        holder.wait()
    with RunFolder(tmp_path) as run:
        assert run.start("auto").message.startswith(f"taken over from pid {holder.pid} on host ")
    with RunFolder(tmp_path) as run:
        assert run.start("auto").message == "no checkpoint: starting at step 0"


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ("", "another process, not known yet which"),
        (f"pid {{dead}} on host {socket.gethostname()} since then", "another process, not known yet which"),
        ("pid {dead} on host of-another-node since then", "pid {dead} on host of-another-node since then"),
    ],
    ids=["nobody", "a dead one", "of another host"],
)
def test_who_has_won_and_not_yet_written_is_not_confused_with_the_one_before(
    told: str, named: str, tmp_path: Path
):
    before = subprocess.Popen(["true"])
    before.wait()
    (tmp_path / ".lock").write_text(told.format(dead=before.pid))
    with (tmp_path / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(
            EnvironmentFault, match=re.escape(f"is in use by {named.format(dead=before.pid)}; choose")
        ):
            RunFolder(tmp_path).__enter__()


def race(folder: Path, rounds: int, together, told) -> None:
    """Once a round, with the other: take the lock of a new folder, tell, and let go when both have tried."""
    for number in range(rounds):
        run = RunFolder(folder / str(number))
        together.wait(60)
        try:
            run.__enter__()
            told.put((number, ""))
        except EnvironmentFault as error:
            told.put((number, str(error)))
        together.wait(60)
        run.__exit__()


def test_of_two_that_start_at_the_same_moment_one_wins(tmp_path: Path):
    fork, rounds = get_context("fork"), 200
    together, told = fork.Barrier(2), fork.Queue()
    racers = [fork.Process(target=race, args=(tmp_path, rounds, together, told)) for _ in range(2)]
    for racer in racers:
        racer.start()
    outcomes = sorted(told.get(timeout=60) for _ in range(2 * rounds))
    for racer in racers:
        racer.join()
    assert [number for number, _ in outcomes] == [number for number in range(rounds) for _ in range(2)]
    for (_, won), (_, lost) in zip(outcomes[::2], outcomes[1::2], strict=True):
        assert won == ""
        assert "is in use by" in lost


def test_clocks_do_not_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file dated 2033, and a clock that has been set back by ten years."""
    with RunFolder(tmp_path) as run:
        for step in (10, 20):
            checkpoint.save(content(step), run.checkpoints / f"step={step}.ckpt")
        os.utime(run.checkpoints / "step=10.ckpt", (2e9, 2e9))
        start = run.start("auto")
        assert start.step == 20
        assert (
            "step=10.ckpt is dated 2033-05-18, in the future: a clock is wrong, the steps decide"
            in start.message
        )
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now - 10 * 365 * 86400)
        assert run.start("auto").step == 20
        assert "step=20.ckpt is dated" in run.start("auto").message


def test_a_voice_alone_is_no_training(tmp_path: Path):
    with RunFolder(tmp_path) as run:
        checkpoint.save({"hmmtts": {"format": 1, "step": 9}, "state_dict": {}}, run.checkpoints / "best.ckpt")
        with pytest.raises(
            CheckpointError, match=r"best\.ckpt is a voice alone: no training goes on from it"
        ):
            run.start("auto")


def test_leftovers_of_a_killed_save_are_removed(tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".tmp-1-last.ckpt").write_bytes(b"half")
    with RunFolder(tmp_path) as run:
        assert not list(run.checkpoints.iterdir())


def test_where_a_run_starts(tmp_path: Path):
    with RunFolder(tmp_path) as run:
        assert run.start("auto").message == "no checkpoint: starting at step 0"
        with pytest.raises(CheckpointError, match=r"resume=must, but .* holds no checkpoint"):
            run.start("must")
        checkpoint.save(content(20), run.checkpoints / "last.ckpt")
        checkpoint.save(content(10), run.checkpoints / "best.ckpt")
        start = run.start("auto")
        assert (start.step, start.batches, start.checkpoint) == (20, 20, run.checkpoints / "last.ckpt")
        assert start.message == "resumed at step 20 from last.ckpt (verified)"
        with pytest.raises(ConfigError, match=r"resume=never, but .* holds 2 checkpoints"):
            run.start("never")
        (run.checkpoints / "last.ckpt").write_bytes(b"")
        message = run.start("auto").message
        assert "last.ckpt is damaged" in message
        assert message.endswith("resumed at step 10 from best.ckpt (verified)")
        (run.checkpoints / "best.ckpt").write_bytes(b"")
        with pytest.raises(
            CheckpointError, match=r"no checkpoint of .* can be used: .*best\.ckpt is damaged"
        ):
            run.start("auto")


def test_undefined_figures_are_null(tmp_path: Path):
    with RunFolder(tmp_path) as run:
        assert run.finished() is None
        write_json(run.metrics, {"best": {"a": float("nan"), "b": 1.5}, "steps": 3})
        assert run.finished() == {"best": {"a": None, "b": 1.5}, "steps": 3}
