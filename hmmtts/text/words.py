"""Which word every phone belongs to, where a synthesiser says its phones but not its words.

The phones of the sentence are matched with the phones of its words, each pronounced alone, at the least number of
edits: a word is spoken a little differently in its sentence ("of the" in one breath, "a" as a schwa).
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

BOUNDARY = ""  # between words
LONE_BOUNDARY = 0.25  # a boundary on one side only: cheap, but not free, so that equal boundaries meet
STRESS = str.maketrans("", "", "ˈˌ")


@lru_cache(maxsize=20_000)
def assign(chunks: tuple[tuple[str, ...], ...], alone: tuple[tuple[str, ...], ...]) -> tuple[int, ...]:
    """The word of every phone of the chunks (the words as the sentence has them); `alone`: the phones of each word."""
    spoken = _with_boundaries(chunks)
    known = _with_boundaries(alone)
    word_of = list(chain.from_iterable([index] * (len(word) + 1) for index, word in enumerate(alone)))
    owners: list[int | None] = [None] * len(spoken)
    for here, there in _matches(spoken, known):
        owners[here] = word_of[there]
    return tuple(
        owner for owner, phone in zip(_filled(owners, spoken), spoken, strict=True) if phone != BOUNDARY
    )


def _with_boundaries(words: Sequence[Sequence[str]]) -> list[str]:
    phones = chain.from_iterable([*(phone.translate(STRESS) for phone in word), BOUNDARY] for word in words)
    return list(phones)[:-1]


def _matches(spoken: Sequence[str], known: Sequence[str]) -> list[tuple[int, int]]:
    """The pairs of positions that the cheapest edit keeps or replaces (Levenshtein; boundaries only by themselves)."""
    alone = [LONE_BOUNDARY if phone == BOUNDARY else 1.0 for phone in known]
    rows = [list(_cumulated(alone))]
    for phone in spoken:
        above = rows[-1]
        drop = LONE_BOUNDARY if phone == BOUNDARY else 1.0
        row = [above[0] + drop]
        for index, other in enumerate(known):
            best = min(above[index + 1] + drop, row[index] + alone[index])
            row.append(min(best, above[index] + _replace(phone, other)))
        rows.append(row)
    pairs = []
    here, there = len(spoken), len(known)
    while here and there:
        cost = rows[here][there]
        if cost == rows[here - 1][there - 1] + _replace(spoken[here - 1], known[there - 1]):
            here, there = here - 1, there - 1
            pairs.append((here, there))
        elif cost == rows[here][there - 1] + alone[there - 1]:
            there -= 1
        else:
            here -= 1
    return pairs


def _cumulated(costs: Sequence[float]) -> list[float]:
    total, sums = 0.0, [0.0]
    for cost in costs:
        total += cost
        sums.append(total)
    return sums


def _replace(phone: str, other: str) -> float:
    if phone == other:
        return 0.0
    return 1e9 if BOUNDARY in (phone, other) else 1.0


def _filled(owners: list[int | None], spoken: Sequence[str]) -> list[int]:
    """A phone without a counterpart goes with the phone before it in the same chunk, else with the one after."""
    filled = list(owners)
    for step in (1, -1):
        order = range(len(filled)) if step == 1 else range(len(filled) - 1, -1, -1)
        for index in order:
            neighbour = index - step
            inside = 0 <= neighbour < len(filled) and spoken[neighbour] != BOUNDARY
            if filled[index] is None and inside:
                filled[index] = filled[neighbour]
    last = 0  # a whole chunk that no word explains goes with the word before it
    result = []
    for owner in filled:
        last = last if owner is None else owner
        result.append(last)
    return result
