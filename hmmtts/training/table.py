"""The figures of a run as a table: each with its bar, its anchors and its definition. For the terminal and the report."""

import math
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

ANCHORS = ("floor", "ceiling", "constant", "uniform")
SHARES = ("accuracy", "error", "within")  # parts of the names of figures that are shares from 0 to 1

SHOWN = (
    "test/mcd_db", "test/f0_rmse_hz", "test/f0_median_abs_hz", "test/vuv_error", "test/duration_accuracy",
    "test/alignment_accuracy", "test/boundary_within_20ms", "test/boundary_mean_ms", "test_given_durations/mcd_db",
)  # fmt: skip


class Row(NamedTuple):
    key: str  # as in metrics.json
    value: str
    bar: str  # "< 5.0", or nothing
    met: bool | None  # None without a bar, or where the figure is undefined
    anchors: dict[str, str]  # by the names of ANCHORS
    definition: str


def rows(
    figures: dict[str, float | None], definitions: dict[str, str], bars: dict[str, dict[str, float]]
) -> list[Row]:
    """One row for every figure of the test conditions; what has a bar comes first."""
    keys = [key for key in figures if key.split("/")[0].startswith("test")]
    keys.sort(key=lambda key: (key not in bars, not key.startswith("test/"), list(figures).index(key)))
    return [_row(key, figures, definitions, bars.get(key, {})) for key in keys]


def _row(
    key: str, figures: dict[str, float | None], definitions: dict[str, str], bar: dict[str, float]
) -> Row:
    name, value = key.split("/", 1)[1], figures[key]
    met = None
    if bar and value is not None:
        met = all(value < limit if side == "below" else value > limit for side, limit in bar.items())
    anchors = {anchor: f"{anchor}/{name}" for anchor in ANCHORS}
    return Row(
        key=key,
        value=shown(name, value),
        bar=", ".join(
            f"{'<' if side == 'below' else '>'} {shown(name, limit)}" for side, limit in bar.items()
        ),
        met=met,
        anchors={anchor: shown(name, figures[full]) for anchor, full in anchors.items() if full in figures},
        definition=definitions.get(key, ""),
    )


def shown(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return "undefined"
    if any(part in name for part in SHARES):
        return f"{100 * value:.1f} %"
    return f"{value:.0f}" if float(value).is_integer() and abs(value) >= 10 else f"{value:.2f}"


def main_rows(table: list[Row]) -> list[Row]:
    return [row for row in table if row.bar or row.key in SHOWN]


def print_table(table: list[Row], console: Console) -> None:
    """The figures that have a bar, then the other main ones; metrics.json and the report have all."""
    table = main_rows(table)
    known = [anchor for anchor in ANCHORS if any(anchor in row.anchors for row in table)]
    view = Table(title="on sentences of the test split, never trained on")
    for name in ("figure", "value", "bar", *known):
        view.add_column(name, no_wrap=True)
    for row in table:
        mark = {True: " [green]met[/]", False: " [red]missed[/]", None: ""}[row.met]
        view.add_row(row.key, row.value, row.bar + mark, *(row.anchors.get(anchor, "") for anchor in known))
    console.print(view)
    for row in table:
        if row.bar:
            console.print(f"[bold]{row.key}[/]: {row.definition}", highlight=False)
