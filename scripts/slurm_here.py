"""A real SLURM on this one machine, to try scripts and launchers and to test them: a controller and two nodes.

    python scripts/slurm_here.py install            # Debian, Ubuntu: apt-get install slurm-wlm, as root
    python scripts/slurm_here.py start FOLDER       # prints the line that makes sbatch, squeue, ... speak to it
    python scripts/slurm_here.py stop FOLDER

Everything lies in FOLDER, every port is a free one on loopback, nothing is read from or written to /etc/slurm, and only
processes started from here are ended. Two partitions: `debug`, and `urgent`, which preempts it. No authentication: for
one user on one machine.
"""

import argparse
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol")
NODES = ("n1", "n2")
SYSTEM = "/usr/sbin:/usr/local/sbin:/sbin"  # where daemons are, and PATH often does not reach

CONF = """\
ClusterName=hmmtts
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/none
CredType=cred/none
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait={kill_wait}
MinJobAge=3600
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/finished.txt
GresTypes=gpu
{nodes}
PartitionName=debug Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=urgent Nodes=n[1-2] MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 Gres=gpu:2 State=UNKNOWN"


def missing() -> str | None:
    """Why there can be no SLURM here, None where there can."""
    absent = [name for name in PROGRAMS if _program(name) is None]
    if absent:
        return f"{', '.join(absent)} not found: python scripts/slurm_here.py install"
    return None


def install() -> int:
    """Debian's packages. Their services do not start without /etc/slurm/slurm.conf, which is not written."""
    if shutil.which("apt-get") is None:
        print(
            "slurm_here: only Debian and Ubuntu are known here; install SLURM as your system does",
            file=sys.stderr,
        )
        return 1
    subprocess.run(["apt-get", "update", "-qq"])
    return subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", "slurm-wlm"]).returncode


def start(folder: Path, kill_wait: int = 10, patience: float = 20.0) -> dict[str, str]:
    """Start the daemons and return the environment in which SLURM's commands speak to them."""
    problem = missing()
    if problem:
        raise OSError(problem)
    folder = folder.resolve()
    if _alive(folder):
        raise OSError(f"{folder}: a SLURM runs there already; stop it first")
    (folder / "state").mkdir(parents=True, exist_ok=True)
    _configure(folder, kill_wait)
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    daemons = [["slurmctld", "-D"], *(["slurmd", "-D", "-N", name] for name in NODES)]
    pids = []
    for command in daemons:
        program = _program(command[0])
        assert program is not None
        daemon = subprocess.Popen(
            [program, *command[1:]], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        pids.append(daemon.pid)
        (folder / "pids").write_text("\n".join(map(str, pids)))
    until = time.monotonic() + patience
    while _idle_nodes(environment) < len(NODES):
        if time.monotonic() > until:
            stop(folder)
            raise OSError(
                f"SLURM is not ready after {patience:g} s: see {folder}/slurmctld.log and slurmd-n1.log"
            )
        time.sleep(0.1)
    return environment


def stop(folder: Path) -> None:
    """End the jobs, then the daemons that `start` recorded, if they still are what it started."""
    folder = folder.resolve()
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    if not _alive(folder):
        return
    with suppress(subprocess.SubprocessError):
        subprocess.run(
            ["scancel", "--user", getpass.getuser()], env=environment, timeout=10, capture_output=True
        )
        until = time.monotonic() + 15
        while time.monotonic() < until and _ask(environment, "squeue", "--noheader").strip():
            time.sleep(0.2)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in _alive(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        until = time.monotonic() + 10
        while _alive(folder) and time.monotonic() < until:
            time.sleep(0.05)
    (folder / "pids").unlink(missing_ok=True)


@contextmanager
def running(folder: Path, kill_wait: int = 10) -> Iterator[dict[str, str]]:
    """For tests: the environment of a SLURM that ends with the block."""
    environment = start(folder, kill_wait)
    try:
        yield environment
    finally:
        stop(folder)


def _configure(folder: Path, kill_wait: int) -> None:
    host = socket.gethostname().split(".")[0]
    port, *node_ports = _free_ports(1 + len(NODES))
    nodes = "\n".join(
        NODE.format(name=name, host=host, port=number) for name, number in zip(NODES, node_ports, strict=True)
    )
    gpus = [folder / "gpu0", folder / "gpu1"]
    for gpu in gpus:
        gpu.touch()  # a device that SLURM can count: scripts that ask for GPUs are tried unchanged
    (folder / "gres.conf").write_text(f"NodeName=n[1-2] Name=gpu File={folder}/gpu[0-1]\n")
    (folder / "slurm.conf").write_text(
        CONF.format(
            host=host, port=port, user=getpass.getuser(), folder=folder, nodes=nodes, kill_wait=kill_wait
        )
    )


def _free_ports(count: int) -> list[int]:
    """Bound together, so that they differ; free again when this returns."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _alive(folder: Path) -> list[int]:
    """Those of the recorded processes that still run from this folder's configuration: ids are used again."""
    try:
        pids = [int(line) for line in (folder / "pids").read_text().split()]
    except OSError:
        return []
    ours = f"SLURM_CONF={folder}/slurm.conf".encode()
    alive = []
    for pid in pids:
        with suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            if state != "Z" and ours in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                alive.append(pid)
    return alive


def _idle_nodes(environment: dict[str, str]) -> int:
    return (
        _ask(environment, "sinfo", "--noheader", "--Node", "--partition=debug", "--format=%t")
        .split()
        .count("idle")
    )


def _ask(environment: dict[str, str], *command: str) -> str:
    try:
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=10).stdout
    except subprocess.TimeoutExpired:
        return ""


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=SYSTEM)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("install")
    for verb in ("start", "stop"):
        verbs.add_parser(verb).add_argument("folder", type=Path)
    arguments = parser.parse_args()
    try:
        if arguments.verb == "install":
            return install()
        if arguments.verb == "stop":
            stop(arguments.folder)
            return 0
        environment = start(arguments.folder)
    except OSError as error:
        print(f"slurm_here: {error}", file=sys.stderr)
        return 1
    print(
        f"export SLURM_CONF={environment['SLURM_CONF']} MASTER_ADDR=127.0.0.1  # node names do not resolve here"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
