"""The training step of the public neural HMMs: a Python loop over frames, every state of every frame through the whole
output net, each frame checkpointed. Written from the equations. b utterances, n states, t frames, m bins, d cell."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hmmtts.hmm import LeftToRight, left_to_right_from_logits
from hmmtts.nn.neural_hmm import NeuralHMM
from hmmtts.nn.neural_hmm.outputs import exact, law, log_density


def log_likelihood(
    model: NeuralHMM,
    cells: Float[Tensor, "b n d"],
    x: Float[Tensor, "b t m"],
    frames: Int[Tensor, "b"],
    states: Int[Tensor, "b"],
) -> Float[Tensor, "b"]:
    """In the same parameters as ours, with the dropout off. Under autocast densities and recursion stay exact."""
    memory, last, every = model.memory, states - 1, torch.arange(len(x), device=x.device)
    n = torch.arange(cells.shape[1], device=x.device)

    def step(before: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        for layer in memory.layers:
            before = torch.relu(layer(before))
        with torch.autocast(x.device.type, enabled=False):
            h, c = torch.lstm_cell(exact(before), (h, c), *memory.lstm.parameters())
        pair = torch.cat([h[:, None].expand(-1, cells.shape[1], -1), cells], 2)
        return h, c, model.outputs.last(torch.relu(model.outputs.first(pair)))

    before = memory.go.expand(len(x), -1)
    h = c = x.new_zeros(len(x), memory.lstm.hidden_size)
    alpha = x.new_full(cells.shape[:2], IMPOSSIBLE)
    total: list[Tensor] = []
    arcs: LeftToRight
    for t in range(x.shape[1]):
        h, c, out = checkpoint(step, before, h, c, use_reentrant=False)
        found = law(exact(out), model.outputs.floor)
        log_obs = log_density(x[:, t, None], found)
        if t == 0:
            alpha = torch.where(n == 0, log_obs, alpha)
        else:
            moved = torch.cat([alpha.new_full((len(x), 1), IMPOSSIBLE), (alpha + arcs.move)[:, :-1]], 1)
            alpha = log_obs + torch.logaddexp(alpha + arcs.stay, moved)
        arcs = left_to_right_from_logits(found.leave)
        total.append((alpha + arcs.move)[every, last])
        before = x[:, t]
    return torch.stack(total, 1)[every, frames - 1]


IMPOSSIBLE = -1e30  # finite: logaddexp of two -inf has no gradient
