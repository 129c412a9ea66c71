"""The phone tier of a Praat TextGrid."""

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from praatio import textgrid
from torch import Tensor

from hmmtts.metrics.timing import Spans

TIERS = ("phones", "phone", "phonemes")
SILENCES = frozenset({"", "sil", "sp", "spn", "pau", "<eps>", "SIL", "SP"})


class Phones(NamedTuple):
    """The phones of one utterance, pauses left out."""

    labels: list[str]
    starts: Float[Tensor, "s"]
    ends: Float[Tensor, "s"]
    seconds: float  # of the whole utterance

    @property
    def spans(self) -> Spans:
        """As a batch of one."""
        return Spans(self.starts[None], self.ends[None])

    @property
    def durations(self) -> Float[Tensor, "s"]:
        return self.ends - self.starts


def read_phones(path: Path) -> Phones:
    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    except Exception as error:  # praatio answers a foreign file with whatever its parser trips over
        raise ValueError(f"{path}: not readable as a TextGrid ({type(error).__name__}: {error})") from error
    name = next((tier for tier in TIERS if tier in grid.tierNames), None)
    if name is None:
        raise ValueError(
            f"{path}: no tier is called {' or '.join(TIERS)}, only {', '.join(grid.tierNames) or 'none'}"
        )
    tier = grid.getTier(name)
    if not isinstance(tier, textgrid.IntervalTier):
        raise ValueError(f"{path}: tier {name} holds points, phones need intervals")
    spoken = [entry for entry in tier.entries if entry.label not in SILENCES]
    times = torch.tensor([[entry.start, entry.end] for entry in spoken], dtype=torch.float64).reshape(-1, 2)
    return Phones([entry.label for entry in spoken], times[:, 0], times[:, 1], float(grid.maxTimestamp))
