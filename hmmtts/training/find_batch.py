"""The largest data.max_seconds that fits: real training steps on the worst batches of the corpus, larger and larger."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from hmmtts.batch import Batch
from hmmtts.build import objects
from hmmtts.training.data import SpeechData
from hmmtts.training.out_of_memory import fits
from hmmtts.training.run import voice_and_data
from hmmtts.training.run_folder import Start
from hmmtts.training.task import Task
from hmmtts.training.trial import autocast, device_of, moved, peak, start_peak, step, stopwatch

CLOSE = 1.1  # the answer lies within this factor of what does not fit
SPARE = 0.9  # of it is recommended: fragments of memory, other people's processes


class Tried(NamedTuple):
    max_seconds: float
    fitted: bool
    peak: int  # bytes, everything included
    seconds: float  # of the slowest of the worst batches
    utterances: int  # in that batch


def find(config: dict, limit: int) -> Iterator[Tried]:
    """Sizes as they are tried; the last one that fitted is the answer. `limit` in bytes holds on a CPU, whose system would
    rather kill the process than refuse it memory."""
    start = Start(None, 0, 0, "")
    bundle, data = voice_and_data(config, start)
    device = device_of(config)
    settings = config["optim"]
    task = Task(
        bundle.model, config["loss"]["weights"], objects.make(settings["optimizer"]), objects.make(settings["schedule"])
    ).to(device)  # fmt: skip
    longest = max(utterance.duration for utterance in data.splits["train"])
    everything = sum(utterance.duration for utterance in data.splits["train"])

    def attempt(max_seconds: float) -> Tried:
        loading = replace(data.loading, max_seconds=max_seconds)
        sized = SpeechData(data.splits, data.dataset, loading, 0, symbols=data.symbols)
        return tried(task, config, list(sized.worst_batches().values()), max_seconds, limit)

    yield from search(attempt, longest, 2 * everything)


def search(attempt: Callable[[float], Tried], least: float, most: float) -> Iterator[Tried]:
    """Doubling, then halving the factor between what fits and what does not."""
    size, good, bad, before = 1.01 * least, 0.0, float("inf"), 0
    while size < most and bad == float("inf"):
        found = attempt(size)
        yield found
        if not found.fitted:
            bad = size
        elif found.utterances == before:
            return  # data.max_items binds: longer batches are the same batches
        else:
            good, before, size = size, found.utterances, 2 * size
    while good and CLOSE < bad / good < float("inf"):
        size = (good * bad) ** 0.5
        found = attempt(size)
        yield found
        good, bad = (size, bad) if found.fitted else (good, size)


def tried(task: Task, config: dict, batches: list[Batch], max_seconds: float, limit: int) -> Tried:
    device = task.device
    kept = copy.deepcopy(task.state_dict())
    optimizer = task.optimizer([{"params": list(task.parameters())}])
    resting, slowest, most = start_peak(device), 0.0, batches[0]

    def work() -> None:
        nonlocal slowest, most
        for batch in batches:
            began = stopwatch(device)
            step(
                task.train(),
                optimizer,
                [moved(batch, device)],
                autocast(config, device),
                config["trainer"]["gradient_clip_val"],
            )
            taken = stopwatch(device) - began
            if taken > slowest:
                slowest, most = taken, batch

    fitted = fits(work)
    optimizer.zero_grad(set_to_none=True)
    task.load_state_dict(kept)
    taken = max(peak(device), resting)
    return Tried(max_seconds, fitted and taken <= limit, taken, slowest, len(most.names))


def available(device: torch.device) -> int:
    """Bytes that a training may take here."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return int(0.8 * 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")))
