"""The neural HMM over cells of text and frames of mel. b utterances, n states, t frames, m mel bins, d cell."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hmmtts import hmm
from hmmtts.hmm import LeftToRight
from hmmtts.nn.lengths import mask
from hmmtts.nn.neural_hmm import checkpointed, posterior_backward
from hmmtts.nn.neural_hmm.memory import Kept, Memory
from hmmtts.nn.neural_hmm.outputs import Outputs, exact
from hmmtts.nn.neural_hmm.posterior_backward import Net


class NeuralHMM(nn.Module):
    """log p(x | cells), exact, and all that a path through it needs.

    A path starts in state 0 and ends by leaving the last state. tau(t, n) = sigmoid(leave) governs the step from
    frame t to t + 1, in training and in synthesis alike; every state emits a frame at least.

    `backward` says how the gradient is found: "posterior" passes through the pairs of frame and state whose
    posterior exceeds `threshold` (0: exact), "checkpoint" is exact and leaves all to autograd, and so does "autograd", which keeps every activation.

    In the first `patience` batches of training the past frames are not heard.
    """

    def __init__(
        self,
        bins: int,
        cell: int,
        prenet: int = 256,
        memory: int = 1024,
        hidden: int = 1024,
        dropout: float = 0.5,
        floor: float = 0.01,
        frames_per_state: float = 7.0,
        backward: Literal["posterior", "checkpoint", "autograd"] = "posterior",
        threshold: float = 1e-6,
        patience: int = 0,
    ) -> None:
        super().__init__()
        if backward not in ("posterior", "checkpoint", "autograd"):
            raise ValueError(f"backward must be posterior, checkpoint or autograd, got {backward!r}")
        if not 0 <= threshold < 1:
            raise ValueError(
                f"threshold must be at least 0 and less than 1, got {threshold}: it is a probability"
            )
        self.backward, self.threshold = backward, threshold
        self.memory = Memory(bins, prenet, memory, dropout, patience)
        self.outputs = Outputs(memory, cell, bins, hidden, floor, frames_per_state)
        if patience:  # nothing leaps when the memory is heard at last
            nn.init.zeros_(self.outputs.first.weight[:, :memory])

    def forward(
        self,
        cells: Float[Tensor, "b n d"],
        x: Float[Tensor, "b t m"],
        frames: Int[Tensor, "b"],
        states: Int[Tensor, "b"],
        kept: Kept | None = None,
    ) -> Float[Tensor, "b"]:
        """log p(x | cells) in nats, float64. Without `kept` the prenet's dropout is drawn anew."""
        net = self.net(cells, x, frames, states, kept)
        frames, states = frames.to(x.device), states.to(x.device)
        if self.backward != "posterior":
            again = self.backward == "checkpoint"
            return checkpointed.log_likelihood(net, frames, states, self.outputs.floor, recompute=again)
        return posterior_backward.log_likelihood(net, frames, states, self.outputs.floor, self.threshold)

    log_likelihood = forward

    def scores(
        self,
        cells: Float[Tensor, "b n d"],
        x: Float[Tensor, "b t m"],
        frames: Int[Tensor, "b"],
        states: Int[Tensor, "b"],
        kept: Kept | None = None,
    ) -> tuple[Float[Tensor, "b t n"], LeftToRight]:
        """log b_t(n) and the arcs, without a graph: for posteriors and best paths."""
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            net = self.net(cells, x, frames, states, kept)
            chosen = posterior_backward.reachable(net, frames, states)
            log_obs, leave = posterior_backward.scores(net.at(net.x.dtype), chosen, self.outputs.floor)
            return log_obs, hmm.left_to_right_from_logits(leave)

    def net(
        self,
        cells: Float[Tensor, "b n d"],
        x: Float[Tensor, "b t m"],
        frames: Int[Tensor, "b"],
        states: Int[Tensor, "b"],
        kept: Kept | None,
    ) -> Net:
        """What is in the padding may be anything: here it becomes zeros."""
        x = exact(torch.where(mask(frames, x.shape[1])[..., None], x, 0.0))
        cells = torch.where(mask(states, cells.shape[1])[..., None], cells, 0.0)
        h = self.memory(x, kept)
        last = self.outputs.last
        return Net(self.outputs.of_frames(h), self.outputs.of_cells(cells), last.weight, last.bias, x)
