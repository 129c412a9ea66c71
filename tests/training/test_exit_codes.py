"""A test per exit code: what README promises is what the program does."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hmmtts import cli
from hmmtts.build.checkpoint import CheckpointError
from hmmtts.training import run as runs
from hmmtts.training.compose import main
from hmmtts.training.faults import (
    ConfigError,
    DataError,
    EnvironmentFault,
    Interrupted,
    NumericsError,
    RankFailure,
    exit_code,
)
from hmmtts.training.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]

CODES = [
    (ConfigError("trainer.max_steps must be 1"), 2),
    (DataError("u: no such file"), 3),
    (CheckpointError("last.ckpt is damaged"), 4),
    (NumericsError("the loss stayed NaN"), 5),
    (EnvironmentFault("the folder is in use"), 6),
    (OSError(errno.ENOSPC, "No space left on device"), 6),
    (OSError(errno.EROFS, "Read-only file system"), 6),
    (ImportError("espeak-ng is not installed. Install it with: pip install ..."), 6),
    (ModuleNotFoundError("No module named 'numba.x'", name="numba.x"), 1),
    (KeyboardInterrupt(), 130),
    (Interrupted("received SIGINT", 130), 130),
    (Interrupted("received SIGTERM", 143), 143),
    (RankFailure("rank 1 failed first", 5), 5),
    (FileNotFoundError(errno.ENOENT, "a defect of ours"), 1),
    (RuntimeError("a defect of ours"), 1),
]


@pytest.mark.parametrize(("fault", "code"), CODES, ids=lambda value: str(value))
def test_every_fault_has_its_code(fault: BaseException, code: int):
    assert exit_code(fault) == code


@pytest.mark.parametrize(("fault", "code"), [CODES[1], CODES[11], CODES[14], (None, 0)], ids=str)
def test_the_program_leaves_with_it(
    fault, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    """What nobody foresaw keeps its traceback, for the report that somebody will write."""

    def run(config: dict) -> dict:
        if fault is not None:
            raise fault
        return {"best": {}}

    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT)
    }
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "run", run)
    monkeypatch.setattr(sys, "argv", ["train.py", "recipe=demo", "run.name=t"])
    try:
        if code == 0:
            main()
        else:
            with pytest.raises(SystemExit) as end:
                main()
            assert end.value.code == code
            said = "RuntimeError: a defect of ours" if code == 1 else f"train: {fault}"
            assert said in capsys.readouterr().err
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def verb(*arguments: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["hmmtts", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def test_verbs_have_the_same_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    (tmp_path / "voice.ckpt").write_bytes(b"<!doctype html>")
    assert (
        verb(
            "synthesize",
            tmp_path / "voice.ckpt",
            "A word.",
            "-o",
            tmp_path / "a.wav",
            monkeypatch=monkeypatch,
        )
        == 4
    )
    assert "voice.ckpt is damaged or no checkpoint" in capsys.readouterr().err
    assert verb("check", tmp_path / "nowhere", monkeypatch=monkeypatch) == 2


def begin(folder: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments], cwd=folder, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def end(process: subprocess.Popen) -> tuple[int, str]:
    try:
        said = process.communicate(timeout=600)[1]
    finally:
        process.kill()
    return process.returncode, said


@pytest.mark.process
def test_real_runs_that_cannot_begin(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    code, said = end(begin(tmp_path, "recipe=folder", f"data_dir={tmp_path / 'empty'}"))
    assert (code, "train: " in said, "resume with" in said) == (3, True, False), said
    checkpoints = tmp_path / "runs/demo/damaged/checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "last.ckpt").write_bytes(b"half")
    code, said = end(begin(tmp_path, "recipe=demo", "run.name=damaged"))
    assert (code, "last.ckpt is damaged or no checkpoint" in said) == (4, True), said
    code, said = end(begin(tmp_path, "recipe=demo", "run.name=none", "resume=must"))
    assert (code, "resume=must, but" in said) == (4, True), said
    with RunFolder(tmp_path / "runs/demo/taken"):
        code, said = end(begin(tmp_path, "recipe=demo", "run.name=taken"))
    assert (code, f"is in use by pid {os.getpid()}" in said) == (6, True), said


@pytest.mark.process
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGINT, 130)]
)
def test_a_signal_while_the_corpus_is_prepared(number: signal.Signals, code: int, tmp_path: Path):
    process = begin(tmp_path, "recipe=demo", "run.name=t")
    while not (tmp_path / "runs/demo/t/train.log").exists() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    found, said = end(process)
    assert found == code, said
    assert f"received {number.name} outside training: nothing is lost" in said
    assert "resume with: python" in said
