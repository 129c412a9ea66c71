"""Figures as tables for the terminal, as JSON and as CSV. A figure is never shown without its definition."""

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hmmtts.metrics.definitions import CONDITIONS, COUNTS, DEFINITIONS
from hmmtts.metrics.timing import WITHIN_MS

Figures = Mapping[str, float]
Intervals = Mapping[str, tuple[float, float]]


def figures_table(
    title: str, figures: Figures, intervals: Intervals, anchors: Mapping[str, Figures]
) -> Table:
    """One row per figure: value, 95 % interval, the anchors beside it."""
    table = Table(title=escape(title), title_justify="left")
    table.add_column("figure", no_wrap=True)
    for column in ("value", "95 % interval", *anchors):
        table.add_column(column, justify="right")
    for name, value in figures.items():
        low, high = intervals.get(name, (math.nan, math.nan))
        interval = "" if math.isnan(low) else f"{shown(name, low)} to {shown(name, high)}"
        beside = [shown(name, anchor[name]) if name in anchor else "" for anchor in anchors.values()]
        table.add_row(name, shown(name, value), interval, *beside)
    return table


def classes_table(classes: Mapping[str, Figures]) -> Table:
    table = Table(title="Boundaries by the class of the phone that starts there, ms", title_justify="left")
    table.add_column("class", no_wrap=True)
    columns = {"boundaries": "n", "boundary_median_ms": "median", "boundary_bias_ms": "bias"}
    columns |= {f"boundary_within_{ms}ms": f"<= {ms}" for ms in WITHIN_MS}
    for column in columns.values():
        table.add_column(column, justify="right", no_wrap=True)
    for label, figures in classes.items():
        table.add_row(label, *(shown(name, figures[name]) for name in columns))
    return table


def definitions(figures: Figures, anchors: Mapping[str, Figures]) -> dict[str, str]:
    return {name: DEFINITIONS[name] for name in figures} | {name: CONDITIONS[name] for name in anchors}


def print_definitions(console: Console, figures: Figures, anchors: Mapping[str, Figures]) -> None:
    grid = Table.grid(padding=(0, 2))
    for name, sentence in definitions(figures, anchors).items():
        grid.add_row(f"[bold]{name}[/bold]", sentence)
    console.print(grid)


def shown(name: str, value: float) -> str:
    """With as many digits as the figure deserves."""
    if math.isnan(value):
        return "undefined"
    if name in COUNTS:
        return f"{value:.0f}"
    if "within" in name or "accuracy" in name or "error_rate" in name or name == "vuv_error":
        return f"{100 * value:.1f} %"
    return f"{value:.3f}" if name in ("f0_rmse_ln", "duration_correlation") else f"{value:.2f}"


def plain(value: Any) -> Any:
    """Numbers that are not finite become null: JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(plain(content), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_csv(path: Path, utterances: Mapping[str, Figures]) -> None:
    """One line per utterance; an undefined figure is an empty field."""
    columns = list(dict.fromkeys(name for figures in utterances.values() for name in figures))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *columns])
        for name, figures in utterances.items():
            values = [figures.get(column, math.nan) for column in columns]
            writer.writerow([name, *("" if math.isnan(value) else f"{value:.6g}" for value in values)])
