"""report.html: one file, readable offline, of what a run's folder holds: figures, curves, pictures, sound, config.

Everything is read back from the folder, so that a report can be made again at any time: `hmmtts report RUN`. Another run
may stand beside it, with its figures and its sound.
"""

import base64
import html
import json
import math
from collections import defaultdict
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import yaml
from tensorboard.backend.event_processing.event_accumulator import AUDIO, IMAGES, SCALARS, EventAccumulator

from hmmtts.training.table import ANCHORS, Row, main_rows, rows, shown

ALL = {SCALARS: 0, IMAGES: 0, AUDIO: 0}  # 0 keeps every event


class Run(NamedTuple):
    """What a finished run's folder holds."""

    name: str  # recipe / run
    metrics: dict
    config: dict
    events: EventAccumulator


def read_run(folder: Path) -> Run:
    """A ValueError where the folder is not that of a finished run."""
    missing = [name for name in ("metrics.json", "config.yaml") if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} has no {missing[0]}: it must be the folder of a finished run")
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return _run(folder, metrics, config)


def _run(folder: Path, metrics: dict, config: dict) -> Run:
    events = EventAccumulator(str(folder), size_guidance=ALL).Reload()
    return Run(f"{config['recipe']} / {folder.resolve().name}", metrics, config, events)


def write_report(folder: Path, metrics: dict, config: dict, beside: Path | None = None) -> Path:
    run = _run(folder, metrics, config)
    other = None if beside is None else read_run(beside)
    table = rows(metrics["best"], metrics["definitions"], config["bars"])
    sections = {
        "Figures": _figures(main_rows(table), other),
        "Alignment": _lines(metrics.get("health", [])),
        "Sound": _sounds(run.events),
        f"Sound of {other.name}" if other else "": _sounds(other.events) if other else "",
        "Pictures": _pictures(run.events),
        "Curves": _curves(run.events),
        "All figures": f"<details><summary>{len(table)} figures</summary>{_figures(table, other)}</details>",
        "Config": f"<pre>{html.escape(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))}</pre>",
    }
    body = "".join(f"<h2>{html.escape(name)}</h2>{content}" for name, content in sections.items() if content)
    path = folder / "report.html"
    path.write_text(PAGE.format(title=html.escape(run.name), body=body), encoding="utf-8")
    return path


def _figures(table: list[Row], other: Run | None) -> str:
    """`other` adds a column: the same figures of that run."""
    beside = [other.name] if other else []
    names = ("figure", "value", *beside, "bar", *ANCHORS, "definition")
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    lines = []
    for row in table:
        mark = {True: "met", False: "missed", None: ""}[row.met]
        bar = f'<td class="{mark}">{html.escape(row.bar)} {mark}</td>'
        anchors = "".join(f"<td>{row.anchors.get(anchor, '')}</td>" for anchor in ANCHORS)
        words = f'<td class="words">{html.escape(row.definition)}</td>'
        theirs = f"<td>{_figure_of(other, row.key)}</td>" if other else ""
        lines.append(
            f"<tr><td>{html.escape(row.key)}</td><td><b>{row.value}</b></td>{theirs}{bar}{anchors}{words}</tr>"
        )
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _figure_of(run: Run, key: str) -> str:
    figures = run.metrics["best"]
    return shown(key.split("/", 1)[1], figures[key]) if key in figures else ""


def _lines(lines: list[str]) -> str:
    return "".join(f"<p>{html.escape(line)}</p>" for line in lines)


def _curves(events: EventAccumulator) -> str:
    """One drawing for every name, training and validation in it together: train/mel and valid/mel."""
    groups: dict[str, list[str]] = defaultdict(list)
    for tag in events.Tags()["scalars"]:
        stage, _, name = tag.rpartition("/")
        groups[name if stage in ("train", "valid") else tag].append(tag)
    return "".join(_curve(events, name, tags) for name, tags in sorted(groups.items()))


def _curve(events: EventAccumulator, name: str, tags: list[str]) -> str:
    """Lines drawn by hand: a plotting library takes half a second for each of forty small drawings."""
    lines = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in sorted(tags)}
    points = [point for line in lines.values() for point in line if math.isfinite(point[1])]
    if not points:
        return ""
    last = max(step for step, _ in points) or 1
    low, high = min(value for _, value in points), max(value for _, value in points)
    span = (high - low) or 1.0
    drawn = []
    for colour, (tag, line) in zip(cycle(COLOURS), lines.items(), strict=False):
        path = " ".join(
            f"{250 * x / last:.1f},{100 * (high - y) / span:.1f}" for x, y in line if math.isfinite(y)
        )
        label = f"<title>{html.escape(tag)}</title>"
        if len(line) < 40:  # a validation: its points matter
            dots = "".join(
                f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="2"/>' for p in path.split()
            )
            drawn.append(f'<g fill="{colour}">{dots}</g>')
        drawn.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.3">{label}</polyline>'
        )
    legend = " ".join(
        f'<span style="color:{colour}">{html.escape(tag)}</span>'
        for colour, tag in zip(COLOURS, lines, strict=False)
    )
    axes = (
        f'<text x="0" y="-5">{high:.4g}</text><text x="0" y="113">{low:.4g}</text>'
        f'<text x="250" y="113" text-anchor="end">step {last}</text>'
    )
    return (
        f'<figure class="curve"><figcaption>{legend}</figcaption>'
        f'<svg viewBox="-4 -16 260 132" role="img" aria-label="{html.escape(name)}">{axes}{"".join(drawn)}</svg></figure>'
    )


COLOURS = ("#1f5fa8", "#c2451e", "#2b7d3f")


def _pictures(events: EventAccumulator) -> str:
    """The last state of every picture."""
    return "".join(
        f'<figure><img src="data:image/png;base64,{_base64(last.encoded_image_string)}"><figcaption>{html.escape(tag)}, '
        f"step {last.step}</figcaption></figure>"
        for tag in events.Tags()["images"]
        for last in events.Images(tag)[-1:]
    )


def _sounds(events: EventAccumulator) -> str:
    return "".join(
        f'<p><audio controls preload="none" src="data:audio/wav;base64,{_base64(last.encoded_audio_string)}"></audio> '
        f"{html.escape(tag)}, step {last.step}</p>"
        for tag in events.Tags()["audio"]
        for last in events.Audio(tag)[-1:]
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; }} th, td {{ padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: left; }}
td {{ vertical-align: top; white-space: nowrap; }} td.words {{ white-space: normal; }} .words {{ font-size: 12px; color: #555; }} .met {{ color: #176b2c; }} .missed {{ color: #a11; }}
.curve {{ width: 21rem; }} .curve text {{ font-size: 9px; fill: #666; }} .curve svg {{ background: #fafafa; width: 100%; }}
figure {{ display: inline-block; margin: .5rem; }} figure img {{ max-width: 36rem; }} figcaption {{ font-size: 12px; }}
audio {{ vertical-align: middle; }} pre {{ background: #f6f6f6; padding: 1rem; overflow: auto; font-size: 12px; }}
</style>
<h1>{title}</h1>{body}</html>
"""
