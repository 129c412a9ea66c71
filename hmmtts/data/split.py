"""Train, valid and test by a hash of the id, for corpora that come without lists: 80, 10 and 10 per cent.

An utterance keeps its place when others are added or removed, on every machine.
"""

import hashlib
from collections.abc import Iterable

from hmmtts.data.manifest import SPLITS

TRAIN, VALID = 0.8, 0.9  # upper ends of train and of valid on [0, 1)


def place(name: str) -> float:
    """A number in [0, 1) that depends on nothing but the id."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def split(names: Iterable[str]) -> dict[str, str]:
    """The split of every id, in the order given.

    In a small corpus chance may leave valid or test empty; then the utterance of train nearest to the border moves.
    """
    places = {name: place(name) for name in names}
    if len(places) < len(SPLITS):
        raise ValueError(
            f"{len(places)} utterances cannot fill {', '.join(SPLITS)}: give at least {len(SPLITS)}"
        )
    of = {name: "train" if at < TRAIN else "valid" if at < VALID else "test" for name, at in places.items()}
    for empty in (part for part in SPLITS if part not in of.values()):
        fullest = max(SPLITS, key=list(of.values()).count)
        of[max((name for name in of if of[name] == fullest), key=places.__getitem__)] = empty
    return of


def describe(of: dict[str, str]) -> str:
    """What the log says about a split."""
    counts = ", ".join(f"{list(of.values()).count(part)} {part}" for part in SPLITS)
    return f"split by hash of the id: {counts}"
