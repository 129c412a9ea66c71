"""report.html: one file, readable offline, of what a run's folder holds: figures, curves, pictures, sound, config.

Everything is read back from the folder, so that a report can be made again at any time.
"""

import base64
import html
import io
from collections import defaultdict
from pathlib import Path

import yaml
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import AUDIO, IMAGES, SCALARS, EventAccumulator

from hmmtts.training.table import ANCHORS, Row, rows

ALL = {SCALARS: 0, IMAGES: 0, AUDIO: 0}  # 0 keeps every event


def write_report(folder: Path, metrics: dict, config: dict) -> Path:
    events = EventAccumulator(str(folder), size_guidance=ALL).Reload()
    title = f"{config['recipe']} / {folder.name}"
    sections = {
        "Figures": _figures(rows(metrics["best"], metrics["definitions"], config["bars"])),
        "Alignment": _lines(metrics.get("health", [])),
        "Sound": _sounds(events),
        "Pictures": _pictures(events),
        "Curves": _curves(events),
        "Config": f"<pre>{html.escape(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))}</pre>",
    }
    body = "".join(f"<h2>{name}</h2>{content}" for name, content in sections.items() if content)
    path = folder / "report.html"
    path.write_text(PAGE.format(title=html.escape(title), body=body), encoding="utf-8")
    return path


def _figures(table: list[Row]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("figure", "value", "bar", *ANCHORS, "definition"))
    lines = []
    for row in table:
        mark = {True: "met", False: "missed", None: ""}[row.met]
        bar = f'<td class="{mark}">{html.escape(row.bar)} {mark}</td>'
        anchors = "".join(f"<td>{row.anchors.get(anchor, '')}</td>" for anchor in ANCHORS)
        words = f'<td class="words">{html.escape(row.definition)}</td>'
        lines.append(
            f"<tr><td>{html.escape(row.key)}</td><td><b>{row.value}</b></td>{bar}{anchors}{words}</tr>"
        )
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


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
    figure = Figure(figsize=(4.2, 2.6), layout="tight")
    axes = figure.subplots()
    for tag in sorted(tags):
        points = events.Scalars(tag)
        axes.plot(
            [p.step for p in points],
            [p.value for p in points],
            marker="." if len(points) < 40 else "",
            label=tag,
        )
    axes.set_title(name, fontsize=9)
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7)
    drawing = io.StringIO()
    FigureCanvasSVG(figure).print_svg(drawing)
    return f'<img src="data:image/svg+xml;base64,{_base64(drawing.getvalue().encode())}" alt="{html.escape(name)}">'


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
.words {{ font-size: 12px; color: #555; }} .met {{ color: #176b2c; }} .missed {{ color: #a11; }}
figure {{ display: inline-block; margin: .5rem; }} figure img {{ max-width: 36rem; }} figcaption {{ font-size: 12px; }}
audio {{ vertical-align: middle; }} pre {{ background: #f6f6f6; padding: 1rem; overflow: auto; font-size: 12px; }}
</style>
<h1>{title}</h1>{body}</html>
"""
