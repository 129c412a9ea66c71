"""A batch over threads: every utterance once, whoever takes it; nobody waits for who came too late; errors are told."""

import threading
import time

import numba
import numpy as np
import pytest
import torch

from hmmtts.hmm.backends.cpu.pool import WORTH_A_THREAD, over_batch
from hmmtts.hmm.backends.cpu.turns import TAKEN, look, turns

NOBODY = np.empty(0, np.int64)


@numba.njit(nogil=True)
def count(queue, seen, together=0, taker=NOBODY, me=0):
    """Nobody goes on before so many are taken: as many threads have begun then."""
    for b in turns(queue):
        seen[b] += 1
        if len(taker):
            taker[b] = me
        for _ in range(10_000_000_000):  # looks: some ten seconds
            if look(queue, TAKEN) >= together:
                break


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def large(utterances: int) -> np.ndarray:
    return np.full(utterances, WORTH_A_THREAD)


@pytest.mark.usefixtures("three_threads")
def test_each_utterance_is_taken_once():
    seen, taker = np.zeros((2, 200), np.int64)
    for repeat in range(50):
        over_batch(lambda queue: count(queue, seen, 3, taker, threading.get_ident()), large(200))
        assert (seen == 1 + repeat).all()
        assert len(set(taker.tolist())) == 3


@pytest.mark.usefixtures("three_threads")
def test_only_some_of_a_batch():
    seen = np.zeros(10, np.int64)
    over_batch(lambda queue: count(queue, seen), large(10), np.array([7, 2, 3]))
    assert seen.nonzero()[0].tolist() == [2, 3, 7]
    over_batch(lambda queue: pytest.fail("nothing is to be done"), large(10), np.array([], int))


@pytest.mark.usefixtures("three_threads")
def test_the_longest_come_first():
    queues = []
    over_batch(queues.append, np.array([3, 5, 1, 5]))
    assert queues[0][2:].tolist() == [1, 3, 0, 2]


@pytest.mark.usefixtures("three_threads")
def test_who_comes_too_late_is_not_waited_for():
    """All other threads are held up by somebody else's batch: the caller does its own alone."""
    seen, held, let_go = np.zeros(10, np.int64), [], threading.Event()
    caller = threading.get_ident()

    def hold(queue: np.ndarray) -> None:
        if threading.get_ident() == caller:
            count(queue, np.zeros(10, np.int64))
        else:
            held.append(1)
            let_go.wait(60)

    over_batch(hold, large(10))
    deadline = time.monotonic() + 30
    while len(held) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        begun = time.monotonic()
        over_batch(lambda queue: count(queue, seen), large(10))
        assert time.monotonic() - begun < 30
        assert (seen == 1).all()
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
    seen = np.zeros(10, np.int64)

    def ours() -> int:
        return sum(thread.name.startswith("hmmtts-") for thread in threading.enumerate())

    over_batch(lambda queue: count(queue, seen), large(10))
    before = ours()
    for utterances in (2, 10, 3, 2, 10):
        over_batch(lambda queue: count(queue, seen), large(utterances))
    assert ours() == before
