"""Work in processes that crash and hang: everything else still gets done."""

import os
import signal
import time
from pathlib import Path

import pytest

from hmmtts.data.guard import Casualty, guarded


def fragile(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 5:
        time.sleep(60)
    if number == 7:
        raise RuntimeError("a fault of our own")
    return number * number


def test_a_crash_and_a_hang_cost_one_item_each():
    start = time.monotonic()
    seen = dict(guarded(fragile, range(10), processes=2, patience=2.0))
    assert time.monotonic() - start < 15.0
    assert {number: result for number, result in seen.items() if number not in (3, 5, 7)} == {
        number: number * number for number in (0, 1, 2, 4, 6, 8, 9)
    }
    assert seen[3] == Casualty(f"the decoder crashed (exit status {-signal.SIGSEGV})")
    assert seen[5] == Casualty("no result in 2 s")
    assert isinstance(seen[7], Casualty)


def test_no_process_is_left_behind():
    work = guarded(pid, range(100), processes=2)
    _, process = next(work)
    work.close()
    assert not Path(f"/proc/{process}").exists()


def pid(_: int) -> int:
    return os.getpid()


def test_items_are_drawn_as_they_are_needed():
    drawn = []

    def items():
        for number in range(100):
            drawn.append(number)
            yield number

    work = guarded(abs, items(), processes=2)
    next(work)
    assert len(drawn) <= 4
    work.close()


def test_no_processes_means_here():
    assert list(guarded(pid, [1], processes=0)) == [(1, os.getpid())]
    with pytest.raises(RuntimeError, match="a fault of our own"):
        list(guarded(fragile, [7], processes=0))
