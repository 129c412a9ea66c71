"""R27: the code that made a checkpoint has changed since, and the format has not: exit code 4, the file and the reason."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hmmtts import __version__, cli
from hmmtts.build import bundle, checkpoint
from hmmtts.build.checkpoint import CheckpointError
from hmmtts.training.faults import exit_code
from tests.synthesis import voices
from tests.training.test_changed_corpus import begun, life  # noqa: F401

Change = Callable[[dict, str], None]  # of a checkpoint's content and the name of one of its tensors


def renamed(content: dict, name: str) -> None:
    content["state_dict"]["model.new"] = content["state_dict"].pop(name)


def resized(content: dict, name: str) -> None:
    content["state_dict"][name] = torch.zeros(2, 2)


def no_longer(content: dict, name: str) -> None:
    content["hmmtts"]["config"]["encoder"]["depth"] = 3


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
    change: Change,
    told: str,
    begun: Path,  # noqa: F811
):
    last = begun / "run/checkpoints/last.ckpt"
    content = checkpoint.load(last)
    change(content, "model.decoder.out.weight")
    checkpoint.save(content, last)
    before = last.read_bytes()
    with pytest.raises(
        CheckpointError, match=rf"last\.ckpt was made by hmmtts .*cannot build its model: .*{told}"
    ) as end:
        life(4)
    assert exit_code(end.value) == 4
    assert last.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (no_longer, "unexpected keyword argument 'depth'"),
        (renamed, 'Missing key(s) in state_dict: "placed.weight". Unexpected key(s) in state_dict: "new"'),
        (resized, "size mismatch for placed.weight"),
    ],
)
def test_a_voice_that_other_code_made_is_refused_with_the_reason(
    change: Change, told: str, tmp_path: Path, monkeypatch, capsys
):
    voice = tmp_path / "voice.ckpt"
    bundle.save(voices.bundle(voices.SMALL), voice)
    content = checkpoint.load(voice)
    change(content, "model.placed.weight")
    checkpoint.save(content, voice)
    monkeypatch.setattr(
        sys, "argv", ["hmmtts", "synthesize", str(voice), "A word.", "-o", str(tmp_path / "a.wav")]
    )
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr().err
    assert end.value.code == 4, said
    assert f"voice.ckpt was made by hmmtts {__version__}" in said
    assert told in said
