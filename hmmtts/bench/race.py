"""Several ways to do one piece of work, timed in turn, and their answers compared with float64."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from hmmtts.bench.record import Record
from hmmtts.bench.timing import interleave


class Run(NamedTuple):
    """A call to be timed, and how to read its answer for comparison (None: it computes something else)."""

    call: Callable[[], Any]
    read: Callable[[Any], Any] | None


class Contender(NamedTuple):
    """`prepare` converts the problem to what the library takes, which is not timed; it raises ImportError if absent."""

    name: str
    prepare: Callable[[Any], Run]
    bar: float | None = None
    clock: Literal["cpu", "wall", "alone"] = "cpu"


class Effort(NamedTuple):
    """How long to measure one piece of work."""

    seconds: float
    rounds: int


def race(
    work: str,
    problem: Any,
    contenders: list[Contender],
    error_of: Callable[[Any], float],
    effort: Effort,
) -> list[Record]:
    """The first contender is `ours`, to which the others are compared; it alone must not fail."""
    calls: dict[str, Callable[[], Any]] = {}
    errors: dict[str, float | None] = {}
    absent: dict[str, str] = {}
    for contender in contenders:
        try:
            run = contender.prepare(problem)
            answer = run.call()  # also compiles
            errors[contender.name] = error_of(run.read(answer)) if run.read else None
            calls[contender.name] = run.call
        except Exception as error:
            # Whatever a peer breaks on is its own affair: it is reported, and the others run.
            if contender.name == "ours":
                raise
            kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
            absent[contender.name] = f"{kind}{error}".splitlines()[0][:120]
    alone = any(contender.clock == "alone" for contender in contenders)
    times = interleave(calls, effort.seconds, effort.rounds, alone)
    records = []
    for contender in contenders:
        name, unit = contender.name, "ms cpu" if contender.clock == "cpu" else "ms wall"
        if name in absent:
            records.append(Record(work, name, None, unit, None, None, contender.bar, absent[name]))
            continue
        value, ours = getattr(times[name], contender.clock), getattr(times["ours"], contender.clock)
        records.append(Record(work, name, value, unit, value / ours, errors[name], contender.bar))
    return records
