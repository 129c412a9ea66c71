"""The phones frontend, the marks of symbols in words, and transcripts from known times."""

from typing import NamedTuple

from hmmtts.text import Mark, Phones, Transcript, from_alignment, marks
from hmmtts.text.frontend import from_words


def test_separators_and_pauses_end_words():
    transcript = Phones()("sil h ə l oʊ | aɪ sp t uː sil")
    assert transcript.symbols == ["sil", "h", "ə", "l", "oʊ", "aɪ", "sil", "t", "uː", "sil"]
    assert transcript.words == ["həloʊ", "aɪ", "tuː"]
    assert transcript.word_of == [-1, 0, 0, 0, 0, 1, -1, 2, 2, -1]
    assert [mark.name for mark in marks(transcript)] == [
        "PAUSE", "FIRST", "INSIDE", "INSIDE", "LAST", "SINGLE", "PAUSE", "FIRST", "LAST", "PAUSE",
    ]  # fmt: skip


def test_empty_text():
    assert Phones()("") == Transcript([], [], [])
    assert marks(Transcript([], [], [])) == []


def test_words_with_their_symbols():
    assert from_words(["hi", "you"], [["h", "aɪ"], ["j", "uː"]]) == Transcript(
        ["h", "aɪ", "j", "uː"], ["hi", "you"], [0, 0, 1, 1]
    )


class Item(NamedTuple):
    symbol: str
    start: float
    duration: float


def test_phones_with_times_find_their_words():
    phones = [
        Item("sil", 0, 0.1),
        Item("h", 0.1, 0.1),
        Item("aɪ", 0.2, 0.2),
        Item("ə", 0.4, 0.1),
        Item("sil", 0.5, 1),
    ]
    words = [Item("", 0, 0.1), Item("hi", 0.1, 0.3), Item("a", 0.4, 0.1), Item("", 0.5, 1)]
    transcript = from_alignment(phones, words)
    assert transcript == Transcript(["sil", "h", "aɪ", "ə", "sil"], ["hi", "a"], [-1, 0, 0, 1, -1])
    assert marks(transcript) == [Mark.PAUSE, Mark.FIRST, Mark.LAST, Mark.SINGLE, Mark.PAUSE]
