"""A batch over a few Python threads: the kernels release the interpreter's lock, each utterance is one thread's.

numba's own threads abort forked workers and ignore OMP_NUM_THREADS; these follow torch.get_num_threads(), which is
one in a DataLoader worker, and start anew after a fork.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch

HANDING_OVER = 50_000  # cells that the caller does before another thread has begun; below, none is worth it


def over_batch(kernel: Callable[[np.ndarray], None], cells: np.ndarray) -> None:
    """Call `kernel(utterances)` for shares of the batch, balanced by the cells of each utterance."""
    threads = torch.get_num_threads()
    if threads > 1:
        threads = min(threads, len(cells), int(cells.sum()) // HANDING_OVER)
    if threads <= 1:
        kernel(np.arange(len(cells)))
        return
    shares: list[list[int]] = [[] for _ in range(threads)]
    load = [0] + [HANDING_OVER] * (
        threads - 1
    )  # so the caller is not the first to end, and need not be woken
    for utterance in np.argsort(-cells, kind="stable"):
        lightest = load.index(min(load))
        shares[lightest].append(int(utterance))
        load[lightest] += int(cells[utterance])
    others = [_pool(threads - 1, os.getpid()).submit(kernel, np.array(share)) for share in shares[1:]]
    kernel(np.array(shares[0]))
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """The process is part of the key: threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix="hmmtts")
