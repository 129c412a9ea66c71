"""What a process that loads batches does with signals: nothing, since the training process decides."""

import signal
from types import FrameType

MEANT_FOR_THE_RUN = (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


def leave_signals_to_the_run(_: int) -> None:
    """A terminal and a scheduler signal every process of a job. A worker that died of it would take the batch with it,
    and the run would end with a lost worker in place of a checkpoint.

    One SIGTERM may be such a signal; the second ends the worker, so that the run can still end one that is stuck. A
    worker whose run has died ends by itself: torch looks for it every few seconds.
    """
    for number in MEANT_FOR_THE_RUN:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _next_one_ends)


def _next_one_ends(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
