"""What the measurements of the neural HMM share: its sizes, and a process of its own for each. b t n as everywhere."""

import multiprocessing
from collections.abc import Callable
from typing import NamedTuple

BINS = 80


class Work(NamedTuple):
    b: int
    t: int
    n: int
    memory: int
    hidden: int
    cell: int
    prenet: int

    @property
    def name(self) -> str:
        return f"b{self.b}_t{self.t}_n{self.n}"


PUBLISHED = Work(8, 600, 200, 1024, 1024, 512, 256)
TINY = Work(2, 40, 12, 16, 16, 8, 8)


def apart(call: Callable, *arguments: object):
    """In a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(call, arguments)
