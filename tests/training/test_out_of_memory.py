"""R21: the allocator itself refuses, under a real limit of this process's address space."""

import gc
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from hmmtts.batch import Batch
from hmmtts.data.loader import Loading
from hmmtts.nn.lengths import Mean
from hmmtts.training.faults import EnvironmentFault
from hmmtts.training.out_of_memory import advice
from hmmtts.training.schedule import Constant
from hmmtts.training.splitting import SplittingTask
from hmmtts.training.task import Task
from tests.training.toy import Indices, ToyModel, collate

MIB = 2**20


@contextmanager
def only(more: int) -> Iterator[None]:
    """So many bytes beyond what the process has now, and what other tests have left in cycles does not become room on the way."""
    gc.collect()
    now = 1024 * next(
        int(line.split()[1])
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmSize")
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class Hungry(ToyModel):
    """300 MiB of address space an utterance, from the third batch of training on, in forward or in backward."""

    def __init__(self, backward: bool) -> None:
        super().__init__()
        self.backward, self.batches = backward, 0
        self.layers = torch.nn.Sequential(
            *(layer for layer in self.layers if "Linear" in type(layer).__name__)
        )

    def means(self, batch: Batch) -> dict[str, Mean]:
        means = super().means(batch)
        if self.training and torch.is_grad_enabled():
            self.batches += 1
            if self.batches > 2 and self.backward:
                means["mel"].total.register_hook(partial(eat, len(batch.names)))
            elif self.batches > 2:
                eat(len(batch.names), means["mel"].total)
        return means


def eat(utterances: int, gradient: torch.Tensor) -> None:
    torch.empty(300 * MIB * utterances, dtype=torch.uint8)


class Weights(Callback):
    def __init__(self) -> None:
        self.after: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Task, *_: object) -> None:
        self.after.append(torch.cat([p.detach().flatten() for p in pl_module.parameters()]))


def train(kind: type[Task], model: ToyModel, accumulate: int = 1) -> Weights:
    torch.manual_seed(1)
    task = kind(model, {"mel": 1.0, "size": 0.1}, partial(torch.optim.SGD, lr=0.1), Constant())
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    data = torch.utils.data.DataLoader(Indices(), batch_size=4, collate_fn=collate)
    weights = Weights()
    trainer = Trainer(
        accelerator="cpu", max_steps=4 // accumulate, logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, callbacks=[weights], accumulate_grad_batches=accumulate, gradient_clip_val=1.0,
    )  # fmt: skip
    trainer.fit(task, data)
    return weights


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_a_batch_that_does_not_fit_stops_the_run_by_name(backward):
    with only(700 * MIB), pytest.raises(EnvironmentFault) as stopped:
        train(Task, Hungry(backward))
    assert str(stopped.value) == (
        "the batch [u8, u9, u10, u11] (T=5 frames, S=0 symbols) does not fit in memory: take smaller batches"
    )


@pytest.mark.parametrize("accumulate", [pytest.param(1, marks=pytest.mark.process), 2])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_a_batch_that_does_not_fit_is_taken_in_parts_with_the_same_gradient(backward, accumulate, caplog):
    with only(700 * MIB):  # two utterances fit, four do not
        got = train(SplittingTask, Hungry(backward), accumulate)
    step = {1: 3, 2: 2}[accumulate]
    assert (
        f"step {step}: memory ran out: the batch is taken in 2 parts: rank 0: [u8, u9, u10, u11]"
        in caplog.text
    )
    assert caplog.text.count("in 2 parts") == 2
    assert "in 4 parts" not in caplog.text
    expected = train(Task, Hungry(backward), accumulate)
    for one, other in zip(got.after, expected.after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert torch.equal(got.after[1], expected.after[1])  # what fits is the same bit for bit


def test_one_utterance_that_does_not_fit_stops_the_run(caplog):
    with (
        only(250 * MIB),
        pytest.raises(EnvironmentFault, match="memory runs out even with one utterance at a time: rank 0"),
    ):
        train(SplittingTask, Hungry(backward=False))
    assert caplog.text.count("memory ran out") == 2


def test_the_advice_names_the_settings_and_their_values():
    words = advice(Loading(max_seconds=60, max_items=8))
    assert words.startswith(
        "lower data.max_seconds (now 60) or data.max_items (now 8), or choose memory=checkpointing"
    )
