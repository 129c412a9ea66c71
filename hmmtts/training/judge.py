"""What a validation reports beyond the losses."""

from typing import Protocol

from torch import nn

from hmmtts.batch import Batch


class Judge(Protocol):
    """Figures accumulated over the batches of a validation, on every rank, and reduced over all of them."""

    def update(self, model: nn.Module, batch: Batch) -> None: ...

    def compute(self) -> dict[str, float]: ...

    def reset(self) -> None: ...
