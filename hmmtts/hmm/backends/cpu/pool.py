"""A batch over a few Python threads: the kernels release the interpreter's lock, each utterance is one thread's.

numba's own threads abort forked workers and ignore OMP_NUM_THREADS; these follow torch.get_num_threads(), which is
one in a DataLoader worker, and start anew after a fork. A batch is a millisecond, so what is done for it by one thread
alone is done in machine code, and a queue that takes microseconds does the work of an executor.
"""

import os
from collections.abc import Callable
from functools import lru_cache
from queue import SimpleQueue
from threading import Thread

import numpy as np
import torch

from hmmtts.hmm.backends.cpu.turns import FIRST, all_finished, make_ready, queue_of

Kernel = Callable[[np.ndarray], None]

WORTH_A_THREAD = 50_000  # cells that one does while another is called


def over_batch(kernel: Kernel, cells: np.ndarray, utterances: np.ndarray | None = None) -> None:
    """Call `kernel(queue)` on a few threads, who take the utterances in turns, those of most cells first."""
    make_ready()
    queue, work = queue_of(cells, utterances)
    if len(queue) == FIRST:
        return
    threads = min(torch.get_num_threads(), len(queue) - FIRST, work // WORTH_A_THREAD)
    if threads <= 1:
        kernel(queue)
        return
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    for tasks in _workers(threads - 1):
        tasks.put((kernel, queue, done))
    kernel(queue)
    while not all_finished(queue):  # who came too late to take any is not waited for
        if error := done.get():
            raise error


def _workers(count: int) -> list[SimpleQueue]:
    """As many as were ever asked for stay."""
    workers = _workers_of(os.getpid())
    while len(workers) < count:
        workers.append(SimpleQueue())
        Thread(target=_work, args=workers[-1:], name=f"hmmtts-{len(workers)}", daemon=True).start()
    return workers[:count]


@lru_cache(maxsize=1)
def _workers_of(process: int) -> list[SimpleQueue]:
    """Each process has its own: threads do not survive a fork."""
    return []


def _work(tasks: SimpleQueue) -> None:
    while True:
        kernel, queue, done = tasks.get()
        try:
            kernel(queue)
        except BaseException as error:  # the caller's to raise
            done.put(error)
        else:
            done.put(None)
        del kernel, queue, done  # else they hold the batch until the next
