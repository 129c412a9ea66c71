"""A trained panel as a checkpoint file of tensors and plain data."""

from pathlib import Path

import numpy as np
import torch

from hmmtts import __version__
from hmmtts.align.aligner import Aligner
from hmmtts.align.centring import Centring
from hmmtts.align.listening import Listening
from hmmtts.align.mixtures import Mixtures
from hmmtts.align.script import Inventory
from hmmtts.align.training import Panel
from hmmtts.build import checkpoint


def save_panel(panel: Panel, path: Path, key: str) -> None:
    content = {
        "hmmtts": {"format": checkpoint.FORMAT, "version": __version__},
        "key": key,
        "scout": _plain(panel.scout),
        "coarse": [_plain(listener) for listener in panel.coarse],
        "fine": [_plain(listener) for listener in panel.fine],
    }
    checkpoint.save(content, path)


def load_panel(path: Path, key: str) -> Panel | None:
    """None where there is none of this key, or it is damaged: then it is trained again."""
    try:
        content = checkpoint.load(path)
    except (checkpoint.CheckpointError, OSError):
        return None
    if content.get("key") != key:
        return None
    return Panel(
        _listener(content["scout"]),
        tuple(map(_listener, content["coarse"])),
        tuple(map(_listener, content["fine"])),
    )


def _plain(aligner: Aligner) -> dict:
    return {
        "listening": dict(aligner.listening._asdict()),
        "phase": aligner.phase,
        "inventory": dict(aligner.inventory._asdict()),
        "centring": _tensors(aligner.centring),
        "model": dict(aligner.model._asdict()),
        "numbers": aligner.numbers,
        "kinds": aligner.kinds,
    }


def _listener(content: dict) -> Aligner:
    return Aligner(
        Listening(**content["listening"]),
        content["phase"],
        Inventory(**content["inventory"]),
        _centring(content["centring"]),
        Mixtures(**content["model"]),
        content["numbers"],
        content["kinds"],
    )


def _tensors(centring: Centring) -> dict:
    return {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in centring._asdict().items()
    }


def _centring(content: dict) -> Centring:
    arrays = {name: value.numpy() for name, value in content.items() if isinstance(value, torch.Tensor)}
    return Centring(**arrays, hop=content["hop"])
