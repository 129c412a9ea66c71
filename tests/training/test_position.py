"""The randomness of every batch is its own, and costs nothing that stays."""

import random

import lightning
import numpy as np
import pytest
import torch

from hmmtts.training.callbacks.position import Position, seed_of
from tests.training.memory import KNOWN, held


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


class Rank:
    global_rank = 1


def test_a_batch_draws_what_lightning_would_draw_from_its_seed():
    position = Position(seed=3)
    position.batches = 17
    position.on_train_batch_start(Rank())
    found = drawn()
    lightning.seed_everything(seed_of(3, 17, 1), verbose=False)
    assert found == drawn()


@pytest.mark.skipif(not KNOWN, reason="the C library does not say what it holds")
def test_two_thousand_seeds_leave_nothing_behind():
    position = Position(seed=3)
    for position.batches in range(100):
        position.on_train_batch_start(Rank())
    before = held()
    for position.batches in range(100, 2_100):
        position.on_train_batch_start(Rank())
    assert held() - before < 40_000  # 80 bytes each, where every seed goes through the environment
