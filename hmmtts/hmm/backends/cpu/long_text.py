"""The best CTC path of hours of audio against a long text, in memory that grows with the text alone.

Scores are kept at the start of every BLOCK frames. The path is then followed from the end, block by block, with the
scores of a block computed once more: as a path moves at most two states a frame, only few states of it are needed.
Chains are those of hmmtts.hmm.ctc without their start and end.
"""

import numpy as np

from hmmtts.hmm.backends.cpu.compile import compiled_once, kernel, row

BLOCK = 1024
PAD = 2  # empty states before the first
NEVER = -np.inf


@kernel
def best_path(log_probs, classes, skips, path):
    """log_probs [t v], the class and the score (0 or -inf) of the skip into each state [n]; path [t]. Its score."""
    T, N = len(log_probs), len(classes)
    blocks = -(-T // BLOCK)
    kept = np.full((blocks, N + PAD), NEVER)  # at the last frame of every block
    scores = np.full((2, N + PAD), NEVER)
    old, new = scores[0], scores[1]
    for n in range(min(2, N)):
        old[n + PAD] = log_probs[0, classes[n]]
    for t in range(1, T):
        _step(old, new[PAD:], log_probs[t], classes, skips)
        old, new = new, old
        if (t + 1) % BLOCK == 0:
            kept[t // BLOCK] = old
    kept[blocks - 1] = old
    n = N - 1 if N < 2 or old[N + 1] > old[N] else N - 2
    total = old[n + PAD]
    if total == NEVER:
        path[:] = -1
        return total
    pointers = np.zeros((BLOCK, 2 * BLOCK + 1), np.uint8)
    for block in range(blocks - 1, -1, -1):
        begin, end = block * BLOCK, min(T, (block + 1) * BLOCK)
        low = max(0, n - 2 * (end - begin))
        high = n + 1
        if block == 0:
            scores[0] = NEVER
            for m in range(min(2, N)):
                scores[0, m + PAD] = log_probs[0, classes[m]]
        else:
            scores[0] = kept[block - 1]
        scores[1] = NEVER
        old, new = scores[0], scores[1]
        for t in range(max(1, begin), end):
            _step_back(
                old[low:],
                new[low + PAD :],
                log_probs[t],
                classes[low:high],
                skips[low:high],
                pointers[t - begin],
            )
            old, new = new, old
            if low > 0:  # no path to the end is this low
                old[low : low + PAD] = NEVER
        for t in range(end - 1, begin - 1, -1):
            path[t] = n
            if t > 0:
                n -= np.int64(pointers[t - begin, n - low])
    return total


@row
def _step(old, new, frame, classes, skips):
    for n in range(len(classes)):
        best = max(old[n + 2], old[n + 1])
        new[n] = max(best, old[n] + skips[n]) + frame[classes[n]]


@row
def _step_back(old, new, frame, classes, skips, pointers):
    """Of equal scores the lower state is taken."""
    for n in range(len(classes)):
        best, back = old[n] + skips[n], np.uint8(2)
        moved, stayed = old[n + 1], old[n + 2]
        back = np.uint8(1) if moved > best else back
        best = moved if moved > best else best
        back = np.uint8(0) if stayed > best else back
        best = stayed if stayed > best else best
        new[n] = best + frame[classes[n]]
        pointers[n] = back


@compiled_once
def make_ready() -> None:
    """Call the kernel once, on the smallest input."""
    best_path(np.zeros((2, 2), np.float32), np.zeros(1, np.int64), np.zeros(1), np.zeros(2, np.int64))
