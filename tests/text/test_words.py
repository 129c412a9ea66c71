"""Phones to words by the cheapest edit."""

import time

from hypothesis import given
from hypothesis import strategies as st

from hmmtts.text.words import assign
from tests.examples import examples

PHONES = st.lists(st.sampled_from("abcd"), min_size=1, max_size=4).map(tuple)


def words(text):
    return tuple(tuple(word) for word in text.split())


def grouped(chunks, alone):
    """The chunks' phones, in groups of their words."""
    phones = [phone for chunk in words(chunks) for phone in chunk]
    owners = assign(words(chunks), words(alone))
    assert len(owners) == len(phones)
    groups = ["" for _ in words(alone)]
    for phone, owner in zip(phones, owners, strict=True):
        groups[owner] += phone
    return " ".join(group or "-" for group in groups)


def test_same_words():
    assert grouped("abc d ef", "abc d ef") == "abc d ef"


def test_stress_does_not_matter():
    assert assign((("ˈa", "b"), ("c",)), (("a", "b"), ("ˌc",))) == (0, 0, 1)


def test_two_words_in_one_breath():
    assert grouped("in abc bridge", "in ab c bridge") == "in ab c bridge"


def test_a_word_read_as_two():
    assert grouped("in nain ten was", "in nainten was") == "in nainten was"


def test_a_reduced_word_keeps_its_phones_and_not_its_neighbours():
    assert grouped("pitar x cat", "pita ei cat") == "pitar x cat"


def test_a_word_that_is_not_heard():
    assert grouped("abc def", "abc z def") == "abc - def"


def test_phones_that_no_word_explains_go_with_the_word_before():
    assert grouped("abc zz def", "abc def") == "abczz def"
    assert grouped("zz abc", "abc") == "zzabc"


@examples(100)
@given(
    st.lists(PHONES, min_size=1, max_size=6).map(tuple), st.lists(PHONES, min_size=1, max_size=6).map(tuple)
)
def test_words_come_in_order(chunks, alone):
    owners = assign(chunks, alone)
    assert len(owners) == sum(map(len, chunks))
    assert list(owners) == sorted(owners)
    assert set(owners) <= set(range(len(alone)))


@examples(100)
@given(st.lists(PHONES, min_size=1, max_size=8).map(tuple))
def test_words_spoken_as_alone_are_their_own(alone):
    assert assign(alone, alone) == tuple(index for index, word in enumerate(alone) for _ in word)


def test_ten_thousand_phones_take_seconds_at_most():
    """In a language whose words run together no word is found at once."""
    alone = tuple((str(number), "x") for number in range(2500))
    chunks = tuple(alone[at] + alone[at + 1] for at in range(0, 2500, 2))
    began = time.process_time()
    owners = assign(chunks, alone)
    assert time.process_time() - began < 10
    assert owners == tuple(index for index, word in enumerate(alone) for _ in word)
