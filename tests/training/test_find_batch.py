"""The search for a batch size: against a machine that is known to hold so much."""

import pytest

from hmmtts.training.find_batch import CLOSE, Tried, search


def machine(holds: float, most_items: int = 1000):
    def attempt(size: float) -> Tried:
        return Tried(size, size <= holds, int(size), size, min(most_items, int(size)))

    return attempt


@pytest.mark.parametrize("holds", [10.2, 73.0, 640.0])
def test_the_largest_size_is_found_within_a_tenth(holds):
    tries = list(search(machine(holds), least=10.0, most=10_000.0))
    best = max(found.max_seconds for found in tries if found.fitted)
    assert holds / CLOSE <= best <= holds
    assert len(tries) < 14
    assert all(found.fitted == (found.max_seconds <= holds) for found in tries)


def test_it_ends_where_nothing_fits_and_where_nothing_grows():
    assert [found.fitted for found in search(machine(5.0), 10.0, 1000.0)] == [False]
    assert [found.fitted for found in search(machine(1e9, most_items=30), 10.0, 1e6)] == [
        True,
        True,
        True,
        True,
    ]
    assert all(
        found.max_seconds < 100 for found in search(machine(1e9), 10.0, 100.0)
    )  # the corpus has no more
