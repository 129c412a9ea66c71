"""Times that can be compared on a machine that others use too: contenders in turn, many rounds, the minimum."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import torch

FEWEST_ROUNDS = 5
# In one turn: the first calls find in the caches, and in the clock of the core, what the contender before has left there.
CALLS, MILLISECONDS = 3, 5.0


class Times(NamedTuple):
    """Milliseconds, each the minimum of all rounds.

    CPU time is the honest measure of one thread on a busy machine. It misses what a library does on threads of its
    own, so such a library is compared by wall time, with ours by wall time too; `alone` is the wall time without what
    the process's threads waited for a core, which they would not do on an idle machine. It holds for threads that
    work one after another.
    """

    cpu: float
    wall: float
    alone: float


def interleave(
    calls: Mapping[str, Callable[[], object]],
    seconds: float,
    rounds: int,
    alone: bool = False,
    turn: float = MILLISECONDS,
) -> dict[str, Times]:
    """Call each a few times in turn, `rounds` times or until `seconds` are over; what takes long is called less.

    Without `alone` that time is the wall time: to ask for what threads waited takes as long as a short call, and leaves it
    cold caches.
    """
    samples: dict[str, list[Times]] = {name: [] for name in calls}
    start = time.perf_counter()
    with _no_collection():
        for i in range(rounds):
            if i >= FEWEST_ROUNDS and time.perf_counter() - start > seconds:
                break
            for name, call in calls.items():
                slow = bool(samples[name]) and samples[name][0].wall > 1e3 * seconds / rounds
                if slow and i >= FEWEST_ROUNDS:
                    continue
                samples[name] += [_sample(call, alone)] if slow else _turn(call, alone, turn)
    return {
        name: Times(*(min(column) for column in zip(*taken, strict=True))) for name, taken in samples.items()
    }


def _turn(call: Callable[[], object], alone: bool, milliseconds: float) -> list[Times]:
    """At least so many calls and so many milliseconds, whoever's turn it is."""
    samples: list[Times] = []
    while len(samples) < CALLS or sum(sample.wall for sample in samples) < milliseconds:
        samples.append(_sample(call, alone))
    return samples


def _sample(call: Callable[[], object], alone: bool) -> Times:
    waited = _waits() if alone else {}
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    cpu, wall = 1e3 * (time.process_time() - cpu), 1e3 * (time.perf_counter() - wall)
    waits = sum(wait - waited.get(thread, 0.0) for thread, wait in _waits().items()) if alone else 0.0
    return Times(cpu, wall, max(cpu, wall - waits))


def _waits() -> dict[str, float]:
    """Milliseconds that each thread of this process was ready to run and had no core; only Linux tells."""
    waits = {}
    for file in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError):  # the thread ended
            waits[file.parent.name] = 1e-6 * int(file.read_text(encoding="ascii").split()[1])
    return waits


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _no_collection() -> Iterator[None]:
    """As timeit does: whoever comes next would pay for the garbage of all."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
