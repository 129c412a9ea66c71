"""Which parts of a voice compute their activations again instead of keeping them: conf/memory."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from hmmtts.nn.layer import HMMLayer
from hmmtts.nn.recompute import Stack


@dataclass(frozen=True)
class Memory:
    encoder: bool = False
    decoder: bool = False
    emissions: bool = False
    out_of_memory: Literal["stop", "split"] = "stop"

    def __post_init__(self) -> None:
        if self.out_of_memory not in ("stop", "split"):
            raise ValueError(f"out_of_memory must be stop or split, got {self.out_of_memory!r}")

    def apply(self, model: nn.Module) -> None:
        """No value and no gradient changes, and no name of a parameter."""
        parts = {
            "encoder": self.encoder,
            "duration": self.encoder,
            "pitch": self.decoder,
            "decoder": self.decoder,
            "flow": self.decoder,
        }
        for name, part in model.named_children():
            for module in part.modules():
                if isinstance(module, Stack):
                    module.recompute = parts.get(name, self.encoder)
                elif isinstance(module, HMMLayer):
                    module.recompute = self.emissions
