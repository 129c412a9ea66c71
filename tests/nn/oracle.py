"""The neural HMM straight from its equations: one utterance, one frame, one state at a time, in autograd's hands."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from hmmtts.nn.neural_hmm import NeuralHMM


def log_likelihood(model: NeuralHMM, cells: Tensor, x: Tensor, kept: Tensor) -> Tensor:
    """log p(x[t m] | cells[n d]); kept[t 2 p] are the units that the prenet's dropout leaves on."""
    out = outputs(model, cells, x, kept)
    m = x.shape[1]
    states = len(cells)
    alpha: dict[int, Tensor] = {}
    for t in range(len(x)):
        scores = []
        for n in range(states):
            sigma = model.outputs.floor + functional.softplus(out[t, n, m : 2 * m])
            z = (x[t] - out[t, n, :m]) / sigma
            scores.append((-0.5 * z**2 - sigma.log() - 0.5 * math.log(2 * math.pi)).sum())
        if t == 0:
            alpha = {0: scores[0]}
            continue
        r = out[t - 1, :, 2 * m]
        reached: dict[int, Tensor] = {}
        for n in range(states):
            ways = []
            if n in alpha:
                ways.append(alpha[n] + functional.logsigmoid(-r[n]))
            if n - 1 in alpha:
                ways.append(alpha[n - 1] + functional.logsigmoid(r[n - 1]))
            if ways:
                reached[n] = scores[n] + torch.logsumexp(torch.stack(ways), 0)
        alpha = reached
    return alpha[states - 1] + functional.logsigmoid(out[-1, states - 1, 2 * m])


def outputs(model: NeuralHMM, cells: Tensor, x: Tensor, kept: Tensor) -> Tensor:
    """[t n o]: the output net on [h_t; cell_n], the memory one LSTM cell at a time."""
    memory = model.memory
    cell = torch.nn.LSTMCell(memory.prenet, memory.lstm.hidden_size)
    weights = {name: getattr(memory.lstm, f"{name}_l0") for name, _ in cell.named_parameters()}
    before, state, rows = memory.go, None, []
    for t in range(len(x)):
        a = before
        for i, layer in enumerate(memory.layers):
            a = functional.relu(layer.weight @ a) * kept[t, i] / (1 - memory.dropout)
        arguments = (a[None],) if state is None else (a[None], state)
        state = torch.func.functional_call(cell, weights, arguments)
        h = state[0][0]
        rows.append(
            [model.outputs.last(functional.relu(model.outputs.first(torch.cat([h, e])))) for e in cells]
        )
        before = x[t]
    return torch.stack([torch.stack(row) for row in rows])
