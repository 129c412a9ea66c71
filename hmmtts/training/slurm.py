"""Training as a job of SLURM: what it started against what the config wants, and who puts an ended job back.

A job that saves and leaves when it is told to is over in SLURM's eyes, even while it is being preempted (docs/clusters.md
has the experiment). So the run itself asks to be put back with `scontrol requeue`, where `run.requeue` says so.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from hmmtts.training.faults import ConfigError, Interrupted

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments import ClusterEnvironment

LAUNCHER = "hydra_plugins.hydra_submitit_launcher"
SAME_FOR_ALL = (2, 3, 4)  # exit codes
SKEW = 10.0  # seconds between the first and the last process to get as far
PATIENCE = 60.0  # seconds that a process waits for SLURM to end it, once its requeueing was asked for


def check_processes(trainer: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> None:
    """Refuse at once what would wait for processes that never come, or train each process alone."""
    environ = os.environ if environ is None else environ
    if "TORCHELASTIC_RUN_ID" in environ:
        _compare(
            trainer, "torchrun", int(environ["GROUP_WORLD_SIZE"]), int(environ["LOCAL_WORLD_SIZE"]),
            "--nnodes={nodes} --nproc-per-node={devices}",
        )  # fmt: skip
    elif started(environ):
        _check_slurm(trainer, environ)


def started(environ: Mapping[str, str]) -> bool:
    """Whether SLURM is to start the processes, as Lightning decides it; its own `detect` warns wherever srun is installed."""
    return "SLURM_NTASKS" in environ and environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")


def _check_slurm(trainer: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    tasks, nodes = int(environ["SLURM_NTASKS"]), int(environ.get("SLURM_NNODES", 1))
    if tasks > 1 and "SLURM_STEP_ID" not in environ:
        raise ConfigError(
            f"SLURM gave this job {tasks} tasks, and this is one process beside them: start it with `srun python "
            "train.py ...`"
        )
    if tasks % nodes:
        raise ConfigError(
            f"SLURM_NTASKS={tasks} do not divide among SLURM_NNODES={nodes}: ask for them with --ntasks-per-node"
        )
    _compare(trainer, "SLURM", nodes, tasks // nodes, "--nodes={nodes} --ntasks-per-node={devices}")
    if nodes > 1:
        from lightning.fabric.plugins.environments import SLURMEnvironment  # heavy

        first = environ.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(
            environ.get("SLURM_NODELIST", "")
        )
        try:
            socket.gethostbyname(first)
        except OSError as error:
            raise ConfigError(
                f"the first node {first!r} has no address here ({error}): export MASTER_ADDR=ADDRESS in the job"
            ) from error


def _compare(trainer: Mapping[str, Any], who: str, nodes: int, devices: int, mend: str) -> None:
    wanted = device_count(trainer["devices"])
    if wanted is None:
        raise ConfigError(
            f"trainer.devices must be a number where {who} starts the processes, got {trainer['devices']!r}"
        )
    if (wanted, trainer["num_nodes"]) != (devices, nodes):
        raise ConfigError(
            f"trainer.num_nodes={trainer['num_nodes']} x trainer.devices={wanted}, but {who} started "
            f"{nodes} x {devices} processes: ask for {mend.format(nodes=trainer['num_nodes'], devices=wanted)}, or set "
            f"trainer.num_nodes={nodes} trainer.devices={devices}"
        )


def device_count(devices: Any) -> int | None:
    """None for what only the machine knows: auto, -1."""
    if isinstance(devices, list):
        return len(devices)
    return int(devices) if str(devices).isdigit() else None


def environment() -> "list[ClusterEnvironment]":
    """How Lightning is to find the other processes, where a scheduler started them.

    It takes SLURM for the starter wherever SLURM is, torchrun within a job included; and its own way to put a job back
    saves inside the signal handler, in a file that it then prefers to our checkpoints.
    """
    from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    if TorchElasticEnvironment.detect():
        return [TorchElasticEnvironment()]
    return [SLURMEnvironment(auto_requeue=False)] if started(os.environ) else []


def requeue(end: Interrupted) -> None:
    """Put the job back into the queue if SLURM wants its nodes: USR1 always says so, TERM only while it preempts.

    `scancel` sends TERM too: then the job stays ended. The first process asks; the others wait to be ended by it, since
    a process that leaves first would take the asking one with it (srun --kill-on-bad-exit).
    """
    if "SLURM_JOB_ID" not in os.environ or end.signal not in (signal.SIGUSR1, signal.SIGTERM):
        return
    if os.environ.get("SLURM_PROCID", "0") == "0":
        if end.signal == signal.SIGTERM and not being_preempted(_scontrol("show", "job", job_name())):
            return
        print(f"train: scontrol requeue {job_name()}", file=sys.stderr, flush=True)
        _scontrol("requeue", job_name())
    time.sleep(PATIENCE)


def let_the_others_end(code: int) -> None:
    """What is wrong with a config or a corpus, every process finds. srun ends the others when the first leaves with an
    error, and then reports that they were ended: the first gives them time to find it, and whoever has found it leaves
    with its own code.
    """
    if code in SAME_FOR_ALL and int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(SKEW)


def being_preempted(shown: str) -> bool:
    """What `scontrol show job` shows of a job that must make room."""
    facts = dict(word.split("=", 1) for word in shown.split() if "=" in word)
    return facts.get("PreemptTime", "None") != "None" and facts.get("JobState") == "RUNNING"


def job_name() -> str:
    """The job as scontrol knows it: one of an array is ARRAY_TASK."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]


def _scontrol(*arguments: str) -> str:
    """Its output; a failure is told and does not hide that the run is saved."""
    try:
        done = subprocess.run(["scontrol", *arguments], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"train: scontrol {' '.join(arguments)}: {error}", file=sys.stderr)
        return ""
    if done.returncode:
        print(f"train: scontrol {' '.join(arguments)}: {done.stderr.strip()}", file=sys.stderr)
    return done.stdout


class Submission(Callback):
    """Of Hydra: before anything is submitted, what cannot work is refused; then what happens next is said."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        problem = self._problem(config)
        if problem:
            print(f"train: {problem}", file=sys.stderr)
            sys.exit(2)  # Hydra turns exceptions of a callback into warnings
        self.argv = sys.argv[:]
        folder = Path(config.hydra.sweep.dir).resolve()
        print(
            f"{folder}: jobs are on their way to SLURM; each writes there, what it prints goes to "
            f"{Path(config.hydra.launcher.submitit_folder).parent}/JOB/\n"
            f"This command waits for them; Ctrl-C leaves them running. squeue --me lists them, scancel JOB ends one.\n"
            f"To go on with what did not finish: the same command with run.name={config.run.name}",
            flush=True,
        )

    @staticmethod
    def _problem(config: DictConfig) -> str | None:
        if find_spec(LAUNCHER.split(".")[0]) is None or find_spec(LAUNCHER) is None:
            return 'hydra/launcher=slurm needs an extra: pip install "hmmtts[slurm]"'
        if shutil.which("sbatch") is None:
            return "hydra/launcher=slurm: sbatch is not found here; submit from a login node of the cluster"
        if device_count(config.trainer.devices) is None:
            return f"hydra/launcher=slurm: trainer.devices must be a number, got {config.trainer.devices!r}"
        return None

    def __setstate__(self, state: dict) -> None:
        """Unpickled in the job: the config is composed again there, which needs the resolvers, and what would resume it
        is the command that submitted it.
        """
        from hmmtts.training.resolvers import register_resolvers

        register_resolvers()
        sys.argv[:] = state["argv"]
        self.__dict__ |= state
