"""R16 to R18: real faults in one of two real processes. The whole job ends in time, says first why, and leaves nobody."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from hmmtts.build import checkpoint

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 8  # of the process group, in seconds
BUSY = 15  # beyond it, of which launch.GRACE are the others' to report: a machine with much else to do takes some


def run(
    folder: Path, fault: str = "", rank: int = 1, poisoned: tuple[int, ...] = (), size: int = 1
) -> subprocess.Popen:
    job = {
        "run": {"dir": str(folder / "run")},
        "trainer": {
            "devices": 2,
            "num_nodes": 1,
            "strategy": {"timeout": {"_target_": "datetime.timedelta", "seconds": TIMEOUT}},
        },
        "fault": fault,
        "rank": rank,
        "poisoned": poisoned,
        "size": size,
    }
    (folder / "job.json").write_text(json.dumps(job))
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.watched", str(folder / "job.json")],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HMMTTS_TEST_RANKS": str(folder)},
        stderr=subprocess.PIPE,
        text=True,
    )


def alive(folder: Path) -> list[str]:
    """Processes of this test's job that still live."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            environment = (place / "environ").read_bytes()
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if f"HMMTTS_TEST_RANKS={folder}".encode() in environment and state != "Z":
            found.append((place / "cmdline").read_text().replace("\0", " "))
    return found


def told(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("train: ")]


FAULTS = {  # what is told of each, and the seconds until nobody is left
    "KILL": ("failed first, at step 3: ended by SIGKILL; if nobody killed it, the kernel did", TIMEOUT),
    "raise": ("failed first: RuntimeError: the third step went wrong", TIMEOUT),
    "abort": ("failed first, at step 3: ended by SIGABRT", TIMEOUT),
    "STOP": (f"is stopped (SIGSTOP) at step 3: the others waited {TIMEOUT} s for it", TIMEOUT + BUSY),
    "sleep": (f"hangs at step 3: the others waited {TIMEOUT} s for it", TIMEOUT + BUSY),
}


@pytest.mark.process
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_dead_or_stuck_rank_ends_the_job_with_its_cause_first(fault: str, rank: int, tmp_path: Path):
    cause, limit = FAULTS[fault]
    process = run(tmp_path, fault, rank)
    _, stderr = process.communicate(timeout=300)
    assert time.time() - (tmp_path / "begun").stat().st_mtime < limit
    assert process.returncode == 1
    errors = [line for line in stderr.splitlines() if "rror" in line or line.startswith("train: ")]
    assert errors[0].startswith(f"train: rank {rank} {cause}"), stderr
    assert alive(tmp_path) == []
    assert checkpoint.header(tmp_path / "run/checkpoints/last.ckpt")["step"] == 2


@pytest.mark.process
def test_a_loss_that_is_not_finite_on_one_rank_is_skipped_by_both(tmp_path: Path):
    """In step 2 once, and from step 4 on until the run stops: exit 5, and the last checkpoint is a good one."""
    process = run(tmp_path, poisoned=(2, 4, 5, 6))
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 5
    assert (
        "step 2: non-finite loss on rank 1, utterances u3; update skipped (1 of 2 allowed in a row)" in stderr
    )
    assert [line for line in stderr.splitlines() if line.startswith("train: ")] == [
        "train: step 6: non-finite loss on rank 1, utterances u11; update skipped (3 of 2 allowed in a row): stopping; "
        f"lower optim.optimizer.lr, or see the batches kept in {tmp_path}/run/faults"
    ]
    last = checkpoint.load(tmp_path / "run/checkpoints/last.ckpt")
    assert all(torch.isfinite(value).all() for value in last["state_dict"].values())
    dumped = sorted(path.name for path in (tmp_path / "run/faults").iterdir())
    assert dumped == [f"nonfinite-step={step}-rank=1.pt" for step in (2, 4, 5, 6)]
    assert torch.load(tmp_path / "run/faults" / dumped[0], weights_only=True)["batch"][0] == ["u3"]
    assert alive(tmp_path) == []


@pytest.mark.process
def test_memory_that_runs_out_on_one_rank_splits_the_batch_on_both(tmp_path: Path):
    """From step 4 on rank 1 has room for one utterance of its two: the weights are those of a run that had enough."""
    weights = {}
    for fault in ("memory", ""):
        (tmp_path / fault).mkdir(exist_ok=True)
        process = run(tmp_path / fault, fault, size=2)
        _, stderr = process.communicate(timeout=500)
        assert process.returncode == 0, stderr
        weights[fault] = checkpoint.load(tmp_path / fault / "run/checkpoints/last.ckpt")["state_dict"]
        told = "step 4: memory ran out: the batch is taken in 2 parts: rank 0: [u12, u14] (T=5 frames, S=0 symbols); rank 1: [u13, u15]"
        assert (told in stderr) == bool(fault), stderr
    for name, value in weights[""].items():
        torch.testing.assert_close(weights["memory"][name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.process
def test_a_signal_to_the_watcher_reaches_every_rank_once(tmp_path: Path):
    """As a scheduler or a terminal gives it: one checkpoint, 143; and nobody is left."""
    process = run(tmp_path, "slow")
    wait_for(tmp_path / "begun")
    process.terminate()
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 143
    (last,) = told(stderr)
    step = checkpoint.header(tmp_path / "run/checkpoints/last.ckpt")["step"]
    assert last.startswith(f"train: received SIGTERM: saved step {step}, exiting 143")
    assert alive(tmp_path) == []


@pytest.mark.process
def test_ranks_do_not_outlive_their_watcher(tmp_path: Path):
    """kill -9 of the watcher, while one rank hangs and the other waits for it."""
    process = run(tmp_path, "sleep")
    wait_for(tmp_path / "begun")
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while alive(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert alive(tmp_path) == []


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 250
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.2)
