"""A corpus of buzzes, one pitch per phone, so that every feature of an utterance is known."""

from pathlib import Path

import numpy as np
from lhotse.supervision import AlignmentItem

from hmmtts.audio.cepstra import Cepstra
from hmmtts.audio.f0 import Pyin
from hmmtts.audio.features import Features
from hmmtts.audio.io import write
from hmmtts.audio.mel import LogMel
from hmmtts.data.manifest import Utterance
from tests.audio.signals import pulses

RATE = 8000
PITCH = {"a": 100.0, "o": 150.0, "u": 200.0}
PHONE = 0.15  # seconds


def features(**mel_options: int) -> Features:
    mel = LogMel(RATE, n_fft=256, hop=100, win=256, n_mels=20, fmax=4000.0, **mel_options)  # type: ignore[arg-type]
    return Features(RATE, mel, Cepstra(RATE, fmax=4000.0), Pyin(RATE, mel.hop, resolution=0.5))


def utterance(folder: Path, name: str, phones: str, speaker: str = "one") -> Utterance:
    """`phones` such as "aou", between two pauses."""
    silence = np.zeros(round(PHONE * RATE), np.float32)
    audio = folder / f"{name}.wav"
    write(audio, np.concatenate([silence, *[pulses(PITCH[p], PHONE, RATE) for p in phones], silence]), RATE)
    labels = ["sil", *phones, "sil"]
    times = [AlignmentItem(label, round(i * PHONE, 6), PHONE) for i, label in enumerate(labels)]
    seconds = round(PHONE * len(labels), 6)
    return Utterance(
        name, audio, RATE, 0.0, seconds, seconds, " ".join(labels), speaker,
        phones=labels, phone_times=times, file=folder / "metadata.csv", line=1,
    )  # fmt: skip


def corpus(folder: Path, count: int = 6) -> list[Utterance]:
    return [utterance(folder, f"u{i}", ("aou" * 3)[i % 3 : i % 3 + 1 + i % 4]) for i in range(count)]
