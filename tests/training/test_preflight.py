"""The worst batches run before training; what they cost is told, and nothing else is left of them."""

from functools import partial
from itertools import combinations

import pytest
import torch
from lightning.pytorch import Trainer

from hmmtts.batch import Batch
from hmmtts.data.sampler import Bucket
from hmmtts.nn.lengths import Mean
from hmmtts.training.callbacks.position import Position
from hmmtts.training.callbacks.preflight import Preflight
from hmmtts.training.data import SpeechData
from hmmtts.training.faults import EnvironmentFault
from hmmtts.training.schedule import Constant
from hmmtts.training.task import Task
from hmmtts.training.worst import worst
from tests.training.test_out_of_memory import MIB, Weights, eat, only
from tests.training.toy import Indices, ToyModel, collate


def test_the_worst_batches_bound_every_batch_that_can_be_drawn():
    """Against all batches of three buckets, by padded seconds, padded symbols, and their product."""
    seconds = [9.0, 8, 8, 7, 4, 4, 3, 3, 3, 2, 1, 1, 1, 1]
    symbols = [10, 9, 30, 5, 40, 3, 3, 9, 3, 20, 90, 2, 2, 2]
    buckets = [Bucket([0, 1, 2, 3], 2), Bucket([4, 5, 6, 7, 8, 9], 3), Bucket([10, 11, 12, 13], 4)]
    found = worst(buckets, seconds, symbols)

    def cost(batch, what):
        t, s = max(seconds[i] for i in batch), max(symbols[i] for i in batch)
        return len(batch) * {"longest speech": t, "longest text": s, "longest speech and text": t * s}[what]

    for what, batch in found.items():
        every = [draw for members, size in buckets for draw in combinations(members, size)]
        assert cost(batch, what) == max(cost(draw, what) for draw in every)
    assert worst([Bucket([0, 1], 1)], [5.0, 4], [2, 6]) == {
        "longest speech": [0], "longest text": [1], "longest speech and text": [1]
    }  # fmt: skip


class Starts(ToyModel):
    """It sets a weight from the first batch that it sees, counts its batches, and may need room for long speech."""

    def __init__(self, mib: int = 0) -> None:
        super().__init__()
        self.seen, self.mib = torch.nn.Buffer(torch.tensor(0)), mib

    def means(self, batch: Batch) -> dict[str, Mean]:
        if not int(self.seen):
            with torch.no_grad():
                self.layers[0].bias.copy_(batch.mel.mean().expand(8))
        self.seen += 1
        if len(batch.names) > 4:
            eat(self.mib // 300, batch.mel)
        return super().means(batch)


class Toys(SpeechData):
    def __init__(self) -> None:
        super().__init__({}, None, None, 0)  # type: ignore[arg-type]

    def worst_batches(self) -> dict[str, Batch]:
        return {"longest speech": collate([3, 4, 5, 6, 7]), "longest text": collate([1, 2])}

    def train_dataloader(self):
        return torch.utils.data.DataLoader(Indices(), batch_size=4, collate_fn=collate)

    def val_dataloader(self):
        return []


def train(*preflight: Preflight, mib: int = 0) -> tuple[Weights, ToyModel]:
    torch.manual_seed(1)
    model, weights = Starts(mib), Weights()
    task = Task(model, {"mel": 1.0, "size": 0.1}, partial(torch.optim.Adam, lr=0.1), Constant())
    trainer = Trainer(
        accelerator="cpu", max_steps=3, logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, callbacks=[Position(7), *preflight, weights], num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(task, Toys())
    return weights, model


def test_a_preflight_leaves_nothing_behind(caplog):
    """Dropout, a first batch that sets weights, a counter, the optimiser's moments: bit for bit as without it."""
    (plain, first), (flown, second) = train(), train(Preflight())
    assert all(torch.equal(one, other) for one, other in zip(plain.after, flown.after, strict=True))
    assert int(first.seen) == int(second.seen) == 3


def test_what_does_not_fit_is_named_before_the_first_step():
    with only(700 * MIB), pytest.raises(EnvironmentFault) as stopped:
        train(Preflight(), mib=1200)
    assert str(stopped.value) == (
        "preflight: the batch with the longest speech [u3, u4, u5, u6, u7] (T=5 frames, S=0 symbols) does not fit in "
        "memory: take smaller batches"
    )
