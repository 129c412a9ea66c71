"""Best paths of streams, decided as soon as all that are alive agree, or when more than `lag` frames are undecided.

The oldest state that a path still holds is its ancestor. Where all living paths share it, what is common to them is
written; where the lag forces a decision, the best path decides and the others that come from elsewhere die.
"""

import numpy as np

from hmmtts.hmm.backends.cpu import doubles, recursion, rows
from hmmtts.hmm.backends.cpu.compile import inner, kernel
from hmmtts.hmm.backends.cpu.turns import turns

NONE = recursion.NONE


@kernel
def decode(streams, laws, sound, lag, old_before, new, path, emitted, status):
    width, longest = new.log_delta.shape[1], path.shape[1]
    before, best, root = np.empty((longest, width), np.int16), np.empty(width), np.zeros(width, np.int16)
    marks = np.zeros((2, width), np.bool_)
    for b in turns(streams):
        S, scores = laws.states[b], laws.scores[0 if laws.dense else b]
        delta, ancestor = new.log_delta[b], new.oldest[b]
        first, last = 0, new.held[b]  # held rows: first to last
        doubles.copy_rows(old_before[b], 0, last, before)
        for t in range(sound.frames[b] + 1):
            while last > first:
                if not _agree(delta, ancestor, S):
                    if last - first <= lag:
                        break
                    _drop_others(delta, ancestor, S)
                    new.forced[b] += 1
                first = _commit(delta, before, first, last, marks, path[b], S)
                _restart(ancestor, root, before, first, last, S)
            if t == sound.frames[b]:
                break
            x = sound.log_obs[b, t]
            if not rows.finite(x, S):
                status[b] = 1
                break
            if sound.heard[b] + t > 0:
                recursion.best_into(delta, scores, laws.dense, best, before[last], S)
            else:
                doubles.copy(laws.start[b], best)
            doubles.add(best, x, best, S)
            new.score[b] += _lower(best, delta, S)
            if last > first:
                _go_on(ancestor, root, before[last], S)
            else:
                _begin(ancestor, S)
            last += 1
        if status[b] != 0:
            continue
        if sound.ending[b]:
            doubles.add(delta, laws.end[b], best, S)
            n = recursion.best_of(best, S)
            new.score[b] += best[n]
            if best[n] > NONE:
                _trace(before, first, last, n, path[b])
            first = last
        emitted[b], new.held[b] = first, last - first
        doubles.copy_rows(before, first, last, new.before[b])


@inner
def _lower(best, delta, S):
    """To 0 at the best; returns what was taken out."""
    largest = doubles.most(best, S)
    delta[:] = NONE
    if largest > NONE:
        doubles.add_number(best, -largest, delta, S)
    return largest


@inner
def _begin(ancestor, S):
    for n in range(S):
        ancestor[n] = n


@inner
def _go_on(ancestor, root, before, S):
    """The ancestors one frame on."""
    for n in range(S):
        root[n] = ancestor[before[n]]
    doubles.copy(root, ancestor)


@inner
def _drop_others(delta, ancestor, S):
    """The best path decides: those that come from another state than its oldest die."""
    decided = ancestor[recursion.best_of(delta, S)]
    for n in range(S):
        delta[n] = delta[n] if ancestor[n] == decided else NONE


@inner
def _agree(delta, ancestor, S):
    """Whether all paths that are alive share the oldest held state; also where none is alive."""
    shared = -1
    for n in range(S):
        if delta[n] > NONE:
            if shared >= 0 and ancestor[n] != shared:
                return False
            shared = ancestor[n]
    return True


@inner
def _commit(delta, before, first, last, marks, path, S):
    """Writes what all living paths share, and returns the first row that they do not."""
    alive, earlier = marks[0], marks[1]
    count = 0
    for n in range(S):
        alive[n] = delta[n] > NONE
        count += alive[n]
    if count == 0:
        return last
    r = last - 1
    while count > 1:
        count = 0
        for n in range(S):
            earlier[n] = False
        for n in range(S):
            if alive[n]:
                count += not earlier[before[r, n]]
                earlier[before[r, n]] = True
        alive, earlier = earlier, alive
        r -= 1
    for n in range(S):
        if alive[n]:
            _trace(before, first, r + 1, n, path)
    return r + 1


@inner
def _restart(ancestor, root, before, first, last, S):
    """The ancestors at the row that is now the oldest."""
    _begin(ancestor, S)
    for r in range(first + 1, last):
        _go_on(ancestor, root, before[r], S)


@inner
def _trace(before, first, last, n, path):
    for r in range(last - 1, first - 1, -1):
        path[r] = n
        n = np.int64(before[r, n])
