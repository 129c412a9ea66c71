"""Items to a Batch: padded at the end with zeros, times with NaN."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hmmtts.batch import Batch
from hmmtts.data.dataset import Item
from hmmtts.text.frontend import Mark


def collate(items: Sequence[Item]) -> Batch:
    def padded(field: str, value: float = 0.0) -> Tensor:
        return pad_sequence([getattr(item, field) for item in items], batch_first=True, padding_value=value)

    def lengths(field: str) -> Tensor:
        return torch.tensor([len(getattr(item, field)) for item in items])

    return Batch(
        names=[item.name for item in items],
        ids=padded("ids"),
        symbols=lengths("ids"),
        marks=padded("marks", Mark.PAUSE),
        mel=padded("mel"),
        frames=lengths("mel"),
        f0=padded("f0"),
        acoustic=padded("acoustic"),
        acoustic_frames=lengths("acoustic"),
        speaker=torch.tensor([item.speaker for item in items]),
        language=torch.tensor([item.language for item in items]),
        starts=padded("starts", torch.nan),
        ends=padded("ends", torch.nan),
    )
