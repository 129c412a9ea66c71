"""A training step outside of a training: what it takes, and whether it fits. b utterances, s symbols, t frames."""

import ctypes
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hmmtts.batch import Batch
from hmmtts.build import objects
from hmmtts.model import Sizes
from hmmtts.training.callbacks import memory
from hmmtts.training.config import SOME_FACTS
from hmmtts.training.task import Task


class Cost(NamedTuple):
    seconds: float  # of the processor on a CPU, of the clock on a GPU; the least of several
    peak: int  # bytes that the step took beyond what it found: activations, gradients, not the weights
    resting: int  # bytes of weights, optimiser and libraries


class Shape(NamedTuple):
    """Of a batch made of noise: every utterance as long as the longest."""

    b: int
    s: int
    t: int


def task_of(config: dict) -> Task:
    """The model of a config with its losses and optimiser, without data: sizes as of any corpus."""
    features = objects.features(config)
    model = objects.model(config, SOME_FACTS, features)
    objects.make(config["memory"]).apply(model)
    return Task(
        model,
        config["loss"]["weights"],
        objects.make(config["optim"]["optimizer"]),
        objects.make(config["optim"]["schedule"]),
        pace=config["optim"]["pace"],
    )


def batch_of(shape: Shape, sizes: Sizes) -> Batch:
    b, s, t = shape
    generator = torch.Generator().manual_seed(0)
    u = int(t * sizes.hop / sizes.acoustic_hop)
    unknown = torch.full((b, s), torch.nan)
    noise = torch.randn(b, t, sizes.bins, generator=generator)
    return Batch(
        [f"u{index}" for index in range(b)], torch.ones(b, s, dtype=torch.long), torch.full((b,), s),
        torch.zeros(b, s, dtype=torch.long), noise, torch.full((b,), t), torch.full((b, t), 120.0),
        noise if sizes.features == sizes.bins and u == t else torch.randn(b, u, sizes.features, generator=generator),
        torch.full((b,), u), torch.zeros(b, dtype=torch.long), torch.zeros(b, dtype=torch.long), unknown, unknown,
    )  # fmt: skip


def backward(task: Task, batch: Batch, precision: AbstractContextManager, share: float = 1.0) -> Tensor:
    """The loss of this batch alone, and its gradients added to those of the parameters."""
    with precision:
        loss = task.weighted({name: mean.value for name, mean in task.means(batch).items()})
    (loss * share).backward()
    return loss.detach()


def step(
    task: Task, optimizer: Optimizer, batches: Sequence[Batch], precision: AbstractContextManager, clip: float
) -> None:  # fmt: skip
    """Forward and backward of each batch, accumulated, then clipping and the optimiser."""
    optimizer.zero_grad(set_to_none=True)
    for batch in batches:
        backward(task, batch, precision, 1 / len(batches))
    if clip:
        nn.utils.clip_grad_norm_(task.parameters(), clip)
    optimizer.step()


def measure(config: dict, shape: Shape, repeats: int = 3) -> Cost:
    """In a process that does nothing else; a first, small step is not counted: it compiles and makes the optimiser's state."""
    torch.manual_seed(0)
    torch.set_num_threads(config["threads"] or 1)
    device = device_of(config)
    task = task_of(config).to(device).train()
    whole = batch_of(shape, task.model.sizes)  # type: ignore[arg-type]
    batches = [moved(batch, device) for batch in split(whole, config["trainer"]["accumulate_grad_batches"])]
    optimizer = task.optimizer([{"params": list(task.parameters())}])
    clip = config["trainer"]["gradient_clip_val"]
    step(task, optimizer, [split(batches[0], len(batches[0].names))[0]], autocast(config, device), clip)
    optimizer.zero_grad(set_to_none=True)
    seconds, resting = [], start_peak(device)
    for _ in range(repeats):
        began = stopwatch(device)
        step(task, optimizer, batches, autocast(config, device), clip)
        seconds.append(stopwatch(device) - began)
    return Cost(min(seconds), peak(device) - resting, resting)


def device_of(config: dict) -> torch.device:
    on_gpu = torch.cuda.is_available() and config["trainer"]["accelerator"] != "cpu"
    return torch.device("cuda" if on_gpu else "cpu")


def autocast(config: dict, device: torch.device) -> AbstractContextManager:
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(config["trainer"]["precision"])
    if half == torch.float16 and device.type == "cpu":
        half = torch.bfloat16  # as the trainer does
    return torch.autocast(device.type, half) if half else nullcontext()


def stopwatch(device: torch.device) -> float:
    """Seconds, with all work done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def split(batch: Batch, parts: int) -> list[Batch]:
    """Into so many, each padded no further than it needs."""
    number = torch.arange(len(batch.names), device=batch.frames.device) * parts // len(batch.names)
    return [batch.take(number == part) for part in range(min(parts, len(batch.names)))]


def start_peak(device: torch.device) -> int:
    """Bytes now; from here on `peak` counts anew where the system can (Linux, CUDA)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if sys.platform != "linux":
        return peak(device)
    _return_what_is_free()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform != "linux":
        return memory.peak()
    return _status("VmHWM")


def _return_what_is_free() -> None:
    """glibc keeps what was freed: a step that follows a larger one would seem to take as much."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def moved(batch: Batch, device: torch.device) -> Batch:
    return Batch._make(part.to(device) if isinstance(part, Tensor) else part for part in batch)
