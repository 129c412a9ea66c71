"""Call a function in processes that may crash or hang: what happens to one item never ends the work on the others."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Casualty(NamedTuple):
    """What stands in the place of a result when the process died or was given up."""

    reason: str


def guarded(
    function: Callable[[Item], Result], items: Iterable[Item], processes: int, patience: float = 60.0
) -> Iterator[tuple[Item, Result | Casualty]]:
    """Every item with its result, as they get done: at most `processes` are under way, the rest is not yet drawn.

    0 processes call the function here, unguarded. An item that takes longer than `patience` seconds is given up.
    """
    if processes == 0:
        yield from ((item, function(item)) for item in items)
        return
    queue = iter(items)
    idle: list[_Worker[Item, Result]] = []
    busy: list[_Worker[Item, Result]] = []
    try:
        while True:
            for item in _take(queue, processes - len(busy)):
                worker = idle.pop() if idle else _Worker(function)
                worker.begin(item)
                busy.append(worker)
            if not busy:
                return
            first = min(worker.began for worker in busy) + patience
            ready = wait([worker.pipe for worker in busy], max(0.0, first - time.monotonic()))
            for worker in [w for w in busy if w.pipe in ready or time.monotonic() - w.began > patience]:
                busy.remove(worker)
                item = worker.item
                result = worker.result() if worker.pipe in ready else Casualty(f"no result in {patience:g} s")
                if isinstance(result, Casualty):
                    worker.end()
                else:
                    idle.append(worker)
                yield item, result
    finally:
        for worker in [*idle, *busy]:
            worker.end()


def _take(queue: Iterator[Item], count: int) -> Iterator[Item]:
    for _, item in zip(range(count), queue, strict=False):
        yield item


class _Worker(Generic[Item, Result]):
    def __init__(self, function: Callable[[Item], Result]):
        # Spawned, not forked: a fork of a process with threads may inherit a lock that no one will ever release.
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(function, theirs), daemon=True)
        self.process.start()
        theirs.close()
        try:
            self.pipe.recv()  # it is ready: what importing takes is not charged to an item
        except EOFError as end:
            raise RuntimeError("a process for decoding does not start: its error stands above") from end

    def begin(self, item: Item) -> None:
        self.item = item
        self.began = time.monotonic()
        with suppress(BrokenPipeError):  # it died while idle; result() tells
            self.pipe.send(item)

    def result(self) -> Result | Casualty:
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join(1.0)
            return Casualty(f"the decoder crashed (exit status {self.process.exitcode})")

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(function: Callable[[Item], Result], pipe: Connection) -> None:
    pipe.send(None)
    # Decoders complain on stderr about every damaged file, across the progress bar; the finding says it better.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stderr__.fileno() if sys.__stderr__ else 2)
    while True:
        try:
            item = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        pipe.send(function(item))
