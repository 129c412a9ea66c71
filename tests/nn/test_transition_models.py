"""Trained arcs: what they forbid stays impossible, and they learn what fixed ones cannot know."""

import math

import pytest
import torch

from hmmtts.hmm import log_likelihood, viterbi
from hmmtts.hmm.analysis import validate
from hmmtts.nn.transition_models import FrameTransitions, TransitionMatrix


def cued(seed: int, utterances: int = 16, states: int = 4):
    """A cue in the sound (feature 0) at the last frame of every state."""
    generator = torch.Generator().manual_seed(seed)
    durations = torch.randint(2, 12, (utterances, states), generator=generator)
    frames = durations.sum(1)
    x = 0.1 * torch.randn(utterances, int(frames.max()), 2, generator=generator)
    last = durations.cumsum(1) - 1
    x[torch.arange(utterances)[:, None], last, 0] += 1
    return x, frames, durations


def test_frames_move_the_arcs():
    torch.manual_seed(0)
    x, frames, durations = cued(0)
    cells = torch.randn(4, 8)
    arcs = FrameTransitions(8, 2, size=4, frames_per_state=6.5)
    start = arcs(cells.expand(16, -1, -1), x)
    torch.testing.assert_close((start.stay.exp() + start.move.exp()), torch.ones_like(start.stay))
    torch.testing.assert_close(1 / start.move.exp(), torch.full_like(start.move, 6.5))

    def topology(x):
        return arcs(cells.expand(len(x), -1, -1), x)

    state = (torch.arange(x.shape[1])[:, None] >= durations.cumsum(1)[:, None]).sum(2)
    known = -3.0 * (state[:, :, None] != torch.arange(4))  # emissions that tell the states
    optimiser = torch.optim.Adam(arcs.parameters(), lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        (-log_likelihood(known, topology(x), frames)).mean().backward()
        optimiser.step()
    x, frames, durations = cued(1)
    path = viterbi(torch.zeros(16, x.shape[1], 4), topology(x), frames).path  # and none that do
    found = torch.stack([(path == state).sum(1) for state in range(4)], 1)
    assert (found == durations).float().mean() > 0.9


def test_forbidden_arcs_stay_impossible_while_training():
    torch.manual_seed(0)
    allowed = torch.tensor([[True, True, False], [False, True, True], [True, False, True]])
    starts = torch.tensor([True, False, False])
    matrix = TransitionMatrix(3, allowed, starts, context=2)
    speakers = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    log_obs = 3 * torch.randn(6, 20, 3)
    frames = torch.full((6,), 20)
    optimiser = torch.optim.Adam(matrix.parameters(), lr=0.1)

    def loss():
        halves = zip(log_obs.split(3), speakers, strict=True)
        return -sum(log_likelihood(x, matrix(speaker), frames[:3]).sum() for x, speaker in halves)

    before = float(loss().detach())
    for _ in range(30):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert float(loss().detach()) < before - 1
    first, second = (matrix(speaker) for speaker in speakers)
    assert (first.transition - second.transition)[allowed].abs().max() > 0.1  # each its own
    for dense in (first, second):
        validate(dense)
        assert (dense.transition[~allowed] == -math.inf).all()
        assert dense.initial.exp().tolist() == [1, 0, 0]
    assert all(parameter.grad.isfinite().all() for parameter in matrix.parameters())


def test_says_what_is_missing():
    with pytest.raises(ValueError, match="allowed must have a state in every row, got none in row 1"):
        TransitionMatrix(2, torch.tensor([[True, False], [False, False]]))
    with pytest.raises(ValueError, match=r"a context must be given exactly where .* \(context=SIZE\)"):
        TransitionMatrix(2)(torch.zeros(3))
