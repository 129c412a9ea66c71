"""The split by hash: stable, in the stated shares, never empty."""

import random

import pytest

from hmmtts.data.split import describe, split

NAMES = [f"LJ{n:03}-{m:04}" for n in range(50) for m in range(100)]


def test_shares():
    parts = list(split(NAMES).values())
    assert [round(parts.count(part) / len(parts), 2) for part in ("train", "valid", "test")] == [
        0.8,
        0.1,
        0.1,
    ]


def test_others_and_their_order_do_not_matter():
    whole = split(NAMES)
    some = random.Random(0).sample(NAMES, 1000)
    assert split(some) == {name: whole[name] for name in some}


@pytest.mark.parametrize("count", [3, 4, 5, 10, 24])
def test_no_part_is_empty(count):
    for first in range(0, 1000, 50):
        names = NAMES[first : first + count]
        of = split(names)
        assert list(of) == names
        assert set(of.values()) == {"train", "valid", "test"}


def test_too_few():
    with pytest.raises(ValueError, match="2 utterances cannot fill train, valid, test"):
        split(["a", "b"])


def test_what_the_log_says():
    assert describe({"a": "train", "b": "train", "c": "test", "d": "valid"}) == (
        "split by hash of the id: 2 train, 1 valid, 1 test"
    )
