"""A SLURM for tests, the jobs on it, and what they leave behind."""

import importlib.util
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "recipe=demo", "prepare.profile=tiny", "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_steps=12",
    "trainer.val_check_interval=6", "callbacks.checkpoint.every=3", "callbacks.samples=null", "callbacks.preflight=null",
)  # fmt: skip

_spec = importlib.util.spec_from_file_location("slurm_here", ROOT / "scripts" / "slurm_here.py")
assert _spec is not None
assert _spec.loader is not None
slurm_here = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(slurm_here)


class Job(NamedTuple):
    cluster: "Cluster"
    id: str

    @property
    def facts(self) -> dict[str, str]:
        shown = self.cluster.ask("scontrol", "show", "job", self.id)
        return dict(re.findall(r"(\w+)=(\S*)", shown))

    @property
    def state(self) -> str:
        return self.facts["JobState"]

    def signal(self, name: str) -> None:
        self.cluster.ask("scancel", f"--signal={name}", self.id)

    def wait(self, *states: str, patience: float = 1200.0) -> str:
        return until(lambda: self.state in states and self.state, f"job {self.id} to be {states}", patience)

    def restart_now(self) -> None:
        """A job that was put back waits two minutes otherwise."""
        self.cluster.ask("scontrol", "update", f"JobId={self.id}", "StartTime=now")


class Cluster:
    """`folder` is where jobs are submitted from: their runs, their corpus and their features lie there."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder = folder
        self.environment = environment | {
            "MASTER_ADDR": "127.0.0.1",  # the names of the nodes do not resolve
            "OMP_NUM_THREADS": "1",
            "PYTHON": sys.executable,
            "HMMTTS": str(Path(sys.executable).with_name("hmmtts")),
            "PYTHONPATH": str(ROOT),
        }
        folder.mkdir()
        (folder / "train.py").symlink_to(ROOT / "train.py")

    def ask(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def train(self, *arguments: str, tasks: int = 1) -> Job:
        """scripts/train.sbatch on both nodes, which nothing else may use."""
        options = (
            f"--parsable --exclusive --ntasks-per-node={tasks} --gpus-per-node=0 --cpus-per-task=1".split()
        )
        script = str(ROOT / "scripts" / "train.sbatch")
        return Job(self, self.ask("sbatch", *options, script, *SMALL, *arguments))

    def launch(self, *arguments: str) -> subprocess.Popen:
        """train.py -m hydra/launcher=slurm on both nodes; it waits for its jobs."""
        numbers = "trainer.num_nodes=2", "trainer.devices=1"
        command = [sys.executable, "train.py", "-m", "hydra/launcher=slurm", *numbers, *SMALL, *arguments]
        return subprocess.Popen(
            command, env=self.environment, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )  # fmt: skip

    def printed(self, job: Job) -> str:
        return (self.folder / f"slurm-hmmtts-{job.id}.out").read_text(errors="replace")

    def run_folder(self, name: str) -> Path:
        return self.folder / "runs" / "demo" / name


def until(condition, what: str, patience: float = 1200.0):
    """What the condition returns, once it is true."""
    end = time.monotonic() + patience
    while not (result := condition()):
        assert time.monotonic() < end, f"waited {patience:g} s for {what}"
        time.sleep(0.2)
    return result
