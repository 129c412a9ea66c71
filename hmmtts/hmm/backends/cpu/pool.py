"""A batch over a few Python threads: the kernels release the interpreter's lock, each utterance is one thread's.

numba's own threads abort forked workers and ignore OMP_NUM_THREADS; these follow torch.get_num_threads(), which is
one in a DataLoader worker, and start anew after a fork. A batch is a millisecond, so a queue that takes microseconds
does the work of an executor.
"""

import os
from collections.abc import Callable
from functools import lru_cache
from queue import SimpleQueue
from threading import Thread

import numpy as np
import torch

Kernel = Callable[[np.ndarray], None]

HANDING_OVER = 50_000  # cells that the caller does before another thread has begun; below, none is worth it


def over_batch(kernel: Kernel, cells: np.ndarray) -> None:
    """Call `kernel(utterances)` for shares of the batch, balanced by the cells of each utterance."""
    threads = torch.get_num_threads()
    if threads > 1:
        threads = min(threads, len(cells), int(cells.sum()) // HANDING_OVER)
    if threads <= 1:
        kernel(np.arange(len(cells)))
        return
    own, *others = _shares(cells, threads)
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    for tasks, share in zip(_workers(threads - 1, os.getpid()), others, strict=False):
        tasks.put((kernel, share, done))
    kernel(own)
    errors = [done.get() for _ in others]
    for error in filter(None, errors):
        raise error


def _shares(cells: np.ndarray, threads: int) -> list[np.ndarray]:
    """The longest utterances first, each to whom has least; the caller, whose share is the first, takes more, perhaps all."""
    shares: list[list[int]] = [[] for _ in range(threads)]
    load, sizes = [0] + [HANDING_OVER] * (threads - 1), cells.tolist()
    for utterance in np.argsort(-cells, kind="stable").tolist():
        lightest = load.index(min(load))
        shares[lightest].append(utterance)
        load[lightest] += sizes[utterance]
    return [np.array(share) for share in shares if share]


@lru_cache(maxsize=1)
def _workers(count: int, process: int) -> list[SimpleQueue]:
    """The process is part of the key: threads do not survive a fork."""
    queues: list[SimpleQueue] = [SimpleQueue() for _ in range(count)]
    for number, tasks in enumerate(queues):
        Thread(target=_work, args=(tasks,), name=f"hmmtts-{number}", daemon=True).start()
    return queues


def _work(tasks: SimpleQueue) -> None:
    while True:
        kernel, share, done = tasks.get()
        try:
            kernel(share)
        except BaseException as error:  # the caller's to raise
            done.put(error)
        else:
            done.put(None)
        del kernel, share, done  # else they hold the batch until the next
