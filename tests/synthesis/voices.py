"""Voices small enough to make in a test, and a corpus whose sounds are tones, so that the truth is known."""

from pathlib import Path

import numpy as np
import soundfile
import torch
from hydra import compose, initialize_config_dir

from hmmtts import build
from hmmtts.audio.features import extract
from hmmtts.audio.normaliser import Moments, Normaliser
from hmmtts.build import objects, program
from hmmtts.build.bundle import Bundle
from hmmtts.data.collate import collate
from hmmtts.synthesis import listening
from hmmtts.text import SymbolTable
from hmmtts.training.compose import register_recipes
from hmmtts.training.config import checked

SMALL = [
    "recipe=demo", "text=characters", "threads=1", "data.workers=0", "run.name=t", "encoder.width=16", "encoder.layers=1",
    "decoder.dilations=[1]", "pitch.layers=1", "duration.layers=1", "aligner.states_per_symbol=2",
    "aligner.encoder.width=32", "vocoder.iterations=2", "features.acoustic.hop=0.005", "features.f0.resolution=1.0",
]  # fmt: skip
NEURAL = [
    "recipe=demo", "text=characters", "aligner=neural_hmm", "threads=1", "data.workers=0", "run.name=t",
    "aligner.width=16", "aligner.text.context.layers=1", "aligner.model.prenet=8", "aligner.model.memory=16",
    "aligner.model.hidden=16", "vocoder.iterations=2",
]  # fmt: skip
RATE = 22050
TONES = {"a": 300, "b": 1000, "c": 3000}
SYMBOLS = ["sil", *"abcdefghijklmnopqrstuvwxyz'"]


def tones(letters: str, seed: int) -> tuple[np.ndarray, list[float]]:
    """A sound of a tone a letter between two silences, and the time where each begins, with the end."""
    random = np.random.default_rng(seed)
    pieces = [np.zeros(3300)]
    for letter in letters:
        length = int(random.integers(1800, 3500))
        pieces.append(0.3 * np.sin(2 * np.pi * TONES[letter] * np.arange(length) / RATE))
    wave = np.concatenate([*pieces, np.zeros(3300)])
    wave = wave + 1e-3 * random.standard_normal(len(wave))
    edges = np.cumsum([0, *map(len, pieces)]) / RATE
    return wave.astype(np.float32), [*edges.tolist(), len(wave) / RATE]


def words(seed: int) -> str:
    """Two words of a, b and c, no letter twice in a row."""
    random = np.random.default_rng(seed)
    first, second = ("".join(random.permutation(list("abc"))) for _ in range(2))
    return f"{first} {second[::-1] if second[0] == first[-1] else second}"


def bundle(overrides: list[str]) -> Bundle:
    """Untrained, with statistics of tones."""
    register_recipes()
    with initialize_config_dir(str(program.folder("conf")), version_base="1.3"):
        config = checked(compose("train", overrides=overrides))
    features = objects.features(config)
    wave = torch.from_numpy(tones("abcacb", 0)[0])[None]
    mel, acoustic = (Moments.of(extract(part, wave)) for part in (features.mel, features.acoustic))
    facts = build.Facts(
        symbols=SymbolTable.learn([SYMBOLS]),
        mel=Normaliser.fit(mel, False),
        acoustic=Normaliser.fit(acoustic, True),
        speakers=("anna", "bert"),
        languages=("en",),
        frames_per_symbol=20.0,
    )
    torch.manual_seed(0)
    model = objects.model(config, facts, features).eval()
    return Bundle(
        model, facts, features, objects.frontend(config), objects.vocoder(config, features), config, 1
    )


def learn_to_align(voice: Bundle, utterances: int, steps: int) -> None:
    """A few steps of the aligner alone, on tones."""
    recordings = []
    for seed in range(utterances):
        text = words(seed)
        wave, _ = tones(text.replace(" ", ""), seed)
        recordings.append(listening.Recording(f"u{seed}", wave, RATE, voice.frontend(text, "en"), 0, 0))
    batch = collate([listening.item_of(voice, recording)[0] for recording in recordings])
    optimizer = torch.optim.Adam(voice.model.aligner.parameters(), lr=0.02)
    voice.model.train()
    for _ in range(steps):
        loss = -voice.model.aligner(batch).log_likelihood.sum() / batch.acoustic_frames.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    voice.model.eval()


def corpus(folder: Path, utterances: int) -> Path:
    """wavs and metadata.csv."""
    (folder / "wavs").mkdir(parents=True)
    rows = []
    for seed in range(100, 100 + utterances):
        text = words(seed)
        soundfile.write(folder / "wavs" / f"u{seed}.wav", tones(text.replace(" ", ""), seed)[0], RATE)
        rows.append(f"u{seed}|{text}|{text}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder
