"""The characters frontend: letters, pauses, words, Hangul."""

import unicodedata

import pytest

from hmmtts.text import Mark, SymbolTable, marks
from hmmtts.text.characters import Characters


def test_letters_pauses_and_words():
    transcript = Characters()("Hi, it's 3!")
    assert transcript.symbols == ["sil", *"hi", "sil", *"it's", *"three", "sil"]
    assert transcript.words == ["Hi", "it's", "three"]
    assert transcript.word_of == [-1, 0, 0, -1, 1, 1, 1, 1, 2, 2, 2, 2, 2, -1]
    assert marks(transcript)[:5] == [
        Mark.PAUSE,
        Mark.FIRST,
        Mark.LAST,
        Mark.PAUSE,
        Mark.FIRST,
    ]


def test_pauses_as_the_config_says():
    text = '"Well..." (she said) What?!'
    assert "".join(Characters(pauses="punctuation", edges=False)(text).symbols) == "well.shesaidwhat!"
    assert Characters(pauses="none", edges=False)(text).symbols == [*"wellshesaidwhat"]
    assert Characters(edges=False)(text).symbols == [*"well", "sil", *"shesaidwhat"]
    assert Characters(pauses="punctuation")("What?").symbols == ["sil", *"what", "?"]
    assert Characters()(", what").symbols == ["sil", *"what", "sil"]
    with pytest.raises(ValueError, match="pauses must be sil, punctuation or none, got ''"):
        Characters(pauses="")


def test_case_hyphens_and_apostrophes():
    assert Characters(lower=False, edges=False)("'Tis a well-known O’Neil").words == [
        "Tis",
        "a",
        "well",
        "known",
        "O'Neil",
    ]
    assert Characters(lower=False, edges=False)("Ab").symbols == ["A", "b"]


def test_korean_comes_apart_into_jamo_that_make_the_syllables_again():
    frontend = Characters("ko", edges=False)
    transcript = frontend("학생 3명")
    assert transcript.words == ["학생", "세명"]
    assert unicodedata.normalize("NFC", "".join(transcript.symbols)) == "학생세명"
    assert len(transcript.symbols) == 3 + 3 + 2 + 3
    assert Characters("ko", jamo=False, edges=False)("학생").symbols == ["학", "생"]


def test_composed_and_decomposed_accents_are_one_symbol():
    frontend = Characters(normalise_numbers=False, edges=False)
    assert frontend("caf\u00e9") == frontend("cafe\u0301")
    assert frontend("café").symbols == ["c", "a", "f", "é"]


def test_what_is_no_letter_stays_for_the_table_to_name():
    frontend = Characters(edges=False)
    table = SymbolTable.learn([frontend("smile").symbols])
    with pytest.raises(ValueError, match=r"u1 \(metadata.csv:4\): unknown symbols: '😀' \(U\+1F600\)"):
        table.encode(frontend("smile 😀").symbols, "u1 (metadata.csv:4)")


@pytest.mark.parametrize("text", ["", "   ", "...", '""', "-"])
def test_nothing_to_say(text):
    assert Characters()(text).symbols == []


def test_a_language_without_a_table_says_so():
    with pytest.raises(ValueError, match="normalisation table"):
        Characters("fr")("Deux")
    assert Characters("fr", normalise_numbers=False, edges=False)("Deux").symbols == [*"deux"]


def test_lexicon():
    assert Characters(lexicon={"colonel": "k ɜː n əl"}, edges=False)("A Colonel.").symbols == [
        "a",
        "k",
        "ɜː",
        "n",
        "əl",
    ]
