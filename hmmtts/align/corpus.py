"""The utterances of a corpus as scripts, and those that cannot be used with the reason."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from hmmtts.align.listening import prepared
from hmmtts.align.panel import Refused
from hmmtts.align.script import Script, certain, sound, with_open_pauses
from hmmtts.align.training import Spoken
from hmmtts.audio.io import read
from hmmtts.data.finding import rejects
from hmmtts.data.folder import Entry
from hmmtts.data.manifest import Utterance
from hmmtts.text import SILENCE, Frontend, Phones, Transcript
from hmmtts.text.characters import Characters

ENOUGH = 10  # utterances in which a sound should be heard in training, where the corpus has as many
TRAINING_SECONDS = 1800.0  # more speech than this teaches a monophone model nothing new


class Line(NamedTuple):
    """An utterance before its audio is read."""

    utterance: Utterance
    script: Script

    @property
    def id(self) -> str:
        return self.utterance.id


class Reading(NamedTuple):
    lines: list[Line]
    refused: list[Refused]


class Spelling(NamedTuple):
    transcript: Transcript
    own: bool  # by the corpus itself, not by a frontend


def phones_of(utterance: Utterance) -> Spelling:
    """The corpus's own phones, else the text as phones; words take their spelling from the text where it matches."""
    spoken = Phones()(" ".join(utterance.phones) if utterance.phones else utterance.text)
    spelt = utterance.text.split() if utterance.phones else []
    return Spelling(spoken._replace(words=spelt) if len(spelt) == len(spoken.words) else spoken, own=True)


def speller(text: str | None, language: str | None) -> Callable[[Utterance], Spelling]:
    """`text`: phones, characters, espeak; None takes phones where the corpus gives them, else characters."""
    if text == "phones":
        return phones_of
    if text in (None, "characters"):
        frontend: Frontend = Characters(language or "en")
    elif text == "espeak":
        from hmmtts.text.espeak import Espeak

        frontend = Espeak(language or "en-us")
    else:
        raise ValueError(f"--text must be characters, phones or espeak, got {text!r}")

    def spell(utterance: Utterance) -> Spelling:
        if text is None and utterance.phones:
            return phones_of(utterance)
        return Spelling(frontend(utterance.text, language or utterance.language), own=False)

    return spell


def read_scripts(
    entries: Iterable[Entry], spell: Callable[[Utterance], Spelling], believed: bool = False
) -> Reading:
    """Pauses are believed if the corpus writes any, or if one says so; else they are open, everywhere between words."""
    heard: list[tuple[Utterance, Transcript]] = []
    refused: list[Refused] = []
    written = False
    for entry in entries:
        errors = [finding for finding in entry.findings if rejects([finding])]
        if entry.utterance is None or errors:
            refused.append(_refusal(entry, "; ".join(str(finding) for finding in errors)))
            continue
        utterance = entry.utterance
        try:
            transcript, own = spell(utterance)
        except (ValueError, RuntimeError) as failure:  # RuntimeError: espeak-ng itself refuses the text
            refused.append(Refused(utterance.id, f"{utterance.where}: {failure}"))
            continue
        if not any(symbol != SILENCE for symbol in transcript.symbols):
            refused.append(Refused(utterance.id, f"{utterance.where}: nothing in the text is spoken"))
            continue
        written = written or (own and SILENCE in transcript.symbols)
        heard.append((utterance, transcript))
    script = certain if believed or written else with_open_pauses
    return Reading([Line(utterance, script(transcript)) for utterance, transcript in heard], refused)


def _refusal(entry: Entry, reason: str) -> Refused:
    first = entry.findings[0] if entry.findings else None
    name = entry.utterance.id if entry.utterance else (first and (first.id or f"{first.file}:{first.line}"))
    return Refused(name or "?", reason)


def hear(line: Line) -> Spoken | Refused:
    """With its audio, or why that cannot be read."""
    utterance = line.utterance
    try:
        wave, rate = read(utterance.audio, utterance.start, utterance.duration or None)
    except (OSError, ValueError) as failure:
        return Refused(line.id, f"{utterance.where}: {failure}")
    if len(wave) < rate * 0.05:
        return Refused(line.id, f"{utterance.where}: {len(wave) / rate:.3f} s of sound, too short to align")
    return Spoken(line.id, prepared(wave, rate), len(wave) / rate, line.script)


def training_order(lines: Sequence[Line], seed: int) -> Iterator[Line]:
    """A shuffle in which the utterances with the rarest sounds come first, so that no sound is missed."""
    shuffled = list(lines)
    random.Random(seed).shuffle(shuffled)
    seen: Counter[str] = Counter()
    later: list[Line] = []
    for line in shuffled:
        sounds = {sound(symbol) for symbol in line.script.symbols}
        if any(seen[name] < ENOUGH for name in sounds):
            seen.update(sounds)
            yield line
        else:
            later.append(line)
    yield from later
