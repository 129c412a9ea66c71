"""What a user may choose goes together, or is refused at once."""

import logging
from functools import cache, partial
from itertools import product
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from hmmtts.training.callbacks.ema import EMA
from hmmtts.training.callbacks.finite import SkipNonFinite
from hmmtts.training.callbacks.position import Position
from hmmtts.training.combinations import STRATEGY, check_trainer
from hmmtts.training.faults import ConfigError
from hmmtts.training.splitting import SplittingTask
from hmmtts.training.task import Task
from hmmtts.training.trial import Shape, batch_of, split, task_of
from tests.training.small import composed

VOICES = {
    "hmm": (), "neural_hmm": ("aligner=neural_hmm",), "neural_hmm_flow": ("aligner=neural_hmm", "decoder=flow")
}  # fmt: skip


@cache
def config(voice: str) -> dict:
    return composed(*VOICES[voice])


def trained(
    voice: str, precision: str, recompute: bool, parts: int, clip: float, kind: type[Task], folder: Path
) -> torch.Tensor:
    """How two steps change the weights."""
    chosen = config(voice)
    memory = chosen["memory"] | dict.fromkeys(("encoder", "decoder", "emissions"), recompute)
    torch.manual_seed(0)
    task = task_of(chosen | {"memory": memory})
    whole = batch_of(Shape(4, 5, 30), task.model.sizes)
    with torch.no_grad():
        task.train().means(
            whole
        )  # a flow starts from its first batch, which is half of this one when it is accumulated
    start = weights(task)
    if kind is SplittingTask:
        task = SplittingTask(task.model, task.weights, task.optimizer, task.schedule, pace=task.pace)
    task.optimizer = partial(torch.optim.SGD, lr=0.01)
    trainer = Trainer(
        accelerator="cpu", precision=precision, accumulate_grad_batches=parts, gradient_clip_val=clip, max_steps=2,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[Position(1), SkipNonFinite(), EMA()], default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(task, torch.utils.data.DataLoader(split(whole, parts) * 2, batch_size=None))
    return weights(task) - start


def weights(task: Task) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in task.parameters()])


@pytest.mark.process
@pytest.mark.parametrize("voice", VOICES)
def test_all_choices_of_memory_and_precision_train_alike(voice, tmp_path: Path):
    """The same step whatever is recomputed, accumulated (batches of equal lengths) or split; bfloat16 only near it."""
    for clip in (0.0, 1.0):
        plain = trained(voice, "32-true", False, 1, clip, Task, tmp_path)
        assert plain.norm() > 0
        for precision, recompute, parts, kind in product(
            ("32-true", "bf16-mixed", "16-mixed"), (False, True), (1, 2), (Task, SplittingTask)
        ):
            found = trained(voice, precision, recompute, parts, clip, kind, tmp_path)
            off = float((found - plain).norm() / plain.norm())
            assert off < (1e-3 if precision == "32-true" else 0.2), (
                precision,
                recompute,
                parts,
                clip,
                kind,
                off,
            )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"precision": "16-true"},
            "trainer.precision must be one of 32-true, bf16-mixed, 16-mixed, got '16-true'",
        ),
        ({"strategy": "fsdp"}, f"trainer.strategy must stay {STRATEGY}, got 'fsdp'"),
        (
            {"gradient_clip_val": -1},
            "trainer.gradient_clip_val must be at least 0, which clips nothing, got -1",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_at_once(changed, message):
    with pytest.raises(ConfigError, match=message):
        check_trainer(plain(**changed))


def test_half_precision_cannot_clip_what_a_fused_optimiser_unscales():
    with pytest.raises(ConfigError, match=r"optim\.optimizer\.fused=true unscales"):
        check_trainer(plain(precision="16-mixed") | {"optim": {"optimizer": {"fused": True}}})


def test_float16_on_a_cpu_is_said_to_be_bfloat16(caplog):
    with caplog.at_level(logging.WARNING):
        check_trainer(plain(precision="16-mixed", accelerator="cpu"))
    assert caplog.messages == [
        "trainer.precision=16-mixed: float16 needs a GPU; on a CPU this is bfloat16, as trainer.precision=bf16-mixed"
    ]
    check_trainer(plain(precision="bf16-mixed", accelerator="cpu"))
    assert len(caplog.messages) == 1


def plain(**changed) -> dict:
    trainer = {
        "precision": "32-true", "strategy": {"_target_": STRATEGY}, "gradient_clip_val": 1.0, "accelerator": "auto"
    }  # fmt: skip
    return {"trainer": trainer | changed, "optim": {"optimizer": {}}}
