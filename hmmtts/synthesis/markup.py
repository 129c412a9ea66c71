"""How fast to speak, written into the text, and where a long text may be cut.

    {0.7: these words} at seven tenths of the speed; {1 1 1 0.4: hello} has a rate for every phone of the word

The braces hold one rate, or as many as there are phones, then a colon and words. A rate of 2 is twice as fast. Braces
that say anything else are an error, so that a slip of the pen is not spoken.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from hmmtts.text import Transcript

FASTEST = 10.0  # and as many times as slow; what is beyond is no speech, but a slip
TOKEN = re.compile(r"([^\s{}]*)\{([^{}:]*):([^{}]*)\}([^\s{}]*)|([^\s{}]+)|(\S)")
WIDE_MARKS = re.compile(r"(?<=[。！？、，；：])")  # no space follows these
LONGEST = 400  # characters spoken at once, for a voice has learnt from sentences and not from pages
# A text is cut at a word that looks so, once there are so many characters. A full stop after a
# short word with a capital, or a single letter, may be that of an abbreviation.
CUTS = (
    (60, re.compile(r"([!?…。！？।]|(\b[^\W\d_A-Z]{2,}|\w{4})\.)[\"'”’»)\]]*$")),
    (200, re.compile(r"[,;:、，；：–—][\"'”’»)\]]*$|^sil$")),
    (LONGEST, re.compile("")),
)


class Unit(NamedTuple):
    """A word as it is written, or several that have one list of rates."""

    text: str
    rates: tuple[float, ...] = ()  # none: as fast as the voice likes; one; or one for every phone


def units(text: str) -> Iterator[Unit]:
    for token in TOKEN.finditer(text):
        before, rates, marked, after, plain, wrong = (group or "" for group in token.groups())
        if wrong:
            raise ValueError(
                f"markup must be {{RATE: words}}, and a brace stands alone in {text[max(0, token.start() - 20) : token.end() + 20]!r}"
            )
        if plain:
            for piece in WIDE_MARKS.split(plain):
                yield from (Unit(piece[i : i + LONGEST]) for i in range(0, len(piece), LONGEST))
            continue
        found = _rates(rates, marked)
        words = f"{before}{marked.strip()}{after}"
        yield from [Unit(word, found) for word in words.split()] if len(found) == 1 else [Unit(words, found)]


def _rates(written: str, marked: str) -> tuple[float, ...]:
    try:
        rates = tuple(map(float, written.split()))
    except ValueError:
        rates = ()
    if not rates or not all(1 / FASTEST <= rate <= FASTEST for rate in rates) or not marked.strip():
        raise ValueError(
            f"markup must be {{RATE: words}} with rates from {1 / FASTEST:g} to {FASTEST:g}, "
            f"got {{{written}:{marked}}}"
        )
    return rates


def chunks(words: Iterable[Unit]) -> Iterator[list[Unit]]:
    """Stretches to speak at once: sentences of some length, of longer ones their clauses."""
    chunk: list[Unit] = []
    length = 0
    for unit in words:
        chunk.append(unit)
        length += len(unit.text) + 1
        if any(length >= enough and cut.search(unit.text) for enough, cut in CUTS):
            yield chunk
            chunk, length = [], 0
    if chunk:
        yield chunk


def symbol_rates(
    chunk: Sequence[Unit], transcript: Transcript, read: Callable[[str], Transcript]
) -> list[float]:
    """The rate of every symbol of the transcript. A pause between two words of one rate has that rate too."""
    rates = [1.0] * len(transcript.symbols)
    if not any(unit.rates for unit in chunk):
        return rates
    runs = [
        (key[1], " ".join(unit.text for _, unit in run))
        for key, run in groupby(
            enumerate(chunk), lambda item: (item[0] if len(item[1].rates) > 1 else None, item[1].rates)
        )
    ]
    counts = [len(read(text).words) for _, text in runs]
    if sum(counts) != len(transcript.words):
        raise ValueError(
            "words in braces are read otherwise together with their neighbours: take those into the braces too, in "
            + repr(" ".join(unit.text for unit in chunk))
        )
    first = 0
    for (wanted, text), count in zip(runs, counts, strict=True):
        inside = [i for i, word in enumerate(transcript.word_of) if first <= word < first + count]
        first += count
        if len(wanted) == 1 and inside:
            rates[inside[0] : inside[-1] + 1] = [wanted[0]] * (inside[-1] + 1 - inside[0])
        elif len(wanted) > 1:
            if len(wanted) != len(inside):
                phones = " ".join(transcript.symbols[i] for i in inside)
                raise ValueError(
                    f"{{...: {text}}} must have one rate or one for each of its {len(inside)} phones ({phones}), "
                    f"got {len(wanted)}"
                )
            for i, rate in zip(inside, wanted, strict=True):
                rates[i] = rate
    return rates
