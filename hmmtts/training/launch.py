"""One training over several processes of this machine, started and watched by one that takes part in nothing.

The watcher hands the checked config to `python -m hmmtts.training.rank`, once for each rank, and passes signals on. When a
rank fails, whatever way, it ends them all and says which failed first and why: the others only report that a connection
broke. A rank that hangs is found by the others' timeout (trainer.strategy.timeout) and ended too. torchrun and SLURM
watch the processes that they start themselves.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from lightning.pytorch import Trainer

from hmmtts.build import objects
from hmmtts.training import failures, slurm
from hmmtts.training.faults import ConfigError
from hmmtts.training.signals import SIGNALS

log = logging.getLogger(__name__)

POLL = 0.1  # seconds between two looks at the ranks
GRACE = 3.0  # seconds that the others have to end by themselves and report, once one has failed
SAVING = 600.0  # the same where all were told to save and leave


def processes(trainer: dict[str, Any]) -> int:
    """On each node."""
    if isinstance(trainer["devices"], int) and trainer["devices"] > 0:
        return trainer["devices"]
    chosen = {key: trainer[key] for key in ("accelerator", "devices")}
    return Trainer(**chosen, logger=False, enable_checkpointing=False, enable_model_summary=False).num_devices


def all_processes(trainer: dict[str, Any]) -> int:
    return trainer["num_nodes"] * processes(trainer)


def started_outside() -> bool:
    """Whether this process is one rank of those that torchrun, SLURM or `launch` started."""
    return "LOCAL_RANK" in os.environ or slurm.started(os.environ)


def rank() -> int:
    """Of all ranks on all nodes, known before any process group is."""
    if not started_outside():
        return 0
    if "RANK" in os.environ:
        return int(os.environ["RANK"])
    return int(os.environ.get("SLURM_PROCID", os.environ.get("LOCAL_RANK", 0)))


def needed(trainer: dict[str, Any]) -> bool:
    """Whether this process is to start and watch ranks instead of training itself."""
    if started_outside():
        return False
    if trainer["num_nodes"] > 1 and not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= os.environ.keys():
        raise ConfigError(
            f"trainer.num_nodes={trainer['num_nodes']}, but nothing says where the others are: start it on every node with "
            f"torchrun --nnodes={trainer['num_nodes']} (docs/training.md), or as a SLURM job (docs/clusters.md)"
        )
    return all_processes(trainer) > 1


class Job(NamedTuple):
    """What all ranks of this machine share."""

    module: str
    processes: int
    folder: Path  # of this launch alone: what the ranks read and report
    run_folder: Path
    environment: dict[str, str]


def launch(config: dict, module: str = "hmmtts.training.rank") -> None:
    """Returns when every rank has finished; raises RankFailure or Interrupted with what ended them."""
    count, run_folder = processes(config["trainer"]), Path(config["run"]["dir"])
    run_folder.mkdir(parents=True, exist_ok=True)
    timeout = objects.make(config["trainer"]["strategy"]["timeout"]).total_seconds()
    with tempfile.TemporaryDirectory(prefix="hmmtts-ranks-") as folder:
        (Path(folder) / "job.json").write_text(json.dumps({"config": config, "argv": sys.argv}))
        job = Job(module, count, Path(folder), run_folder, environment(count) | {"HMMTTS_RANKS": folder})
        ranks: list[failures.Rank] = []
        with passing_on(ranks):
            try:
                ranks += [start(job, local) for local in range(count)]
                watch(ranks, timeout)
            finally:
                for one in ranks:
                    one.end()


def environment(count: int) -> dict[str, str]:
    """Where the ranks meet, and their share of the cores, unless somebody has said so already."""
    usual = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "NODE_RANK": "0",
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count)),
    }
    return usual | os.environ


def start(job: Job, local: int) -> failures.Rank:
    """A process group of its own: a signal of the terminal reaches it once, from us, and its workers end with it."""
    number = int(job.environment["NODE_RANK"]) * job.processes + local
    report = job.folder / f"rank={number}.json"
    own = {
        "RANK": str(number),
        "LOCAL_RANK": str(local),
        "TORCHELASTIC_ERROR_FILE": str(report),  # torch's own way: torchrun's ranks report in the same manner
    }
    output = job.run_folder / f"rank={number}.log" if number else None  # the first rank speaks for all
    with output.open("ab") if output else nullcontext() as file:
        process = subprocess.Popen(
            [sys.executable, "-m", job.module],
            env=job.environment | own,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    return failures.Rank(number, process, report, job.folder / f"pulse={number}", output)


def watch(ranks: list[failures.Rank], timeout: float) -> None:
    """Until all have finished, or one has failed and the others have had time to say how they ended."""
    deadline = float("inf")
    while any(one.running for one in ranks) and time.monotonic() < deadline:
        time.sleep(POLL)
        codes = [one.poll() for one in ranks]
        if deadline == float("inf") and any(codes):
            leaving = any(code in (130, 143) for code in codes)
            deadline = time.monotonic() + (SAVING if leaving else GRACE)
            for one in ranks:
                one.look()  # what it was doing when the first one failed
    if any(one.code != 0 for one in ranks):
        raise failures.cause(ranks, timeout)


@contextmanager
def passing_on(ranks: list[failures.Rank]) -> Iterator[None]:
    """What this process is told, all ranks are."""

    def tell(number: int, _: FrameType | None) -> None:
        for one in ranks:
            one.tell(number)

    before = {number: signal.signal(number, tell) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]
