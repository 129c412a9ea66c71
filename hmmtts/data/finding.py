"""What a check says: one finding is one problem of one utterance or file, in plain words."""

from collections.abc import Iterable
from typing import NamedTuple

ERROR = "error"  # the utterance cannot be used as it is
WARNING = "warning"  # it can, and someone should look at it


class Finding(NamedTuple):
    """The fields of `hmmtts check --json`."""

    kind: str
    severity: str
    id: str | None  # of the utterance
    file: str | None
    line: int | None
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (self.id, place, self.message) if part)


class Problem(NamedTuple):
    """A finding before it is known whose it is."""

    kind: str
    severity: str
    message: str

    def at(self, id: str | None = None, file: str | None = None, line: int | None = None) -> Finding:
        return Finding(self.kind, self.severity, id, file, line, self.message)


def error(kind: str, message: str) -> Problem:
    return Problem(kind, ERROR, message)


def warning(kind: str, message: str) -> Problem:
    return Problem(kind, WARNING, message)


def rejects(findings: Iterable[Finding | Problem]) -> bool:
    return any(finding.severity == ERROR for finding in findings)
