"""R27: the code of a run changes between two lives, and the format of its checkpoints does not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hmmtts.build import checkpoint
from hmmtts.build.checkpoint import CheckpointError
from hmmtts.training.faults import exit_code
from tests.training.test_changed_corpus import begun, life  # noqa: F401

NAME = "model.decoder.out.weight"


def renamed(tensors: dict) -> None:
    tensors["model.new"] = tensors.pop(NAME)


def resized(tensors: dict) -> None:
    tensors[NAME] = torch.zeros(2, 2)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            renamed,
            r'Missing key\(s\) in state_dict: "model\.decoder\.out\.weight"\. Unexpected key\(s\) .*"model\.new"',
        ),
        (resized, r"size mismatch for model\.decoder\.out\.weight: .*torch\.Size\(\[2, 2\]\)"),
    ],
    ids=["renamed", "resized"],
)
def test_a_training_that_other_code_began_is_refused_with_the_file_and_the_reason(
    change: Callable[[dict], None],
    told: str,
    begun: Path,  # noqa: F811
):
    last = begun / "run/checkpoints/last.ckpt"
    content = checkpoint.load(last)
    change(content["state_dict"])
    checkpoint.save(content, last)
    before = last.read_bytes()
    with pytest.raises(
        CheckpointError, match=rf"last\.ckpt was made by hmmtts .*cannot build its model: .*{told}"
    ) as end:
        life(4)
    assert exit_code(end.value) == 4
    assert last.read_bytes() == before
