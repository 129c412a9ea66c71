"""Alignments as files that others read: Praat's TextGrid (long format), CTM, JSON and HTK labels.

Every file appears whole or not at all. Phones tile the recording, a pause is `sil`; between words is ''.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from hmmtts.align.panel import Aligned, Word

TICKS = 10_000_000  # HTK counts in 100 ns


def textgrid(aligned: Aligned) -> str:
    """Interval tiers `words` and `phones`."""
    tiers = {
        "words": _tiled(aligned.words, aligned.duration),
        "phones": [(phone.start, phone.end, phone.label) for phone in aligned.phones],
    }
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0 ", f"xmax = {aligned.duration:.6f} ", "tiers? <exists> ", "size = 2 ", "item []: "]
    for number, (name, intervals) in enumerate(tiers.items(), 1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier" ', f'        name = "{name}" ']
        lines += ["        xmin = 0 ", f"        xmax = {aligned.duration:.6f} "]
        lines += [f"        intervals: size = {len(intervals)} "]
        for place, (start, end, label) in enumerate(intervals, 1):
            quoted = label.replace('"', '""')
            lines += [f"        intervals [{place}]:", f"            xmin = {start:.6f} "]
            lines += [f"            xmax = {end:.6f} ", f'            text = "{quoted}" ']
    return "\n".join(lines) + "\n"


def _tiled(words: Sequence[Word], duration: float) -> list[tuple[float, float, str]]:
    """The words with '' between them."""
    intervals: list[tuple[float, float, str]] = []
    time = 0.0
    for word in words:
        if word.start > time:
            intervals.append((time, word.start, ""))
        intervals.append((word.start, word.end, word.label))
        time = word.end
    if time < duration or not intervals:
        intervals.append((time, duration, ""))
    return intervals


def ctm(aligned: Aligned) -> str:
    """A line a phone: utterance, channel, start, duration, label, confidence."""
    return "".join(
        f"{aligned.id} 1 {phone.start:.4f} {phone.end - phone.start:.4f} {phone.label} {phone.confidence:.3f}\n"
        for phone in aligned.phones
    )


def lab(aligned: Aligned) -> str:
    """HTK labels: start and end in units of 100 ns, and the phone."""
    return "".join(
        f"{round(phone.start * TICKS)} {round(phone.end * TICKS)} {phone.label}\n" for phone in aligned.phones
    )


def as_json(aligned: Aligned) -> str:
    content = {
        "id": aligned.id,
        "duration": round(aligned.duration, 6),
        "words": [
            {"label": word.label, "start": round(word.start, 6), "end": round(word.end, 6)}
            for word in aligned.words
        ],
        "phones": [
            {
                "label": phone.label,
                "start": round(phone.start, 6),
                "end": round(phone.end, 6),
                "confidence": round(phone.confidence, 4),
            }
            for phone in aligned.phones
        ],
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


FORMATS: dict[str, tuple[str, Callable[[Aligned], str]]] = {
    "textgrid": (".TextGrid", textgrid),
    "ctm": (".ctm", ctm),
    "json": (".json", as_json),
    "lab": (".lab", lab),
}


def paths(folder: Path, id: str, formats: Iterable[str]) -> list[Path]:
    return [folder / (id + FORMATS[name][0]) for name in formats]


def write(aligned: Aligned, folder: Path, formats: Sequence[str]) -> None:
    for name, path in zip(formats, paths(folder, aligned.id, formats), strict=True):
        write_whole(path, FORMATS[name][1](aligned))


def write_whole(path: Path, text: str) -> None:
    """An interrupted run leaves no half of a file that looks like a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
