"""What `hmmtts check` prints and writes: findings by kind, lengths as histograms, the size of the biggest batch."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hmmtts.data.check import Judged, Options, Report, frames_of
from hmmtts.data.finding import ERROR, Finding

BINS = 10  # at most
WIDTH = 12  # characters of the longest bar
COLOUR = {ERROR: "red", "warning": "yellow"}


def write_json(report: Report, path: Path) -> None:
    content = {
        "ok": len(report.accepted),
        "rejected": len(report.rejected),
        "findings": [finding._asdict() for finding in report.findings],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def show(report: Report, options: Options, console: Console, most: int) -> None:
    """`most`: findings of one kind that are printed; the rest is counted."""
    for severity, kind, findings in by_kind(report.findings):
        console.print(Text(f"{severity}: {kind} ({len(findings)})", style=f"bold {COLOUR[severity]}"))
        for finding in findings[:most]:
            console.print(Text(f"  {finding}"), soft_wrap=True)
        if len(findings) > most:
            console.print(
                f"  ... and {len(findings) - most:,} more: --show {len(findings)} or --json FILE lists them all"
            )
    if report.accepted:
        console.print()
        console.print(Columns(histograms(report.accepted, options), padding=(0, 4)))
        console.print()
        for name, value in summary(report):
            console.print(Text(f"{name:<15}{value}"), soft_wrap=True)


def by_kind(findings: Sequence[Finding]) -> list[tuple[str, str, list[Finding]]]:
    """Errors first, then what comes most often."""
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.severity, finding.kind].append(finding)
    order = sorted(groups.items(), key=lambda group: (group[0][0] != ERROR, -len(group[1]), group[0][1]))
    return [(severity, kind, found) for (severity, kind), found in order]


def histograms(accepted: Sequence[Judged], options: Options) -> list[Table]:
    seconds = [entry.utterance.duration for entry in accepted]
    symbols = [entry.symbols for entry in accepted]
    states = [entry.symbols * options.states_per_symbol for entry in accepted]
    frames = [
        frames_of(entry.utterance, options) / max(1, count)
        for entry, count in zip(accepted, states, strict=True)
    ]
    return [
        histogram("seconds", seconds),
        histogram("symbols", symbols),
        histogram("frames a state", frames),
    ]


def histogram(title: str, values: Sequence[float]) -> Table:
    step = nice((max(values) - min(values)) / BINS)
    first = math.floor(min(values) / step)
    counts = np.bincount([math.floor(value / step) - first for value in values])
    table = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
    for name in ("from", "bar", "count"):
        table.add_column(name, justify="left" if name == "bar" else "right", no_wrap=True)
    for number, count in enumerate(counts.tolist()):
        bar = "█" * math.ceil(WIDTH * count / counts.max())
        table.add_row(f"{(first + number) * step:g}", bar, f"{count:,}")
    return table


def nice(step: float) -> float:
    """The next greater of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step)) if step > 0 else 1.0
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step)


def summary(report: Report) -> Iterator[tuple[str, str]]:
    accepted = [entry.utterance for entry in report.accepted]
    hours = sum(utterance.duration for utterance in accepted) / 3600
    timed = sum(utterance.phone_times is not None for utterance in accepted)
    yield "speech", f"{hours:.2f} h at {report.rate:,} Hz"
    yield "speakers", f"{len({utterance.speaker for utterance in accepted}):,}"
    yield "languages", ", ".join(sorted({utterance.language or "not given" for utterance in accepted}))
    yield "known times", f"of {timed:,} utterances"
    if batch := report.biggest:
        shape = f"{batch.items} utterances x {batch.frames:,} frames x {batch.states:,} states"
        yield "biggest batch", f"{shape}: training peaks at about {batch.bytes / 2**30:.2f} GiB"
