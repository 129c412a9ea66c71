"""Who starts the processes, and what is said of how they ended (tests/training/test_ranks.py has the real faults)."""

import json
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from hmmtts.training import launch, rank
from hmmtts.training.failures import Rank, cause
from hmmtts.training.faults import ConfigError, DataError, Interrupted

ONE = {"devices": 1, "num_nodes": 1}
TWO = {"devices": 2, "num_nodes": 1}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No launcher around us."""
    for name in (
        "RANK",
        "LOCAL_RANK",
        "NODE_RANK",
        "MASTER_ADDR",
        "MASTER_PORT",
        "SLURM_NTASKS",
        "SLURM_PROCID",
    ):
        monkeypatch.delenv(name, raising=False)


def test_several_processes_are_started_once(monkeypatch):
    assert not launch.needed(ONE)
    assert launch.needed(TWO)
    assert launch.rank() == 0
    monkeypatch.setenv("LOCAL_RANK", "1")  # torchrun's, or one that we started
    monkeypatch.setenv("RANK", "3")
    assert not launch.needed(TWO)
    assert launch.rank() == 3


def test_several_machines_need_somebody_who_knows_them(monkeypatch):
    with pytest.raises(
        ConfigError,
        match=r"trainer\.num_nodes=2, but nothing says where the others are: .* torchrun --nnodes=2",
    ):
        launch.needed({"devices": 1, "num_nodes": 2})
    for name, value in (("MASTER_ADDR", "10.0.0.1"), ("MASTER_PORT", "29500"), ("NODE_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert launch.needed({"devices": 1, "num_nodes": 2})
    found = launch.environment(2)
    assert (found["MASTER_ADDR"], found["MASTER_PORT"], found["NODE_RANK"]) == ("10.0.0.1", "29500", "1")


def ended(
    folder: Path, number: int, code: int | None, error: BaseException | None = None, when: float = 0.0
) -> Rank:
    one = Rank(
        number,
        SimpleNamespace(pid=0, poll=lambda: code),
        folder / f"rank={number}.json",
        folder / f"pulse={number}",
        None,
    )  # type: ignore[arg-type]
    one.code = code
    if error is not None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TORCHELASTIC_ERROR_FILE", str(folder / f"rank={number}.json"))
            patch.setattr(time, "time", lambda: when)
            rank.report(error)
    return one


def test_the_earliest_report_is_the_cause(tmp_path: Path):
    first = ended(tmp_path, 1, 1, ValueError("boom"), when=10.0)
    second = ended(tmp_path, 0, 1, RuntimeError("Connection closed by peer"), when=10.1)
    assert str(cause([second, first], 60)).startswith("rank 1 failed first: ValueError: boom\n")


def test_a_signal_from_outside_comes_before_what_follows_from_it(tmp_path: Path):
    killed = ended(tmp_path, 1, -signal.SIGKILL)
    other = ended(tmp_path, 0, 1, RuntimeError("Connection closed by peer"), when=1.0)
    assert str(cause([other, killed], 60)).startswith("rank 1 failed first, at the start: ended by SIGKILL")


def test_a_killed_rank_is_the_cause_although_the_other_waited_long_for_it(tmp_path: Path):
    """As where memory runs out slowly. What its own library aborts is another matter: it gave up waiting."""
    waiting = ended(tmp_path, 0, None)
    waiting.silence = 59.0
    assert str(cause([waiting, ended(tmp_path, 1, -signal.SIGKILL)], 60)).startswith("rank 1 failed first")
    assert str(cause([waiting, ended(tmp_path, 1, -signal.SIGABRT)], 60)).startswith("rank 0 hangs")


def test_what_all_say_needs_no_rank_and_keeps_its_exit_code(tmp_path: Path):
    ranks = [ended(tmp_path, number, 3, DataError("train.csv: no text"), when=number) for number in (0, 1)]
    found = cause(ranks, 60)
    assert (str(found), found.exit_code) == ("train.csv: no text", 3)


def test_a_run_that_was_told_to_leave_leaves_so(tmp_path: Path):
    saved = [ended(tmp_path, 0, 143, Interrupted("saved step 7", 143, 15)), ended(tmp_path, 1, 143)]
    found = cause(saved, 60)
    assert isinstance(found, Interrupted)
    assert (str(found), found.exit_code, found.signal) == ("saved step 7", 143, 15)
    early = [ended(tmp_path / "none", number, -signal.SIGTERM) for number in (0, 1)]
    for one in early:
        one.told = signal.SIGTERM
    found = cause(early, 60)
    assert isinstance(found, Interrupted)
    assert str(found) == "received SIGTERM before the training began: nothing to save"


def test_torchrun_can_read_the_report(tmp_path: Path):
    ended(tmp_path, 0, 5, DataError("nothing left"))
    message = json.loads((tmp_path / "rank=0.json").read_text())["message"]
    assert message["message"] == message["extraInfo"]["py_callstack"] == "nothing left"
    assert int(message["extraInfo"]["timestamp"]) == 0
