"""Small neural HMMs in float64 and batches for them."""

import torch

from hmmtts.nn.neural_hmm import NeuralHMM

M, D, P = 3, 5, 6  # bins, cell, prenet


def small(seed=0, **options) -> NeuralHMM:
    torch.manual_seed(seed)
    model = NeuralHMM(M, D, prenet=P, memory=7, hidden=8, **options).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def batch(states=(3, 1, 4, 2), frames=(7, 1, 4, 9), seed=0):
    generator = torch.Generator().manual_seed(seed)
    states, frames = torch.tensor(states), torch.tensor(frames)
    b, n, t = len(states), int(states.max()), int(frames.max())
    cells = torch.randn(b, n, D, generator=generator, dtype=torch.float64)
    x = torch.randn(b, t, M, generator=generator, dtype=torch.float64)
    kept = torch.rand(b, t, 2, P, generator=generator) > 0.5
    return cells.requires_grad_(), x.requires_grad_(), frames, states, kept
