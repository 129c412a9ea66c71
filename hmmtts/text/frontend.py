"""The contract of a text frontend: text and language in, symbols and the words they belong to out.

A frontend is any callable `(text, language) -> Transcript`; conf/text holds one YAML per frontend. The same
frontend reads the text of the corpus and the text that a trained voice is asked to speak, so that both are
spelt with the same symbols.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

SILENCE = "sil"  # the one symbol of a pause, in every frontend and every corpus
NO_WORD = -1


class Transcript(NamedTuple):
    """What is to be spoken, in order."""

    symbols: list[str]
    words: list[str]
    word_of: list[int]  # index into words of every symbol; NO_WORD for pauses and punctuation


class Frontend(Protocol):
    def __call__(self, text: str, language: str | None = None) -> Transcript: ...


class Mark(IntEnum):
    """The place of a symbol in its word."""

    INSIDE = 0
    FIRST = 1
    LAST = 2
    SINGLE = 3
    PAUSE = 4  # in no word: a pause or a punctuation mark


class Interval(Protocol):
    """A labelled stretch of time in seconds, such as lhotse's AlignmentItem."""

    @property
    def symbol(self) -> str: ...
    @property
    def start(self) -> float: ...
    @property
    def duration(self) -> float: ...


def marks(transcript: Transcript) -> list[Mark]:
    """The place of every symbol in its word."""
    word_of = [NO_WORD, *transcript.word_of, NO_WORD]
    table = {
        (False, False): Mark.SINGLE,
        (False, True): Mark.FIRST,
        (True, False): Mark.LAST,
        (True, True): Mark.INSIDE,
    }
    return [
        Mark.PAUSE if here == NO_WORD else table[before == here, here == after]
        for before, here, after in zip(word_of, word_of[1:], word_of[2:], strict=False)
    ]


def from_words(words: Sequence[str], spelling: Sequence[Sequence[str]]) -> Transcript:
    """The transcript of words without pauses, each with its symbols."""
    symbols = [symbol for spelt in spelling for symbol in spelt]
    word_of = [index for index, spelt in enumerate(spelling) for _ in spelt]
    return Transcript(symbols, list(words), word_of)


def from_alignment(phones: Sequence[Interval], words: Sequence[Interval]) -> Transcript:
    """The transcript that a corpus with known times gives: a phone belongs to the word that holds its middle."""
    named = [word for word in words if word.symbol not in ("", SILENCE)]
    word_of = []
    for phone in phones:
        middle = phone.start + phone.duration / 2
        inside = (n for n, word in enumerate(named) if word.start <= middle < word.start + word.duration)
        word_of.append(NO_WORD if phone.symbol == SILENCE else next(inside, NO_WORD))
    return Transcript([phone.symbol for phone in phones], [word.symbol for word in named], word_of)
