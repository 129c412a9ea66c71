"""Activations that are computed again in the backward pass instead of kept: less memory, about a third more time.

b utterances, s places in a sequence, d width.
"""

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def called(module: nn.Module, *given: Any, recompute: bool) -> Any:
    """module(*given). Whether its activations are kept changes no value and no gradient, whatever is random in it."""
    if recompute and torch.is_grad_enabled():
        # use_reentrant=True fails under data-parallel training: it marks a parameter ready twice.
        return checkpoint(module, *given, use_reentrant=False)
    return module(*given)


class Stack(nn.ModuleList):
    """Blocks one after the other. With `recompute` only what passes between them is kept (hmmtts.training.memory)."""

    recompute = False

    def forward(self, x: Any, *given: Any) -> Any:
        for block in self:
            x = called(block, x, *given, recompute=self.recompute)
        return x
