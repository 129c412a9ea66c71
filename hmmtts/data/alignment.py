"""Known times of phones and words, from the files that aligners and labellers write. Times are in seconds.

TextGrid: interval tiers named `phones` and `words`, as the Montreal aligner writes them. Label files (.lab): lines of
`start end label`, in HTK's units of 100 ns if every time is a whole number, else in seconds.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from lhotse.supervision import AlignmentItem
from praatio import textgrid
from praatio.data_classes.interval_tier import IntervalTier

from hmmtts.data.finding import Problem, error, warning
from hmmtts.text import SILENCE

PAUSES = frozenset({"", SILENCE, "SIL", "sp", "SP", "pau", "<sil>", "<eps>", "#"})
LARGEST = 50_000_000  # bytes; an hour of speech takes 5 MB
OVERLAP = 1e-3  # seconds by which rounding may let labels overlap or outlast the audio
SHORT = 0.1  # seconds that an alignment may end before the audio


class Times(NamedTuple):
    phones: list[AlignmentItem] | None  # pauses are `sil`
    words: list[AlignmentItem] | None  # pauses left out


def read_times(path: Path) -> Times:
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path}: {path.stat().st_size} bytes, more than any alignment takes")
    return read_textgrid(path) if path.suffix.lower() == ".textgrid" else Times(read_lab(path), None)


def read_textgrid(path: Path) -> Times:
    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="silence")
    except Exception as failure:
        # praatio's parser raises whatever the damage makes it run into: IndexError, ValueError, AttributeError, ...
        reason = str(failure).splitlines()[0] if str(failure) else type(failure).__name__
        raise ValueError(f"{path}: not readable as a TextGrid ({reason})") from failure
    phones, words = _tier(grid, "phone"), _tier(grid, "word")
    if phones is None and words is None:
        raise ValueError(
            f"{path}: no interval tier is named phones or words, only {', '.join(grid.tierNames)}"
        )
    return Times(
        phones and [_item(SILENCE if label in PAUSES else label, start, end) for start, end, label in phones],
        words and [_item(label, start, end) for start, end, label in words if label not in PAUSES],
    )


def _tier(grid: textgrid.Textgrid, name: str) -> list[tuple[float, float, str]] | None:
    """The intervals of the first tier of that name, also as `Anna - phones`, in which form speakers are told apart."""
    for tier in grid.tiers:
        if isinstance(tier, IntervalTier) and tier.name.lower().removesuffix("s").endswith(name):
            return [(entry.start, entry.end, entry.label) for entry in tier.entries]
    return None


def read_lab(path: Path) -> list[AlignmentItem] | None:
    """The labels and their times; None if the lines hold no times, as in the transcripts of the Montreal aligner."""
    rows = [line.split(maxsplit=2) for line in read_text(path).split("\n") if line.strip()]
    if not rows or not all(len(row) == 3 and _is_number(row[0]) and _is_number(row[1]) for row in rows):
        return None
    ticks = all(start.isdigit() and end.isdigit() for start, end, _ in rows)
    unit = 1e-7 if ticks else 1.0
    labels = [label.split()[0] for _, _, label in rows]
    return [
        _item(SILENCE if label in PAUSES else label, float(start) * unit, float(end) * unit)
        for (start, end, _), label in zip(rows, labels, strict=True)
    ]


def read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as failure:
        raise ValueError(
            f"{path}: not UTF-8 at byte {failure.start} ({failure.object[failure.start]:#04x})"
        ) from failure


def problems(times: Times, seconds: float) -> Iterator[Problem]:
    """What no alignment of `seconds` of audio can be; the first of each tier, since more follow from it."""
    for tier, items in (("phones", times.phones), ("words", times.words)):
        if items is not None and (problem := _problem(tier, items, seconds)):
            yield problem


def _problem(tier: str, items: list[AlignmentItem], seconds: float) -> Problem | None:
    if not items:
        return error("alignment", f"the tier {tier} is empty")
    for item in items:
        if not item.duration > 0:
            return error(
                "alignment", f"{tier}: {item.symbol!r} at {item.start:.3f} s lasts {item.duration:.3f} s"
            )
    for before, after in pairwise(items):
        if after.start < before.end - OVERLAP:
            label = f"{after.symbol!r} at {after.start:.3f} s"
            return error("alignment", f"{tier}: {label} begins before the label before it ends")
    first, last = items[0].start, items[-1].end
    if first < 0 or last > seconds + SHORT:
        return error("alignment", f"{tier}: from {first:.3f} to {last:.3f} s, the audio has {seconds:.3f} s")
    if tier == "phones" and last < seconds - SHORT:
        return warning("alignment", f"{tier} end at {last:.3f} s, the audio at {seconds:.3f} s")
    return None


def _item(label: str, start: float, end: float) -> AlignmentItem:
    return AlignmentItem(label, round(start, 7), round(end - start, 7))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
