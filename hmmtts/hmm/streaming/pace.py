"""How large a chunk may be, and how long the lag, for answers to come in time. Pure bookkeeping: it reads no clock.

A frame waits until its chunk is full, until those before it are done, and until its own is: its latency. Small chunks wait
little and cost much, since every call has a price of its own; where frames come faster than they are done, latency grows
without end. So the chunk is as small as keeps up, and no larger than the target allows; only where no chunk keeps
up is the lag cut, which makes a frame cheaper and its answer less sure. What came too late is counted.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple


class Target(NamedTuple):
    """What is wanted. Frames come every `hop` seconds."""

    hop: float
    latency: float  # seconds from the first sound of a chunk to its answer
    most: int  # frames of lag wanted
    least: int = 0  # frames of lag that must stay
    share: float = 0.7  # of the time between chunks that work may take: below 1, so that a backlog shrinks
    patience: int = 20  # quiet chunks before something is tried that costs more

    @property
    def longest(self) -> int:
        """Frames that may be waited for: what filling a chunk and working on it, as long as that lasts, leave."""
        return max(1, int(self.latency / (self.hop * (1 + self.share))))


class Pace(NamedTuple):
    chunk: int  # frames to wait for
    lag: int
    quiet: int = 0  # chunks in a row that would have left time for something dearer
    chunks: int = 0
    misses: int = 0  # that were answered later than the target
    worst: float = 0.0  # seconds: the largest latency


class Arrived(NamedTuple):
    frames: int  # 0: the end
    waited: float = 0.0  # seconds since the last of them came


def keep_up(
    target: Target,
    take: Callable[[int], Arrived],
    work: Callable[[int, int], None],
    clock: Callable[[], float],
) -> Iterator[Pace]:
    """`take(n)` waits for n frames and tells how many there are by then; `work(frames, lag)` is then timed."""
    pace = begin(target)
    while (arrived := take(pace.chunk)).frames:
        began = clock()
        work(arrived.frames, pace.lag)
        pace = adapted(target, pace, arrived.frames, clock() - began, arrived.waited)
        yield pace


def begin(target: Target) -> Pace:
    """With the smallest chunk, and the lag wanted."""
    for name, value in (("hop", target.hop), ("latency", target.latency), ("patience", target.patience)):
        if value <= 0:
            raise ValueError(f"{name} must be more than 0, got {value}")
    if not 0 <= target.least <= target.most:
        raise ValueError(f"least must lie between 0 and most, {target.most}, got {target.least}")
    if target.latency <= target.hop:
        raise ValueError(
            f"latency must be more than hop, {target.hop} s, got {target.latency}: one frame must be waited for"
        )
    return Pace(1, target.most)


def adapted(target: Target, pace: Pace, frames: int, seconds: float, waited: float = 0.0) -> Pace:
    """After a chunk of so many frames took `seconds`; it had lain for `waited` seconds since its last frame came."""
    latency = frames * target.hop + waited + seconds
    pace = pace._replace(
        chunks=pace.chunks + 1,
        misses=pace.misses + (latency > target.latency),
        worst=max(pace.worst, latency),
    )
    load = seconds / (frames * target.hop)
    if load > target.share:
        return _cheaper(target, pace._replace(quiet=0))
    if load > target.share / 3:
        return pace._replace(quiet=0)
    if pace.quiet + 1 < target.patience:
        return pace._replace(quiet=pace.quiet + 1)
    return _dearer(target, pace._replace(quiet=0))


def _cheaper(target: Target, pace: Pace) -> Pace:
    """Larger chunks, and once they are as large as they may be, half the lag."""
    if pace.chunk < target.longest:
        return pace._replace(chunk=min(2 * pace.chunk, target.longest))
    return pace._replace(lag=max(pace.lag // 2, target.least))


def _dearer(target: Target, pace: Pace) -> Pace:
    """The lag back first, then smaller chunks."""
    if pace.lag < target.most:
        return pace._replace(lag=min(max(2 * pace.lag, 1), target.most))
    return pace._replace(chunk=max(1, pace.chunk // 2))
