"""Which word every phone belongs to, where a synthesiser says its phones but not its words.

The phones of the sentence are matched with the phones of its words, each pronounced alone. Most words sound the same
in both and are found at once; between them the cheapest edit decides, for a word is spoken a little differently in
its sentence ("of the" in one breath, "a" as a schwa).
"""

import math
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import chain

BOUNDARY = ""  # between words
LONE_BOUNDARY = (
    0.75  # a boundary on one side only: cheaper than a phone, but not free, so that equal ones meet
)
REACH = 100  # phones that the two sides may drift apart
STRESS = str.maketrans("", "", "ˈˌ")

Word = tuple[str, ...]  # its phones


@lru_cache(maxsize=20_000)
def assign(chunks: tuple[Word, ...], alone: tuple[Word, ...]) -> tuple[int, ...]:
    """The word of every phone of the chunks (the words as the sentence has them); `alone`: the phones of each word."""
    spoken = [tuple(phone.translate(STRESS) for phone in chunk) for chunk in chunks]
    known = [tuple(phone.translate(STRESS) for phone in word) for word in alone]
    owners: list[int] = []
    here = there = 0
    for start, other, length in SequenceMatcher(None, spoken, known, autojunk=False).get_matching_blocks():
        between = _edited(spoken[here:start], known[there:other])
        owners += [there + owner if other > there else max(0, there - 1) for owner in between]
        owners += chain.from_iterable([other + index] * len(spoken[start + index]) for index in range(length))
        here, there = start + length, other + length
    return tuple(owners)


def _edited(chunks: Sequence[Word], words: Sequence[Word]) -> list[int]:
    """The word of every phone of the chunks by the cheapest edit; 0 where there are no words."""
    spoken, known = _with_boundaries(chunks), _with_boundaries(words)
    word_of = list(chain.from_iterable([index] * (len(word) + 1) for index, word in enumerate(words)))
    owners: list[int | None] = [None] * len(spoken)
    for here, there in _matches(spoken, known):
        owners[here] = word_of[there]
    return [owner for owner, phone in zip(_filled(owners, spoken), spoken, strict=True) if phone != BOUNDARY]


def _with_boundaries(words: Sequence[Word]) -> list[str]:
    return list(chain.from_iterable([*word, BOUNDARY] for word in words))[:-1]


def _matches(spoken: Sequence[str], known: Sequence[str]) -> list[tuple[int, int]]:
    """The pairs of positions that the cheapest edit keeps or replaces: Levenshtein's distance, in a band."""
    slope = len(known) / max(1, len(spoken))
    reach = REACH + math.ceil(slope)
    rows: list[dict[int, float]] = [{0: 0.0}]
    for there in range(min(reach, len(known))):
        rows[0][there + 1] = rows[0][there] + _lone(known[there])
    for here, phone in enumerate(spoken, start=1):
        above = rows[-1]
        row: dict[int, float] = {}
        middle = round(here * slope)
        for there in range(max(0, middle - reach), min(len(known), middle + reach) + 1):
            cost = above.get(there, math.inf) + _lone(phone)
            if there:
                cost = min(
                    cost,
                    row.get(there - 1, math.inf) + _lone(known[there - 1]),
                    above.get(there - 1, math.inf) + _replace(phone, known[there - 1]),
                )
            row[there] = cost
        rows.append(row)
    return _way_back(rows, spoken, known)


def _way_back(
    rows: Sequence[dict[int, float]], spoken: Sequence[str], known: Sequence[str]
) -> list[tuple[int, int]]:
    pairs = []
    here, there = len(spoken), len(known)
    while here and there:
        cost = rows[here][there]
        diagonal = rows[here - 1].get(there - 1, math.inf) + _replace(spoken[here - 1], known[there - 1])
        if cost == diagonal:
            here, there = here - 1, there - 1
            pairs.append((here, there))
        elif cost == rows[here].get(there - 1, math.inf) + _lone(known[there - 1]):
            there -= 1
        else:
            here -= 1
    return pairs


def _lone(phone: str) -> float:
    return LONE_BOUNDARY if phone == BOUNDARY else 1.0


def _replace(phone: str, other: str) -> float:
    if phone == other:
        return 0.0
    return math.inf if BOUNDARY in (phone, other) else 1.0


def _filled(owners: Sequence[int | None], spoken: Sequence[str]) -> list[int]:
    """A phone without a counterpart goes with the phone before it in the same chunk, else with the one after it."""
    filled = list(owners)
    for index in range(1, len(filled)):
        if filled[index] is None and spoken[index - 1] != BOUNDARY:
            filled[index] = filled[index - 1]
    for index in reversed(range(len(filled) - 1)):
        if filled[index] is None and spoken[index + 1] != BOUNDARY:
            filled[index] = filled[index + 1]
    result, last = [], 0  # a whole chunk that no word explains goes with the word before it
    for owner in filled:
        last = last if owner is None else owner
        result.append(last)
    return result
