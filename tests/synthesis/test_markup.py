"""Rates written into a text, and where a long text is cut."""

import pytest

from hmmtts.synthesis.markup import LONGEST, Unit, chunks, symbol_rates, units
from hmmtts.text.characters import Characters

READ = Characters("en")


def rates_of(text: str) -> dict[str, list[float]]:
    """The rates of the phones of each word; of the pauses under 'sil'."""
    chunk = list(units(text))
    transcript = READ(" ".join(unit.text for unit in chunk))
    found: dict[str, list[float]] = {}
    for rate, word in zip(symbol_rates(chunk, transcript, READ), transcript.word_of, strict=True):
        found.setdefault("sil" if word < 0 else transcript.words[word], []).append(rate)
    return found


def test_text_without_braces_has_no_rates():
    assert set(units("a  cat,\nsat")) == {Unit("a"), Unit("cat,"), Unit("sat")}
    assert rates_of("a cat") == {"sil": [1, 1], "a": [1], "cat": [1, 1, 1]}


def test_one_rate_for_words_and_the_pause_between_them():
    found = rates_of("we {0.5: saw, a} cat")
    assert found == {"sil": [1, 0.5, 1], "we": [1, 1], "saw": [0.5] * 3, "a": [0.5], "cat": [1] * 3}


def test_a_rate_for_every_phone_and_punctuation_that_touches_the_braces():
    assert rates_of('"{1 2 4: cat}", {3:it} {1 5: is}.') == {
        "cat": [1, 2, 4], "it": [3, 3], "is": [1, 5], "sil": [1, 1, 1],
    }  # fmt: skip


def test_a_number_written_out_becomes_as_many_words_of_that_rate():
    found = rates_of("say {2: 21} now")
    assert found["say"] == [1, 1, 1]
    assert found["now"] == [1, 1, 1]
    assert {rate for word, rates in found.items() if word not in ("say", "now", "sil") for rate in rates} == {
        2
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a } b", "a brace stands alone in 'a } b'"),
        ("a {b", "a brace stands alone in 'a {b'"),
        ("{fast: a}", r"rates from 0\.1 to 10, got \{fast: a\}"),
        ("{0: a}", r"got \{0: a\}"),
        ("{nan: a}", r"got \{nan: a\}"),
        ("{2: }", r"got \{2: \}"),
        ("{1 2: cat}", r"one for each of its 3 phones \(c a t\), got 2"),
    ],
)
def test_slips_of_the_pen_by_their_message(text, message):
    with pytest.raises(ValueError, match=message):
        rates_of(text)


def cut(text: str) -> list[str]:
    return [" ".join(unit.text for unit in chunk) for chunk in chunks(units(text))]


def test_sentences_of_some_length_are_spoken_apart():
    long = "This sentence has more than sixty letters, so that it stands alone."
    assert cut(f"{long} {long} Yes.") == [long, long, "Yes."]
    assert cut("Oh. No! Why?") == ["Oh. No! Why?"]
    abbreviated = "It was said with more than sixty letters by the good old Dr. Who in person"
    assert cut(abbreviated) == [abbreviated]


def test_what_has_no_end_is_cut_at_clauses_and_else_anywhere():
    clause = "and so on and so forth, "
    assert [len(part) for part in cut(clause * 20)] == [215, 215, 47]
    endless = "word " * 1000
    assert max(map(len, cut(endless))) <= LONGEST + 10
    assert " ".join(cut(endless)) == endless.strip()
    unbroken = "字" * 1000
    assert max(map(len, cut(unbroken))) <= LONGEST + 10
    assert "".join(cut(unbroken)).replace(" ", "") == unbroken


def test_nothing_is_read_before_it_is_needed():
    first = next(chunks(units("This sentence has more than sixty letters, so that it stands alone. }")))
    assert first[-1].text == "alone."
