"""The latency controller against a made-up clock, where the best chunk is known, and against a real overload."""

import time
from collections.abc import Callable

import pytest

from hmmtts.hmm.streaming import pace
from hmmtts.hmm.streaming.pace import Arrived, Pace, Target


class Simulated:
    """Frames that come every `hop` seconds, and work that takes `call` + `frame` * frames * (1 + lag / 10) seconds."""

    def __init__(self, hop: float, frames: int, cost: Callable[[int, int], float]) -> None:
        self.hop, self.frames, self.cost = hop, frames, cost
        self.now, self.taken, self.late = 0.0, 0, []

    def clock(self) -> float:
        return self.now

    def take(self, wanted: int) -> Arrived:
        left = self.frames - self.taken
        if not left:
            return Arrived(0)
        full = (self.taken + min(wanted, left)) * self.hop  # when enough have come
        self.now = max(self.now, full)
        count = min(int(self.now / self.hop + 1e-9), self.frames) - self.taken
        self.oldest = self.taken * self.hop
        self.taken += count
        return Arrived(count, self.now - self.taken * self.hop)

    def work(self, frames: int, lag: int) -> None:
        self.now += self.cost(frames, lag)
        self.late.append(self.now - self.oldest)


def run(target: Target, frames: int, cost: Callable[[int, int], float]) -> tuple[list[Pace], Simulated]:
    live = Simulated(target.hop, frames, cost)
    return list(pace.keep_up(target, live.take, live.work, live.clock)), live


def test_light_work_is_answered_frame_by_frame():
    paces, _ = run(Target(0.01, 0.05, most=30), 500, lambda frames, lag: 0.001)
    assert (paces[-1].chunk, paces[-1].lag, paces[-1].misses) == (1, 30, 0)
    assert paces[-1].chunks == 500
    assert paces[-1].worst == pytest.approx(0.011)


def test_dear_calls_are_met_by_larger_chunks():
    """15 ms a call, whatever it holds: frame by frame every answer is later than the one before."""
    target = Target(0.01, 0.1, most=30)
    paces, live = run(target, 2000, lambda frames, lag: 0.015)
    assert paces[-1].lag == 30
    assert 2 < paces[-1].chunk <= target.longest
    assert paces[-1].misses == 0
    assert max(live.late[10:]) <= target.latency


def test_dear_frames_are_met_by_a_shorter_lag():
    target = Target(0.01, 0.1, most=32, least=2)
    paces, live = run(target, 3000, lambda frames, lag: 0.001 * frames * lag)
    assert paces[-1].lag in (4, 8)
    settled = [late > target.latency for late in live.late[len(live.late) // 3 :]]
    assert sum(settled) == 0


def test_misses_are_counted_one_by_one():
    """What no chunk and no lag can mend: the counter is the number of answers that were late."""
    target = Target(0.01, 0.05, most=4, least=4)
    paces, live = run(target, 400, lambda frames, lag: 0.02 * frames)
    assert paces[-1].misses == sum(late > target.latency + 1e-12 for late in live.late) > 0
    assert paces[-1].worst == pytest.approx(max(live.late))
    assert paces[-1].chunks == len(live.late)
    assert paces[-1].lag == 4


def test_it_recovers_from_a_crowded_second():
    """Between frames 500 and 700 everything takes ten times as long; afterwards all is as before, the lag too."""
    live: Simulated

    def cost(frames: int, lag: int) -> float:
        return (0.012 if 500 <= live.taken < 700 else 0.0012) * (1 + lag * frames / 30)

    target = Target(0.01, 0.1, most=20, least=0)
    live = Simulated(0.01, 3000, cost)
    paces = list(pace.keep_up(target, live.take, live.work, live.clock))
    assert max(p.chunk for p in paces) > 1
    assert paces[-1].lag == 20
    assert paces[-1].chunk <= 2
    assert max(live.late[-200:]) < target.latency


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Target(0.0, 0.1, 1), "hop must be more than 0, got 0"),
        (Target(0.01, 0.01, 1), "latency must be more than hop, 0.01 s, got 0.01"),
        (Target(0.01, 0.1, 1, 2), "least must lie between 0 and most, 1, got 2"),
    ],
)
def test_targets_that_cannot_be(target, message):
    with pytest.raises(ValueError, match=message):
        pace.begin(target)


def test_a_real_overload():
    """2 ms frames and calls of 5 ms of real work, so that single frames cannot keep up: larger chunks do, on a real clock."""
    hop, frames = 0.002, 600
    taken, start = 0, time.perf_counter()

    def take(wanted: int) -> Arrived:
        nonlocal taken
        left = frames - taken
        if not left:
            return Arrived(0)
        due = start + (taken + min(wanted, left)) * hop
        time.sleep(max(0.0, due - time.perf_counter()))
        now = time.perf_counter()
        count = min(frames, int((now - start) / hop)) - taken
        taken += max(count, 1)
        return Arrived(max(count, 1), max(0.0, now - start - taken * hop))

    def work(frames: int, lag: int) -> None:
        end = time.perf_counter() + 0.005
        while time.perf_counter() < end:
            pass

    paces = list(pace.keep_up(Target(hop, 0.2, most=10), take, work, time.perf_counter))
    assert paces[-1].chunk >= 3
    assert sum(1 for _ in paces) < frames / 2
    assert paces[-1].misses < len(paces) / 2  # on a machine that others use a few may be
