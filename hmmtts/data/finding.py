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
        id, file = (text and printable(text) for text in (id, file))
        return Finding(self.kind, self.severity, id, file, line, printable(self.message))


def printable(text: str) -> str:
    """The text on one line, in characters that a terminal shows and UTF-8 can hold: file names may be any bytes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def error(kind: str, message: str) -> Problem:
    return Problem(kind, ERROR, message)


def warning(kind: str, message: str) -> Problem:
    return Problem(kind, WARNING, message)


def rejects(findings: Iterable[Finding | Problem]) -> bool:
    return any(finding.severity == ERROR for finding in findings)
