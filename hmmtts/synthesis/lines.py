"""A file of texts to speak: a text a line, perhaps with a name before it. Names become file names."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hmmtts.data.alignment import read_text

NAMED = re.compile(r"([^|\s]+)\|(.*)", re.DOTALL)


__all__ = ["Line", "read_lines", "read_text"]


class Line(NamedTuple):
    name: str  # before the first | if no space is in it, else the number of the line
    text: str
    where: str  # for messages


def read_lines(path: Path) -> Iterator[Line]:
    """Blank lines are none."""
    seen: dict[str, int] = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        named = NAMED.fullmatch(line.strip())
        name, text = (named[1], named[2]) if named else (f"{number:04d}", line.strip())
        if name in (".", "..") or "/" in name or "\\" in name:
            raise ValueError(f"{where}: the name {name!r} must be one that a file can have")
        if name in seen:
            raise ValueError(f"{where}: the name {name!r} is that of line {seen[name]} already")
        if not text.strip():
            raise ValueError(f"{where}: no text follows the name {name!r}")
        seen[name] = number
        yield Line(name, text, where)
    if not seen:
        raise ValueError(f"{path}: holds no text to speak")
