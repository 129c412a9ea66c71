"""Facts about this installation and this machine, as pairs of a name and what is so."""

import os
import re
import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple

Facts = Iterator[tuple[str, str]]

PACKAGES = (
    "torch",
    "torchaudio",
    "lightning",
    "hydra-core",
    "numba",
    "librosa",
    "lhotse",
    "soundfile",
    "numpy",
)
# What an optional part brings, and the extra that installs it.
EXTRAS = {
    "espeakng_loader": "espeak",
    "pyworld": "world",
    "pocketsphinx": "asr",
    "hydra-submitit-launcher": "slurm",
    "triton": "triton",
}
# Modules with compiled kernels; each has a function make_ready that compiles its own.
KERNELS = (
    "hmmtts.hmm.backends.cpu",
    "hmmtts.hmm.backends.cpu.turns",
    "hmmtts.hmm.backends.cpu.mixtures",
    "hmmtts.hmm.backends.cpu.semi_markov",
    "hmmtts.hmm.backends.cpu.warping",
    "hmmtts.hmm.backends.cpu.soft_warping",
    "hmmtts.hmm.backends.cpu.long_text",
    "hmmtts.hmm.backends.cpu.streaming",
    "hmmtts.hmm.backends.cpu.long",
)
GIB = 2**30
UNLIMITED = 2**60  # bytes: version 1 of cgroups writes a number where it means none


def packages() -> Facts:
    for name in PACKAGES:
        yield name, _version(name) or "missing: pip install hmmtts"


def extras() -> Facts:
    for name, extra in EXTRAS.items():
        yield name, _version(name) or f'not installed (optional): pip install "hmmtts[{extra}]"'


def backends() -> Facts:
    """Each backend proves itself on a small problem whose answer is known: one path, of weight one."""
    import torch

    from hmmtts.hmm import left_to_right
    from hmmtts.hmm.backends import NAMES, load
    from hmmtts.hmm.backends.contract import Problem

    for name in NAMES:
        device = "cuda" if name == "gpu" else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            yield f"backend {name}", "off: no CUDA device"
            continue
        try:
            sure = left_to_right(torch.full((1, 3), -torch.inf, device=device))
            lengths = torch.tensor([3])
            answer = load(name).log_likelihood(
                Problem(torch.zeros(1, 3, 3, device=device), sure, lengths, lengths)
            )
            yield (
                f"backend {name}",
                "works" if abs(float(answer)) < 1e-6 else f"WRONG: 0 expected, got {float(answer)}",
            )
        except (ImportError, RuntimeError, ValueError, OSError) as error:
            yield f"backend {name}", f"off: {error}"


def devices() -> Facts:
    import torch

    if not torch.cuda.is_available():
        yield (
            "GPU",
            f"none (torch was built {'for CUDA ' + torch.version.cuda if torch.version.cuda else 'without CUDA'})",
        )
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        yield f"GPU {i}", f"{properties.name}, {properties.total_memory / GIB:.0f} GiB"


def processor() -> Facts:
    """A container often may use less than it sees: threads beyond that wait for each other."""
    import torch

    limit = cgroup_limits()
    yield "cores seen", str(os.cpu_count())
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield "cores usable", f"{usable}{'' if limit.cores is None else f', {limit.cores:g} by the cgroup'}"
    threads, allowed = torch.get_num_threads(), min(usable, limit.cores or usable)
    more = " (more than the cores: set OMP_NUM_THREADS)" if threads > max(1, allowed) else ""
    yield "threads of torch", f"{threads}{more}"
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        yield name, os.environ.get(name, "unset")


def memory() -> Facts:
    limit = cgroup_limits()
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        sizes = dict(re.findall(r"(\w+):\s+(\d+) kB", meminfo.read_text()))
        total, free = (int(sizes[name]) * 1024 / GIB for name in ("MemTotal", "MemAvailable"))
        yield "memory", f"{total:.1f} GiB, {free:.1f} available"
    yield "memory by the cgroup", "no limit" if limit.memory is None else f"{limit.memory / GIB:.1f} GiB"
    if Path("/dev/shm").is_dir():
        free = shutil.disk_usage("/dev/shm").free / GIB
        low = " (low: data.workers pass batches through it; in docker --shm-size=8g)" if free < 1 else ""
        yield "shared memory", f"{free:.1f} GiB free{low}"


