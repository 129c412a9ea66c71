"""Laws from context: a network says how long each state lasts. b utterances, n states, w width, d durations."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hmmtts.hmm import SemiMarkovLeftToRight
from hmmtts.nn.duration_laws.base import Law, log_probabilities, range_of


class Predicted(nn.Module):
    """cells [b n w] -> the durations of every state, from `shortest` to `longest` frames and never beyond.

    The free parameters of the law are linear in the cell; with the law `Table`, all probabilities are. All states start
    equal, around `frames_per_state`.
    """

    def __init__(
        self, width: int, law: Law, longest: int, shortest: int = 1, frames_per_state: float = 6.0
    ) -> None:
        super().__init__()
        d = range_of(shortest, longest)
        if not shortest <= frames_per_state <= longest:
            raise ValueError(
                f"frames_per_state must lie between shortest {shortest} and longest {longest}, got {frames_per_state}"
            )
        self.law, self.shortest, self.longest = law, shortest, longest
        start = law.start(frames_per_state, d)
        self.free = nn.Linear(width, len(start))
        nn.init.zeros_(self.free.weight)
        with torch.no_grad():
            self.free.bias.copy_(start)

    def log_probabilities(self, cells: Float[Tensor, "b n w"]) -> Float[Tensor, "b n d"]:
        with torch.autocast(cells.device.type, enabled=False):
            return log_probabilities(self.law, self.free(cells.float()), self.shortest, self.longest)

    def forward(self, cells: Float[Tensor, "b n w"]) -> SemiMarkovLeftToRight:
        return SemiMarkovLeftToRight(self.log_probabilities(cells))
