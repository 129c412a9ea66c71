"""Works to measure: what each is called, and which of them are wanted."""

from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from typing import NamedTuple

from hmmtts.bench.record import Record


class Work(NamedTuple):
    name: str
    measure: Callable[[], Iterable[Record]]


def chosen(works: list[Work], patterns: list[str], option: str) -> list[Work]:
    """Those whose name begins with one of the patterns; all, if there is none."""
    wanted = [
        work
        for work in works
        if not patterns or any(fnmatch(work.name, f"{pattern}*") for pattern in patterns)
    ]
    if not wanted:
        raise ValueError(
            f"{option}: nothing begins with {', '.join(patterns)}; there are {', '.join(work.name for work in works)}"
        )
    return wanted
