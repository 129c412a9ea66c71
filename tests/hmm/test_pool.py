"""A batch over threads: every utterance once, whoever takes it; nobody waits for who came too late; errors are told."""

import threading
import time

import numba
import numpy as np
import pytest
import torch

from hmmtts.hmm.backends.cpu.pool import WORTH_A_THREAD, over_batch
from hmmtts.hmm.backends.cpu.turns import turns


@numba.njit(nogil=True)
def count(queue, seen, moment):
    """Also who took it: more than one thread must have had the time to."""
    taken = 0
    for b in turns(queue):
        seen[b] += 1
        taken += 1
        for _ in range(moment):
            seen[-1] += 1
    return taken


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def large(utterances: int) -> list[int]:
    return [WORTH_A_THREAD] * utterances


@pytest.mark.usefixtures("three_threads")
def test_each_utterance_is_taken_once():
    takers = set()

    def kernel(queue: np.ndarray) -> None:
        if count(queue, seen, 1000):
            takers.add(threading.get_ident())

    for _ in range(50):
        seen = np.zeros(201, np.int64)
        over_batch(kernel, large(200))
        assert (seen[:-1] == 1).all()
    assert len(takers) > 1


@pytest.mark.usefixtures("three_threads")
def test_only_some_of_a_batch():
    seen = np.zeros(11, np.int64)
    over_batch(lambda queue: count(queue, seen, 0), large(10), [7, 2, 3])
    assert seen[:-1].nonzero()[0].tolist() == [2, 3, 7]
    over_batch(lambda queue: pytest.fail("nothing is to be done"), large(10), [])


@pytest.mark.usefixtures("three_threads")
def test_the_longest_come_first():
    queues = []
    over_batch(queues.append, [3, 5, 1, 5])
    assert queues[0][2:].tolist() == [1, 3, 0, 2]


@pytest.mark.usefixtures("three_threads")
def test_who_comes_too_late_is_not_waited_for():
    """All other threads are held up by somebody else's batch: the caller does its own alone."""
    seen, held, let_go = np.zeros(11, np.int64), [], threading.Event()
    caller = threading.get_ident()

    def hold(queue: np.ndarray) -> None:
        if threading.get_ident() == caller:
            count(queue, np.zeros(11, np.int64), 0)
        else:
            held.append(1)
            let_go.wait(60)

    over_batch(hold, large(10))
    deadline = time.monotonic() + 30
    while len(held) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        begun = time.monotonic()
        over_batch(lambda queue: count(queue, seen, 0), large(10))
        assert time.monotonic() - begun < 30
        assert (seen[:-1] == 1).all()
    finally:
        let_go.set()


@pytest.mark.usefixtures("three_threads")
def test_an_error_of_another_thread_is_the_callers():
    caller, taken = threading.get_ident(), threading.Event()

    def kernel(queue: np.ndarray) -> None:
        if threading.get_ident() == caller:
            taken.wait(30)
            return
        queue[0] += 1  # takes one and fails
        taken.set()
        raise MemoryError("no room for alpha")

    with pytest.raises(MemoryError, match="no room for alpha"):
        over_batch(kernel, large(4))


@pytest.mark.usefixtures("three_threads")
def test_threads_are_not_begun_anew():
    seen = np.zeros(11, np.int64)

    def ours() -> int:
        return sum(thread.name.startswith("hmmtts-") for thread in threading.enumerate())

    over_batch(lambda queue: count(queue, seen, 0), large(10))
    before = ours()
    for utterances in (2, 10, 3, 2, 10):
        over_batch(lambda queue: count(queue, seen, 0), large(utterances))
    assert ours() == before
