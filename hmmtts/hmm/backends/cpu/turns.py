"""The utterances of a batch in turns: each is for the thread that asks first, so that none waits for another.

A queue is an array of their numbers, and before them how many are taken and how many of these are finished.
"""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from hmmtts.hmm.backends.cpu.compile import compiled_once, glance, inner, kernel

TAKEN, FINISHED, FIRST = 0, 1, 2
PATIENCE = 100_000  # looks, some 50 microseconds: to be woken takes about as long


@glance
def queue_of(cells, utterances):
    """Of these utterances (None: all) those of most cells first; and how many cells they have together."""
    chosen = np.arange(len(cells)) if utterances is None else utterances
    work = cells[chosen]
    queue = np.zeros(FIRST + len(chosen), np.int64)
    queue[FIRST:] = chosen[np.argsort(-work, kind="mergesort")]
    return queue, work.sum()


@inner
def turns(queue):
    turn = FIRST + _add_one(queue, TAKEN)
    while turn < len(queue):
        yield queue[turn]
        _add_one(queue, FINISHED)
        turn = FIRST + _add_one(queue, TAKEN)


def all_finished(queue: np.ndarray) -> bool:
    """Whether all are, after a moment for those who are still at work."""
    make_ready()
    return _finished(queue) or _finished_soon(queue)


@compiled_once
def make_ready() -> None:
    none = np.empty(0, np.int64)
    queue_of(none, none)
    queue, _ = queue_of(none, None)
    _finished(queue)
    _finished_soon(queue)


@glance
def _finished(queue):
    return look(queue, FINISHED) == len(queue) - FIRST


@kernel
def _finished_soon(queue):
    for _ in range(PATIENCE):
        if _finished(queue):
            return True
    return False


@intrinsic
def _add_one(context, queue, i):
    """Returns what number i was before. No other thread gets the same."""

    def generate(context, builder, signature, arguments):
        cell = _cell(context, builder, signature, arguments)
        return builder.atomic_rmw("add", cell, ir.Constant(ir.IntType(64), 1), "acq_rel")

    return types.int64(queue, i), generate


@intrinsic
def look(context, queue, i):
    """Number i, as other threads left it."""

    def generate(context, builder, signature, arguments):
        return builder.load_atomic(_cell(context, builder, signature, arguments), "acquire", 8)

    return types.int64(queue, i), generate


def _cell(context, builder, signature, arguments):
    array = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0])
    return builder.gep(array.data, [context.cast(builder, arguments[1], signature.args[1], types.int64)])
