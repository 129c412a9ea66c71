"""Facts about this installation and this machine, as pairs of a name and what is so."""

import os
import resource
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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
    "hmmtts.hmm.backends.cpu.mixtures",
    "hmmtts.hmm.backends.cpu.semi_markov",
    "hmmtts.hmm.backends.cpu.warping",
    "hmmtts.hmm.backends.cpu.soft_warping",
    "hmmtts.hmm.backends.cpu.streaming",
)
GIB = 2**30


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

    yield (
        "CPU threads",
        f"{torch.get_num_threads()} of {os.cpu_count()} (OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')})",
    )
    if not torch.cuda.is_available():
        yield (
            "GPU",
            f"none (torch was built {'for CUDA ' + torch.version.cuda if torch.version.cuda else 'without CUDA'})",
        )
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        yield f"GPU {i}", f"{properties.name}, {properties.total_memory / GIB:.0f} GiB"


def limits() -> Facts:
    from hmmtts.hmm.backends.cpu.compile import cache_folder

    for module in KERNELS:
        folder = cache_folder(module)
        ready = "ready" if (folder / "ready").exists() else "not compiled yet: hmmtts doctor --warm"
        yield "compiled kernels", f"{folder} ({ready})"
    for name, place in (
        ("disk here", Path.cwd()),
        ("disk of the cache", folder if folder.exists() else Path.home()),
    ):
        yield name, f"{shutil.disk_usage(place).free / GIB:.0f} GiB free ({place})"
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield "open files", f"{files}{' (low: DataLoader workers may want 4096)' if files < 1024 else ''}"
    if Path("/dev/shm").is_dir():
        yield (
            "shared memory",
            f"{shutil.disk_usage('/dev/shm').free / GIB:.1f} GiB (DataLoader workers pass batches through it)",
        )
    settings = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("HMMTTS_", "SLURM_JOB", "NUMBA_"))
    }
    yield "settings", ", ".join(f"{name}={value}" for name, value in sorted(settings.items())) or "none"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
