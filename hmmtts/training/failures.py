"""Why a training over several processes ended: which rank failed first, and how."""

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hmmtts.training.faults import Interrupted, RankFailure
from hmmtts.training.signals import exit_code_of


class Report(NamedTuple):
    """What a rank wrote of its own end."""

    when: float  # seconds since the epoch
    message: str
    traceback: str  # empty where the message says it all
    exit_code: int
    signal: int  # that it was told to leave by; 0: none


class Rank:
    """A process that was started, and what is known of it."""

    def __init__(
        self, number: int, process: subprocess.Popen, report: Path, pulse: Path, output: Path | None
    ) -> None:
        self.number, self.process, self.output = number, process, output
        self._report, self._pulse = report, pulse
        self.code: int | None = None
        self.told = 0  # the last signal that we passed on
        self.killed = False  # by us
        self.state = ""
        self.silence = 0.0  # seconds since its last pulse, when it was looked at

    @property
    def running(self) -> bool:
        return self.code is None

    def poll(self) -> int | None:
        if self.code is None:
            self.code = self.process.poll()
        return self.code

    def tell(self, number: int) -> None:
        self.told = number
        if self.poll() is None:
            self.process.send_signal(number)

    def look(self) -> None:
        self.state = state_of(self.process.pid) if self.running else ""
        with suppress(OSError):
            self.silence = time.time() - self._pulse.stat().st_mtime

    def end(self) -> None:
        """With all that it started."""
        self.killed = self.poll() is None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def doing(self) -> str:
        """Its last pulse: `step 7`."""
        with suppress(OSError):
            return self._pulse.read_text() or "the start"
        return "the start"

    def report(self) -> Report | None:
        with suppress(OSError, ValueError, KeyError):
            message = json.loads(self._report.read_text())["message"]
            return Report(
                message["when"],
                message["message"],
                message["traceback"],
                message["errorCode"],
                message["signal"],
            )
        return None


def state_of(pid: int) -> str:
    """T is stopped, R running, S waiting (Linux; elsewhere unknown)."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def cause(ranks: list[Rank], timeout: float) -> BaseException:
    """The first failure, as what the whole run raises."""
    reports = {one.number: report for one in ranks if (report := one.report())}
    leaving = [report for report in reports.values() if report.exit_code in (130, 143)]
    if leaving:
        return Interrupted(leaving[0].message, leaving[0].exit_code, leaving[0].signal)
    died = [one for one in ranks if one.code is not None and one.code < 0 and one.number not in reports]
    if died and all(one.told == -one.code for one in died):  # type: ignore[operator]
        number = signal.Signals(died[0].told)
        return Interrupted(
            f"received {number.name} before the training began: nothing to save", exit_code_of(number), number
        )
    killed = [one for one in died if one.code != -signal.SIGABRT]  # NCCL aborts who has waited long enough
    if killed:
        return RankFailure(_of_dead(killed[0]), 1)
    stuck = [one for one in ranks if one.running and (one.state == "T" or one.silence > 0.8 * timeout)]
    if stuck:
        return RankFailure(_of_stuck(stuck[0], timeout), 1)
    if died:
        return RankFailure(_of_dead(died[0]), 1)
    if reports:
        first = min(reports, key=lambda number: reports[number].when)
        agreed = sum(report.message == reports[first].message for report in reports.values()) > 1
        words = reports[first].message if agreed else _of_report(first, reports[first])
        return RankFailure(words, reports[first].exit_code)
    failed = next(one for one in ranks if one.code)
    return RankFailure(
        f"rank {failed.number} failed first, at {failed.doing}: exit code {failed.code}{_log(failed)}", 1
    )


def _of_stuck(one: Rank, timeout: float) -> str:
    how = "is stopped (SIGSTOP)" if one.state == "T" else "hangs"
    return (
        f"rank {one.number} {how} at {one.doing}: the others waited {timeout:g} s for it (trainer.strategy.timeout), "
        f"then all were ended{_log(one)}"
    )


def _of_dead(one: Rank) -> str:
    number = signal.Signals(-one.code)  # type: ignore[operator]
    known = {
        signal.SIGKILL: "; if nobody killed it, the kernel did because memory ran out (see dmesg): lower data.max_seconds",
        signal.SIGABRT: "; a library gave up, its last words are in the output",
        signal.SIGSEGV: "; a library crashed",
    }
    return f"rank {one.number} failed first, at {one.doing}: ended by {number.name}{known.get(number, '')}{_log(one)}"


def _of_report(number: int, report: Report) -> str:
    if not report.traceback:
        return report.message if number == 0 else f"rank {number}: {report.message}"
    return f"rank {number} failed first: {report.message}\n{report.traceback.rstrip()}"


def _log(one: Rank) -> str:
    return f"\nits output: {one.output}" if one.output else ""
