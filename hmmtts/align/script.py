"""What an utterance says, as states in a row: symbols, the pauses that may lie between words, and who shares states.

A pause that the corpus itself writes is believed. Where a text was only read by a frontend nobody knows where the
speaker paused: then a pause stands at both ends and may stand between any two words, and `settled` keeps those that
the first, coarse alignment finds.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from hmmtts.text import NO_WORD, SILENCE, Transcript

STRESS = re.compile(
    r"(?<=[A-Z])[0-2]$|[ˈˌ]"
)  # AH0 and AH1, ˈeɪ and eɪ: one sound, so that rare ones share data
SHORTEST_PAUSE = 0.03  # seconds; what is shorter belongs to the closure of a stop
EDGE = 1  # a pause that stands there until `settled`
BETWEEN = 2  # a pause that may be left out in the first alignment already


class Script(NamedTuple):
    """`open_pauses`: 0, or EDGE or BETWEEN for a pause that is not certain."""

    symbols: list[str]
    words: list[str]
    word_of: list[int]
    open_pauses: list[int]


def certain(transcript: Transcript) -> Script:
    return Script(*transcript, [0] * len(transcript.symbols))


def with_open_pauses(transcript: Transcript) -> Script:
    """The words of the transcript, and a pause wherever one may be; the frontend's own guesses are dropped."""
    symbols, word_of, open_pauses = [SILENCE], [NO_WORD], [EDGE]
    for symbol, word in zip(transcript.symbols, transcript.word_of, strict=True):
        if word == NO_WORD:
            continue
        if word_of[-1] not in (word, NO_WORD):
            symbols.append(SILENCE)
            word_of.append(NO_WORD)
            open_pauses.append(BETWEEN)
        symbols.append(symbol)
        word_of.append(word)
        open_pauses.append(0)
    return Script([*symbols, SILENCE], transcript.words, [*word_of, NO_WORD], [*open_pauses, EDGE])


class Settled(NamedTuple):
    script: Script
    edges: Float[np.ndarray, "s+1"]  # seconds, the start of every symbol and the end


def settled(script: Script, edges: Float[np.ndarray, "s+1"]) -> Settled:
    """The script without the open pauses that the alignment found too short; neighbours share their time."""
    lengths = np.diff(edges)
    keep = [
        not is_open or length >= SHORTEST_PAUSE
        for is_open, length in zip(script.open_pauses, lengths, strict=True)
    ]
    middles = np.where(keep, edges[:-1], (edges[:-1] + edges[1:]) / 2)
    starts: list[float] = []
    for place, kept in enumerate(keep):
        if kept:
            dropped = place > 0 and not keep[place - 1]
            starts.append(middles[place - 1] if dropped else edges[place])
    starts[0] = edges[0]

    def chosen(items: Sequence) -> list:
        return [item for item, kept in zip(items, keep, strict=True) if kept]

    symbols = chosen(script.symbols)
    return Settled(
        Script(symbols, script.words, chosen(script.word_of), [0] * len(symbols)),
        np.array([*starts, edges[-1]]),
    )


def sound(symbol: str) -> str:
    """The symbol without its stress."""
    return STRESS.sub("", symbol) or symbol


class Inventory(NamedTuple):
    """Which states of the model each sound has."""

    first: dict[str, int]
    number: dict[str, int]

    @property
    def size(self) -> int:
        return sum(self.number.values())

    def states(self, symbol: str) -> range:
        name = sound(symbol)
        return range(self.first[name], self.first[name] + self.number[name])


def inventory(number: Mapping[str, int]) -> Inventory:
    first, total = {}, 0
    for name in sorted(number):
        first[name] = total
        total += number[name]
    return Inventory(first, dict(number))


def by_duration(
    scripts: Iterable[Script],
    edges: Iterable[Float[np.ndarray, "s+1"]],
    hop: float,
    most: int,
    quantile: float,
) -> dict[str, int]:
    """As many states as the sound has frames at this quantile of its durations, 1 to `most`: bursts are short."""
    durations: dict[str, list[float]] = {}
    for script, times in zip(scripts, edges, strict=True):
        for symbol, length in zip(script.symbols, np.diff(times), strict=True):
            durations.setdefault(sound(symbol), []).append(length)
    count = {
        name: int(np.clip(round(np.quantile(found, quantile) / hop), 1, most))
        for name, found in durations.items()
    }
    return count | ({SILENCE: most} if SILENCE in count else {})
