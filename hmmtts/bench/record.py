"""What a benchmark reports: one record per contender and work, as a table and as JSON."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rich.table import Table


class Record(NamedTuple):
    """`ratio` is the contender's value over ours; null, with a `reason`, where it could not be run.

    A `bar` is the least ratio wanted of a peer, and the largest value allowed to ours (errors, growth, memory).
    """

    work: str
    contender: str
    value: float | None
    unit: str
    ratio: float | None
    error: float | None = None  # against float64
    bar: float | None = None
    reason: str | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bar is; None where there is none or nothing was measured."""
        if self.bar is None or self.value is None or self.ratio is None:
            return None
        return self.value <= self.bar if self.contender == "ours" else self.ratio >= self.bar


def table(records: Iterable[Record], title: str) -> Table:
    out = Table(title=title, title_justify="left")
    for column in ("work", "contender", "value", "unit", "ratio", "bar", "", "error"):
        number = column in ("value", "ratio", "bar", "error")
        out.add_column(column, justify="right" if number else "left", no_wrap=column != "unit")
    work = ""
    for record in records:
        if record.work != work:
            out.add_section()
        new, work = record.work != work, record.work
        limit = "" if record.bar is None else f"{'<=' if record.contender == 'ours' else '>='} {record.bar:g}"
        out.add_row(
            record.work if new else "",
            record.contender,
            "-" if record.value is None else f"{record.value:.4g}",
            record.unit if record.value is not None else (record.reason or ""),
            "-" if record.ratio is None else f"{record.ratio:.2f}",
            limit,
            {True: "met", False: "[bold]missed[/bold]", None: ""}[record.met],
            "-" if record.error is None else f"{record.error:.1e}",
        )
    return out


def write_json(path: Path, records: Iterable[Record]) -> None:
    path.write_text(json.dumps([record._asdict() for record in records], indent=1) + "\n", encoding="utf-8")
