"""What the model remembers of the frames so far. b utterances, t frames, m mel bins, p prenet, h memory."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

Recurrent = tuple[Float[Tensor, "b h"], Float[Tensor, "b h"]]
Kept = Bool[Tensor, "b t 2 p"]  # which units of the two layers of the prenet dropout leaves on


class Memory(nn.Module):
    """A prenet that forgets half of each frame, always, and an LSTM over what is left.

    The dropout is part of the model: without it the next frame is guessed from the last one, and the text is ignored.
    In the first `patience` batches of training it remembers nothing, so that the text has to explain the sound.
    """

    def __init__(
        self, bins: int, prenet: int = 256, width: int = 1024, dropout: float = 0.5, patience: int = 0
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and less than 1, got {dropout}")
        self.prenet, self.dropout, self.patience = prenet, dropout, patience
        # What stands before the first frame. Not zero: the prenet, without biases, would pass it no gradient.
        self.go = nn.Parameter(0.1 * torch.randn(bins))
        layers = [nn.Linear(size, prenet, bias=False) for size in (bins, prenet)]
        self.lstm = nn.LSTM(prenet, width, batch_first=True)
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
        self.layers = nn.ModuleList(layers)
        self.batches: Tensor = nn.Buffer(torch.tensor(0))  # of training so far: part of the checkpoint

    def forward(self, x: Float[Tensor, "b t m"], kept: Kept | None = None) -> Float[Tensor, "b t h"]:
        """For each frame, what went before it. Without `kept` the dropout is drawn anew: the way of training."""
        before = torch.cat([self.go.to(x).expand(len(x), 1, -1), x[:, :-1]], 1)
        h = self.known(self.lstm(self.prepare(before, kept))[0])
        if self.training:
            self.batches.add_(1)
        return h

    def known(self, h: Float[Tensor, "*b h"]) -> Float[Tensor, "*b h"]:
        """Nothing, as long as it is to be patient. No branch: every parameter takes part in every step."""
        return torch.where(self.batches >= self.patience, h, 0.0)

    def prepare(self, before: Float[Tensor, "b t m"], kept: Kept | None) -> Float[Tensor, "b t p"]:
        for index, layer in enumerate(self.layers):
            before = functional.relu(layer(before))
            if kept is None:
                before = functional.dropout(before, self.dropout, training=True)
            else:
                before = before * (kept[:, :, index].to(before) / (1 - self.dropout))
        return before

    def step(
        self, before: Float[Tensor, "b m"], kept: Bool[Tensor, "b 2 p"], state: Recurrent | None
    ) -> tuple[Float[Tensor, "b h"], Recurrent]:
        """One frame further: the same numbers as `forward`."""
        if state is None:
            zero = before.new_zeros(len(before), self.lstm.hidden_size)
            state = zero, zero
        x = self.prepare(before[:, None], kept[:, None])[:, 0]
        # nn.LSTM would bring all of its weights into another order for every single frame.
        state = torch.lstm_cell(x, state, *self.lstm.parameters())
        return self.known(state[0]), state
