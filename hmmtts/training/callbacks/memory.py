"""How much memory the run holds, as scalars, and a warning when it keeps growing (exit codes and runs are not touched)."""

import logging
import resource
import sys
from collections import deque
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)


class MemoryMonitor(Callback):
    """Resident memory of this process and of its GPU. A leak is a slope that holds over a whole window of looks.

    The first window is warm-up: caches fill, the allocator finds its size, the longest batches come by.
    """

    def __init__(self, every: int = 50, looks: int = 20, leak_mib: float = 2.0):
        if looks < 4:
            raise ValueError(f"looks must be at least 4 to see a slope, got {looks}")
        self.every = every  # batches between two looks
        self.leak_mib = leak_mib  # growth per look, in MiB, at which it warns; higher: fewer false alarms
        self.looks = looks
        self._held: deque[float] = deque(maxlen=looks)
        self._seen = 0
        self._warned = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % self.every:
            return
        held = resident() / 2**20
        figures = {"memory/mib": held, "memory/peak_mib": peak() / 2**20}
        if pl_module.device.type == "cuda":
            figures["memory/gpu_mib"] = torch.cuda.memory_allocated(pl_module.device) / 2**20
            figures["memory/gpu_reserved_mib"] = torch.cuda.memory_reserved(pl_module.device) / 2**20
            figures["memory/peak_gpu_mib"] = torch.cuda.max_memory_allocated(pl_module.device) / 2**20
        pl_module.log_dict(figures, rank_zero_only=True)
        self._watch(held, trainer.global_step, trainer.global_rank)

    def _watch(self, held: float, step: int, rank: int) -> None:
        self._seen += 1
        self._held.append(held)
        if self._warned or self._seen < 2 * self.looks:
            return
        grows = growth(list(self._held))
        if grows > self.leak_mib:
            self._warned = True
            log.warning(
                "step %d, rank %d: memory grows by %.1f MiB every %d batches and holds %.0f MiB: a leak? callbacks.profile "
                "shows what allocates; the run goes on and can be stopped and resumed at any step",
                step, rank, grows, self.every, held,
            )  # fmt: skip


def growth(values: list[float]) -> float:
    """Per look, in both halves of them: a single jump, in whichever, is no leak."""
    middle = len(values) // 2
    return min(slope(values[:middle]), slope(values[middle:]))


def slope(values: list[float]) -> float:
    """The median of the slopes between all pairs (Theil-Sen)."""
    pairs = [(values[j] - values[i]) / (j - i) for i in range(len(values)) for j in range(i + 1, len(values))]
    return float(torch.tensor(pairs).median())


def resident() -> int:
    """Bytes now (Linux), else at the peak."""
    if sys.platform != "linux":
        return peak()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