def limits() -> Facts:
    from hmmtts.hmm.backends.cpu.compile import cache_folder

    for module in KERNELS:
        folder = cache_folder(module)
        ready = "ready" if (folder / "ready").exists() else "not compiled yet: hmmtts doctor --warm"
        yield f"kernels {module.rpartition('.')[2]}", f"{folder} ({ready})"
    places = {
        "disk here": Path.cwd(),
        "disk of the kernels": folder.parent,
        "disk for temporary files": Path(gettempdir()),
    }
    if "HMMTTS_CACHE" in os.environ:
        places["disk of the cache"] = Path(os.environ["HMMTTS_CACHE"])
    for name, place in places.items():
        existing = next(parent for parent in (place, *place.absolute().parents) if parent.exists())
        writable = "" if os.access(existing, os.W_OK) else ", not writable"
        yield name, f"{shutil.disk_usage(existing).free / GIB:.0f} GiB free ({place}{writable})"
    for name, kind, least in (
        ("open files", resource.RLIMIT_NOFILE, 1024),
        ("processes", resource.RLIMIT_NPROC, 256),
        ("locked memory", resource.RLIMIT_MEMLOCK, 0),  # InfiniBand wants it unlimited
    ):
        soft, hard = map(_limit, resource.getrlimit(kind))
        low = f" (low: ulimit -n {4 * least})" if 0 <= resource.getrlimit(kind)[0] < least else ""
        yield name, f"{soft}, at most {hard}{low}"


def distributed() -> Facts:
    """gloo proves itself in a group of one: it fails where the machine's own name has no address."""
    import torch
    from torch import distributed as dist

    if not dist.is_available():
        yield "torch.distributed", "not built in"
        return
    try:
        group = dist.ProcessGroupGloo(dist.HashStore(), 0, 1, timedelta(seconds=5))
        one = torch.ones(1)
        group.allreduce([one]).wait()  # type: ignore[attr-defined]
        yield "gloo", "works" if float(one) == 1.0 else f"WRONG: 1 expected, got {float(one)}"
    except (RuntimeError, AttributeError) as error:
        yield "gloo", f"off: {error}"
    if dist.is_nccl_available():
        number = ".".join(map(str, torch.cuda.nccl.version()))
        yield "nccl", f"{number}{'' if torch.cuda.is_available() else ', no GPU to use it'}"
    else:
        yield "nccl", "not in this build of torch"
    try:
        yield "name of this host", f"{socket.gethostname()}, {socket.gethostbyname(socket.gethostname())}"
    except OSError as error:
        yield "name of this host", f"{socket.gethostname()}, no address ({error}): export MASTER_ADDR=ADDRESS"


def scheduler() -> Facts:
    if shutil.which("sbatch") is None:
        yield "SLURM", "not here"
    else:
        said = _said("sinfo", "--noheader", "--format=%P %a %D nodes")
        yield "SLURM", said.replace("\n", "; ")
    if "SLURM_JOB_ID" in os.environ:
        names = (
            "JOB_ID",
            "JOB_PARTITION",
            "NNODES",
            "NTASKS",
            "PROCID",
            "CPUS_ON_NODE",
            "GPUS_ON_NODE",
            "RESTART_COUNT",
        )
        found = {name: os.environ.get(f"SLURM_{name}") for name in names}
        yield "this job", ", ".join(f"{name}={value}" for name, value in found.items() if value is not None)


def settings() -> Facts:
    for name, value in sorted(os.environ.items()):
        if name.startswith(("HMMTTS_", "NUMBA_", "NCCL_", "GLOO_", "MASTER_", "CUDA_", "PYTORCH_", "TORCH_")):
            yield name, value


SECTIONS = (
    packages, extras, backends, devices, processor, memory, limits, distributed, scheduler, settings,
)  # fmt: skip


class CgroupLimits(NamedTuple):
    cores: float | None
    memory: int | None  # bytes


def cgroup_limits(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> CgroupLimits:
    """What a container or a scheduler allows this process, in either version of cgroups; a group obeys those above it."""
    cores: list[float] = []
    sizes: list[int] = []
    for line in membership.read_text().splitlines() if membership.is_file() else ():
        _, controllers, path = line.split(":", 2)
        tops = [root / name for name in controllers.split(",")] if controllers else [root]
        for top in tops:
            group = top / path.lstrip("/")
            for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(top))):
                cores += _cores(
                    _words(folder / "cpu.max")
                    or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
                )
                for name in ("memory.max", "memory.limit_in_bytes"):
                    sizes += [int(word) for word in _words(folder / name) if word.isdigit()]
    sizes = [size for size in sizes if size < UNLIMITED]
    return CgroupLimits(min(cores, default=None), min(sizes, default=None))


def _cores(words: tuple[str, ...]) -> list[float]:
    """Of a quota and its period; `max` and -1 are none."""
    return [int(words[0]) / int(words[1])] if len(words) == 2 and all(map(str.isdigit, words)) else []


def _words(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text().split())
    except OSError:
        return ()


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError) as error:
        return f"off: {error}"
    if done.returncode == 0:
        return done.stdout.strip()
    return f"off: {(done.stderr.strip() or 'no reason given').splitlines()[-1]}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
