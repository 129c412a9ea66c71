"""Durations that someone gives: the phones of a TextGrid, label file or JSON, or the times of the words alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lhotse.supervision import AlignmentItem

from hmmtts.data.alignment import Times, problems, read_times
from hmmtts.data.finding import rejects
from hmmtts.text import NO_WORD, SILENCE, Transcript, from_alignment

GAP = 1e-3  # seconds between two intervals from which on there is a pause between them


class Timed(NamedTuple):
    transcript: Transcript
    seconds: list[float]  # of every symbol


def read_timing(path: Path) -> Times:
    """What `hmmtts align` and `hmmtts synthesize --times` write, and the TextGrids and labels of others."""
    if not path.is_file():
        raise ValueError(f"--timing {path}: there is no such file")
    kinds = {".json": _read_json, ".textgrid": read_times, ".lab": read_times}
    if path.suffix.lower() not in kinds:
        raise ValueError(f"--timing must be a .json, .TextGrid or .lab file, got {path}")
    times = kinds[path.suffix.lower()](path)
    if not times.phones and not times.words:
        raise ValueError(f"{path}: holds no times of phones or words")
    last = max(item.end for item in [*(times.phones or []), *(times.words or [])])
    if wrong := [problem for problem in problems(times, last) if rejects([problem])]:
        raise ValueError(f"{path}: {wrong[0].message}")
    return times


def _read_json(path: Path) -> Times:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = [
            [
                AlignmentItem(
                    str(item["label"]), float(item["start"]), float(item["end"]) - float(item["start"])
                )
                for item in content.get(tier, [])
            ]
            for tier in ("phones", "words")
        ]
    except (UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as failure:
        raise ValueError(
            f'{path}: must be {{"phones": [{{"label", "start", "end"}}, ...], "words": [...]}} in JSON '
            f"({type(failure).__name__}: {failure})"
        ) from failure
    phones, words = found
    return Times(phones or None, words or None)


def from_phones(phones: Sequence[AlignmentItem], words: Sequence[AlignmentItem] | None) -> Timed:
    """The phones themselves; what lies between them is a pause."""
    tiled: list[AlignmentItem] = []
    time = 0.0
    for phone in phones:
        if phone.start - time > GAP:
            tiled.append(AlignmentItem(SILENCE, time, phone.start - time))
        tiled.append(phone)
        time = phone.end
    return Timed(from_alignment(tiled, words or []), [phone.duration for phone in tiled])


def from_words(transcript: Transcript, natural: Sequence[float], words: Sequence[AlignmentItem]) -> Timed:
    """The phones of each word share its time as they would by themselves; what lies between words is one pause."""
    if len(transcript.words) != len(words):
        raise ValueError(
            f"the text is read as {len(transcript.words)} words, the times are of {len(words)}: "
            f"{' '.join(transcript.words)}"
        )
    symbols: list[str] = []
    word_of: list[int] = []
    seconds: list[float] = []

    def pause(length: float) -> None:
        if length > GAP:
            symbols.append(SILENCE)
            word_of.append(NO_WORD)
            seconds.append(length)

    time = 0.0
    for number, word in enumerate(words):
        pause(word.start - time)
        inside = [i for i, owner in enumerate(transcript.word_of) if owner == number]
        whole = sum(natural[i] for i in inside)
        symbols += [transcript.symbols[i] for i in inside]
        word_of += [number] * len(inside)
        seconds += [natural[i] * word.duration / whole for i in inside]
        time = word.end
    return Timed(Transcript(symbols, list(transcript.words), word_of), seconds)


def check_phones(transcript: Transcript, timed: Timed) -> None:
    """Raise ValueError unless the text has the phones that the times are of; pauses may differ."""
    asked, given = (
        [symbol for symbol, word in zip(said.symbols, said.word_of, strict=True) if word != NO_WORD]
        for said in (transcript, timed.transcript)
    )
    if asked != given:
        place = next(
            (i for i, (a, b) in enumerate(zip(asked, given, strict=False)) if a != b),
            min(len(asked), len(given)),
        )
        here, there = (" ".join(phones[place : place + 5]) or "nothing" for phones in (asked, given))
        raise ValueError(
            f"--timing is of another text: from phone {place + 1} on the text has {here}, the file {there}"
        )
