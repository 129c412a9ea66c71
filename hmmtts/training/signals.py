"""Signals where no step is under way: while a run is prepared and while its voice is judged there is nothing to save.

callbacks/preemption.py takes the signals over for as long as the run trains.
"""

import signal
from types import FrameType

from hmmtts.training.faults import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT)


def exit_code_of(number: int) -> int:
    """130 for a person's Ctrl-C, 143 for whoever asks a job to make room, whichever signal that is."""
    return 130 if number == signal.SIGINT else 143


def leave_on_signals() -> None:
    """At once: features are cached one by one, and checkpoints are whole. Otherwise SIGUSR1 and SIGHUP would be 138 and
    129, which no scheduler takes for a preemption.
    """
    for number in SIGNALS:
        signal.signal(number, _leave)


def _leave(number: int, _: FrameType | None) -> None:
    code = exit_code_of(number)
    name = signal.Signals(number).name
    raise Interrupted(f"received {name} outside training: nothing is lost, exiting {code}", code, number)
