"""`python -m hmmtts.training.rank`: one process of a training over several, as hmmtts.training.launch starts it."""

import ctypes
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from hmmtts.training.console import expect_advice
from hmmtts.training.faults import Interrupted, exit_code


def main() -> None:
    from hmmtts.training.run import run  # heavy

    serve(run)


def serve(train: Callable[[dict], object]) -> None:
    """Train as the job says, and tell the watcher how it ended."""
    end_with_parent()
    job = json.loads((Path(os.environ["HMMTTS_RANKS"]) / "job.json").read_text())
    sys.argv[:] = job["argv"]  # a run names the command that resumes it
    if os.environ["RANK"] != "0":
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        expect_advice()
    try:
        train(job["config"])
    except BaseException as error:
        report(error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code(error))  # nothing that waits for the other ranks may run now


def end_with_parent() -> None:
    """Linux: the kernel ends this process when the one that watches it is gone, however that ended."""
    if sys.platform == "linux":
        parent, death_signal = os.getppid(), 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(death_signal, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def report(error: BaseException) -> None:
    """In the form of torch's elastic launcher, so that torchrun shows it too. Foreseen ends need no traceback."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not path or Path(path).exists():
        return
    code = exit_code(error)
    whole = "" if code != 1 else "".join(traceback.format_exception(error))
    message = {
        "message": str(error) if code != 1 else f"{type(error).__name__}: {error}",
        "errorCode": code,
        "signal": error.signal if isinstance(error, Interrupted) else 0,
        "when": time.time(),
        "traceback": whole,
        "extraInfo": {"py_callstack": whole or str(error), "timestamp": str(int(time.time()))},
    }
    Path(path).write_text(json.dumps({"message": message}))


if __name__ == "__main__":
    main()
