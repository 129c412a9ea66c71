"""The largest data.max_seconds that fits: real training steps on the worst batches of the corpus, larger and larger."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from hmmtts.batch import Batch
from hmmtts.build import objects
from hmmtts.machine import cgroup_limits
from hmmtts.training.data import SpeechData
from hmmtts.training.out_of_memory import fits
from hmmtts.training.run import voice_and_data
from hmmtts.training.run_folder import Start
from hmmtts.training.task import Task
from hmmtts.training.trial import autocast, device_of, moved, peak, start_peak, step, stopwatch

CLOSE = 1.1  # the answer lies within this factor of what does not fit
SPARE = 0.9  # of it is recommended: fragments of memory, other people's processes
ABOVE = 1.01  # times the longest utterance: the smallest batches there are
FREE = 0.8  # of a CPU's free memory may be taken


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

    attempt(ABOVE * longest)  # not counted: it compiles
    yield from search(attempt, longest, 2 * everything)


def search(attempt: Callable[[float], Tried], least: float, most: float) -> Iterator[Tried]:
    """Doubling, then halving the factor between what fits and what does not."""
    size, good, bad, before = ABOVE * least, 0.0, float("inf"), 0
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


def advice(tries: Sequence[Tried], now: float, most_items: int) -> str:
    """What was found, in sentences: what ends the growth, and which value to take."""
    good = max((found for found in tries if found.fitted), default=None)
    if good is None:
        raise ValueError(
            "not even the longest utterance alone fits: choose memory=checkpointing, a smaller model, or leave out what is "
            "long"
        )
    if not all(found.fitted for found in tries):
        # Never less than the longest utterance, which must fit into a batch.
        size = max(math.floor(SPARE * good.max_seconds), math.ceil(tries[0].max_seconds))
        said = f"data.max_seconds={size} fits on each device, with a tenth to spare."
    elif good.utterances == most_items:
        first = next(found for found in tries if found.utterances == most_items)
        said = (
            f"Everything fits: from data.max_seconds={first.max_seconds:.0f} on, data.max_items={most_items} keeps batches "
            "from growing."
        )
    else:
        said = f"Everything fits: no batch grows beyond data.max_seconds={good.max_seconds:.0f}."
    return (
        f"{said} This config has {now:g}. What fits is a bound: a larger batch is a steadier step, and fewer steps in the "
        "same time."
    )


def available(config: dict) -> int:
    """Bytes that one process of this training may take here."""
    if device_of(config).type == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    free = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    devices = config["trainer"]["devices"]
    return int(
        FREE * min(free, cgroup_limits().memory or free) / (devices if isinstance(devices, int) else 1)
    )
