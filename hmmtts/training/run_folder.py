"""The run folder runs/RECIPE/NAME: one live run at a time, found again by name, complete when it is finished.

config.yaml  train.log  metrics.json  report.html  checkpoints/{best,last,step=N}.ckpt  events.out.tfevents.*
"""

import fcntl
import json
import logging
import math
import os
import re
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hmmtts.build import checkpoint
from hmmtts.build.checkpoint import CheckpointError
from hmmtts.training.faults import ConfigError, EnvironmentFault

log = logging.getLogger(__name__)
RESUME = ("auto", "must", "never")
AHEAD = 600.0  # seconds by which the clocks of two machines may differ


class Start(NamedTuple):
    """Where a run begins, and the sentence that says so."""

    checkpoint: Path | None
    step: int  # of the optimizer
    batches: int  # trained on
    message: str
    drawn: int = 0  # the position in the data: steps of so many
    ranks: int = 0  # 0: not known


class RunFolder:
    """Use as a context manager: inside, no other live process may use the folder."""

    def __init__(self, path: Path):
        self.path = path.resolve()
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.json"
        self._lock: int | None = None
        self._abandoned_by = ""  # who held the folder and ended without leaving it

    def __enter__(self) -> "RunFolder":
        """The lock is the kernel's, so that it ends with its process, however that dies; the text is for people."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = _read(lock)
            # The winner of a race may not have written yet: then this is of an owner that has died, or nothing.
            owner = text if _lives(text) else "another process, not known yet which"
            os.close(lock)
            raise EnvironmentFault(f"{self.path} is in use by {owner}; choose another run.name=...") from None
        except OSError as error:  # some network file systems have no locks
            log.warning("%s cannot be locked (%s): see to it that no other run uses it", self.path, error)
        self._abandoned_by = _read(lock)
        _write(lock, f"pid {os.getpid()} on host {socket.gethostname()} since {time.strftime('%F %T')}")
        self._lock = lock
        for leftover in self.checkpoints.glob(".tmp-*"):  # of a process that was killed while it saved
            leftover.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            _write(self._lock, "")
            os.close(self._lock)
            self._lock = None

    def finished(self) -> dict | None:
        """metrics.json is written last: a folder that has it is complete."""
        return json.loads(self.metrics.read_text(encoding="utf-8")) if self.metrics.is_file() else None

    def start(self, resume: str) -> Start:
        """Choose the checkpoint to go on from, newest first, and never begin again without saying so."""
        found = sorted(self.checkpoints.glob("*.ckpt"))
        if resume == "never":
            if found:
                raise ConfigError(
                    f"resume=never, but {self.path} holds {len(found)} checkpoints: choose another run.name=... or "
                    "delete the folder"
                )
            return Start(None, 0, 0, "resume=never: starting at step 0")
        notes = []
        if self._abandoned_by:
            notes.append(f"taken over from {self._abandoned_by}, which was killed")
        path, rejected = checkpoint.newest(self.checkpoints)
        if path is None:
            if rejected:
                raise CheckpointError(
                    f"no checkpoint of {self.checkpoints} can be used: {'; '.join(rejected)}"
                )
            if resume == "must":
                raise CheckpointError(f"resume=must, but {self.checkpoints} holds no checkpoint")
            return Start(None, 0, 0, "; ".join([*notes, "no checkpoint: starting at step 0"]))
        notes += rejected
        notes += [
            f"{other.name} is dated {_date(other)}, in the future: a clock is wrong, the steps decide"
            for other in found
            if other.stat().st_mtime > time.time() + AHEAD
        ]
        header = checkpoint.header(path)
        notes.append(f"resumed at step {header['step']} from {path.name} (verified)")
        batches, ranks = header["batches"], header.get("ranks", 0)
        return Start(path, header["step"], batches, "; ".join(notes), header.get("drawn", batches), ranks)


def _read(lock: int) -> str:
    return os.pread(lock, 200, 0).decode(errors="replace").strip()


def _write(lock: int, text: str) -> None:
    os.truncate(lock, 0)
    with suppress(OSError):  # a full disk: the lock holds without its text
        os.pwrite(lock, text.encode(), 0)


def _lives(owner: str) -> bool:
    """Of another host nothing can be seen from here: it is believed."""
    known = re.match(r"pid (\d+) on host (\S+)", owner)
    if known is None or known[2] != socket.gethostname():
        return known is not None
    try:
        os.kill(int(known[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    return True


def _date(path: Path) -> str:
    return time.strftime("%F", time.localtime(path.stat().st_mtime))


def write_json(path: Path, content: dict) -> None:
    """NaN is not JSON: an undefined figure is null. Replaced whole, so that a reader never sees half of it."""
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
