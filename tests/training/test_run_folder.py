"""One live run per folder; where a run starts is said and never guessed."""

import multiprocessing
import os
from pathlib import Path

import pytest

from hmmtts.build import checkpoint
from hmmtts.build.checkpoint import CheckpointError
from hmmtts.training.faults import ConfigError, EnvironmentFault, Interrupted, NumericsError, exit_code
from hmmtts.training.run_folder import RunFolder, write_json
from tests.training.test_checkpoint import content


def test_a_folder_in_use_is_refused(tmp_path: Path):
    with (
        RunFolder(tmp_path / "lj"),
        pytest.raises(EnvironmentFault, match=rf"lj is in use by pid {os.getpid()} on host .* since"),
    ):
        RunFolder(tmp_path / "lj").__enter__()
    with RunFolder(tmp_path / "lj"):
        pass


def _die_inside(path: Path) -> None:
    RunFolder(path).__enter__()
    os._exit(9)


def test_the_lock_dies_with_its_process(tmp_path: Path):
    process = multiprocessing.get_context("fork").Process(target=_die_inside, args=(tmp_path,))
    process.start()
    process.join()
    with RunFolder(tmp_path):
        pass


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


def test_exit_codes():
    assert exit_code(ConfigError("x")) == 2
    assert exit_code(CheckpointError("x")) == 4
    assert exit_code(NumericsError("x")) == 5
    assert exit_code(EnvironmentFault("x")) == 6
    assert exit_code(Interrupted("x", 143)) == 143
    assert exit_code(RuntimeError("x")) == 1
