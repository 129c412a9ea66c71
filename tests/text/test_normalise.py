"""Every normalisation table against the test table beside it, and numerals against an independent inverse."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmmtts.text.normalise import TABLES, languages, normalise, normaliser
from tests.examples import examples

ROWS = [
    (language, *line.split("\t"))
    for language in languages()
    for line in (TABLES / f"{language}.tests.tsv").read_text(encoding="utf-8").splitlines()
]


@pytest.mark.parametrize(("language", "written", "read"), ROWS)
def test_table(language, written, read):
    assert normalise(written, language) == read


def test_english_and_korean_have_tables():
    assert {"en", "ko"} <= set(languages())


@pytest.mark.parametrize("language", languages())
def test_what_is_read_is_read_the_same_again(language):
    for _, _, read in (row for row in ROWS if row[0] == language):
        assert normalise(read, language) == read


def english_value(text):
    """The other way round: multiply by what is larger, add what is smaller."""
    small = {normaliser("en").digits[number]: number for number in range(10)}
    small |= {
        "ten": 10,
        "eleven": 11,
        "twelve": 12,
        "thirteen": 13,
        "fourteen": 14,
        "fifteen": 15,
        "sixteen": 16,
    }
    small |= {"seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40}
    small |= {"fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
    scales = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
    total = group = 0
    for word in text.split():
        if word == "hundred":
            group *= 100
        elif word in scales:
            total, group = total + group * scales[word], 0
        else:
            group += small[word]
    return total + group


def korean_value(text):
    digits = {word: number for number, word in enumerate("영일이삼사오육칠팔구")}
    total = group = digit = 0
    for letter in text.replace(" ", ""):
        if letter in digits:
            digit = digits[letter]
        elif letter in "십백천":
            group += max(digit, 1) * {"십": 10, "백": 100, "천": 1000}[letter]
            digit = 0
        else:
            total += max(group + digit, 1) * {"만": 10**4, "억": 10**8, "조": 10**12}[letter]
            group = digit = 0
    return total + group + digit


@examples(100)
@given(st.one_of(st.integers(0, 30_000), st.integers(0, 10**15 - 1)))
def test_numerals_mean_the_number(number):
    assert english_value(normaliser("en").cardinal(number)) == number
    assert korean_value(normaliser("ko").cardinal(number)) == number


@examples(100)
@given(st.text(alphabet="ab1290 .,-:$%&€'\"", max_size=30))
def test_no_digit_is_left_outside_words(text):
    """Whatever is written, every number that stands by itself is spelt out."""
    assert not re.search(r"(?<![A-Za-z])\d", normalise(text, "en"))


def test_a_region_is_its_language_and_an_unknown_language_says_what_to_do():
    assert normalise("3", "en-GB") == normalise("3", "en_us") == "three"
    with pytest.raises(
        ValueError, match=r"must have a normalisation table \(en, ko\), got 'fr-fr': write fr\.toml"
    ):
        normalise("3", "fr-fr")
