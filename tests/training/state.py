"""What is left of a run, to compare two of them bit for bit."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hmmtts.build import checkpoint


def final_state(folder: Path, name: str = "last.ckpt") -> dict:
    content = checkpoint.load(folder / "checkpoints" / name)
    del content["callbacks"]["Checkpoints"]  # compared through best.ckpt
    return content


def assert_same(one: object, other: object) -> None:
    first, second = dict(leaves(one)), dict(leaves(other))
    assert first.keys() == second.keys()
    for where, value in first.items():
        assert same(value, second[where]), where


def same(one: object, other: object) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def digest(content: object) -> str:
    """SHA-256 over every tensor's bytes and every plain value, in order."""
    total = hashlib.sha256()
    for where, value in sorted(leaves(content)):
        plain = (
            value.contiguous().numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode()
        )
        total.update(where.encode() + b"\0" + plain + b"\0")
    return total.hexdigest()


def leaves(content: object, where: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from leaves(value, f"{where}/{key}")
    elif isinstance(content, (list, tuple)):
        for index, value in enumerate(content):
            yield from leaves(value, f"{where}/{index}")
    else:
        yield where, content


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of every figure that TensorBoard shows."""
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]
    }
