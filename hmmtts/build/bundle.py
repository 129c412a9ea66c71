"""A bundle: everything that speaks and aligns with a trained model. It is a checkpoint, or a run folder with its best one."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from hydra.errors import InstantiationException
from torch import Tensor

from hmmtts import __version__
from hmmtts.audio.features import Features
from hmmtts.audio.vocoder import Vocoder
from hmmtts.build import checkpoint, objects, program
from hmmtts.build.checkpoint import CheckpointError
from hmmtts.build.facts import Facts
from hmmtts.speech_model import SpeechModel
from hmmtts.text.frontend import Frontend

SLOTS = ("text", "features", "model", "encoder", "aligner", "decoder", "vocoder")  # that a config must fill
PREFIX = "model."  # of the model's tensors in a training checkpoint


class Bundle(NamedTuple):
    model: SpeechModel  # in eval mode
    facts: Facts
    features: Features
    frontend: Frontend
    vocoder: Vocoder
    config: dict  # plain data, as composed for the training
    step: int


def find(path: str | Path) -> Path:
    """The checkpoint file that BUNDLE names."""
    path = Path(path)
    if not path.is_dir():
        return path
    best = path / "checkpoints" / "best.ckpt"
    if not best.is_file():
        raise CheckpointError(
            f"{path} is no finished run: it has no checkpoints/best.ckpt; name a .ckpt file instead"
        )
    return best


def load(path: str | Path, device: str | torch.device = "cpu", own: Sequence[str | Path] = ()) -> Bundle:
    """Verified, and built from nothing but what this program's conf/ and recipes/ name; `own`: folders of more YAML.

    The weights are the averaged ones where the training kept an average.
    """
    path = find(path)
    content = checkpoint.load(path, device)
    header = content["hmmtts"]
    for part in ("config", "facts"):
        if part not in header:
            raise CheckpointError(
                f"{path} holds no {part}: it is a checkpoint of something else than a voice"
            )
    config = header["config"]
    missing = [slot for slot in SLOTS if slot not in config]
    if missing:
        raise CheckpointError(
            f"{path} was made by another version of hmmtts: its config has no {', '.join(missing)}; train again"
        )
    program.refuse_foreign_targets(config, program.targets(*map(Path, own)))
    facts = Facts.from_state(header["facts"])
    try:
        extractors = objects.features(config)
        model = objects.model(config, facts, extractors)
        model.load_state_dict(weights(content))
    except (InstantiationException, RuntimeError) as error:
        raise made_otherwise(path, header, error) from error
    return Bundle(
        model=model.to(device).eval(),
        facts=facts,
        features=extractors,
        frontend=objects.frontend(config),
        vocoder=objects.vocoder(config, extractors),
        config=config,
        step=header["step"],
    )


def made_otherwise(path: Path, header: dict, error: Exception) -> CheckpointError:
    """The format is ours, and the model that this program builds is not the one that was trained."""
    told = " ".join(str(error.__cause__ or error).split())
    return CheckpointError(
        f"{path} was made by hmmtts {header.get('version', 'of unknown version')}, and this one, {__version__}, cannot build "
        f"its model: {told[:500]}. What to do: take that version, or train again"
    )


def weights(content: dict) -> dict[str, Tensor]:
    """The model's tensors, without the prefix that the training task puts before them."""
    average = content.get("callbacks", {}).get("EMA", {}).get("average")
    tensors = average or content["state_dict"]
    return {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}


def save(bundle: Bundle, path: str | Path) -> None:
    """A bundle alone, without what only a training needs: a third to a quarter of the size."""
    tensors = {PREFIX + name: value for name, value in bundle.model.state_dict().items()}
    header = {
        "format": checkpoint.FORMAT,
        "version": __version__,
        "step": bundle.step,
        "config": bundle.config,
    }
    checkpoint.save({"state_dict": tensors, "hmmtts": {**header, "facts": bundle.facts.state()}}, Path(path))
