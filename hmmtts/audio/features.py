"""Everything that a model learns from a sound: the mel to speak, its pitch, and what the aligner listens to.

Letters: l samples, t frames of the mel, u frames of the aligner, m mel bins, c acoustic features.
"""

import ast
import hashlib
import inspect
import json
import sys
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.audio import io
from hmmtts.audio.cepstra import Cepstra
from hmmtts.audio.f0 import F0Tracker
from hmmtts.audio.mel import LogMel

# An upgrade of these may change what is computed. torch is not among them: its rounding is all that differs.
LIBRARIES = ("librosa", "soundfile", "soxr")


class Tracks(NamedTuple):
    """The features of one utterance, not normalised."""

    mel: Float[np.ndarray, "t m"]
    f0: Float[np.ndarray, "t"]  # Hz, 0 where unvoiced
    acoustic: Float[np.ndarray, "u c"]
    start: float  # seconds of the sound that were cut off before frame 0


class Trim(NamedTuple):
    """Silence to cut off at both ends: see `hmmtts.audio.io.speech_span`."""

    below_peak_db: float = 40.0  # higher: keeps softer ends, and more noise
    keep: float = 0.05  # seconds of the silence that stay on each side


class Features:
    """The extractors of one recipe, at one sample rate; a sound at another rate is resampled first."""

    def __init__(
        self,
        sample_rate: int,
        mel: LogMel,
        acoustic: Cepstra | LogMel,
        f0: F0Tracker,
        trim: Trim | None = None,
    ) -> None:
        rates = {"mel": mel.sample_rate, "acoustic": acoustic.sample_rate, "f0": f0.sample_rate}
        for name, rate in rates.items():
            if rate != sample_rate:
                raise ValueError(f"{name}.sample_rate must equal sample_rate, {sample_rate}, got {rate}")
        if f0.hop != mel.hop:
            raise ValueError(f"f0.hop must equal mel.hop, {mel.hop}, got {f0.hop}")
        self.sample_rate, self.mel, self.acoustic, self.f0, self.trim = sample_rate, mel, acoustic, f0, trim

    def __call__(self, wave: io.Wave, rate: int) -> Tracks:
        wave = io.resample(wave, rate, self.sample_rate)
        start = 0.0
        if self.trim is not None:
            first, last = io.speech_span(wave, self.sample_rate, *self.trim)
            wave, start = wave[first:last], first / self.sample_rate
        batch = torch.from_numpy(wave)[None]
        mel = extract(self.mel, batch)
        # A mel whose frames lie half a hop later is met by a track that begins half a hop later.
        f0 = self.f0(wave[round(self.mel.offset * self.sample_rate) :])[: len(mel)]
        return Tracks(mel, f0, extract(self.acoustic, batch), start)

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change whenever an option, the code or a library of an extractor does."""
        parts = {"mel": self.mel, "acoustic": self.acoustic, "f0": self.f0, "features": self}
        text = json.dumps(
            {
                "extractors": {name: describe(part) for name, part in parts.items()},
                "trim": self.trim,
                "io": syntax(io.__name__),
                "libraries": {name: version(name) for name in LIBRARIES},
            },
            sort_keys=True,
        )
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@torch.no_grad()
def extract(extractor: LogMel | Cepstra, wave: Float[Tensor, "1 l"]) -> Float[np.ndarray, "t m"]:
    return extractor(wave)[0].numpy()


def describe(extractor: object) -> dict[str, object]:
    """The class of an extractor, its options, which it keeps as attributes, and its code."""
    options = {
        name: value
        for name, value in vars(extractor).items()
        if isinstance(value, bool | int | float | str | None)
        and not name.startswith("_")
        and name != "training"
    }
    kind = type(extractor)
    return {"class": kind.__qualname__, "code": syntax(kind.__module__), **options}


def syntax(module: str) -> str:
    """A digest of a module's syntax tree: comments and line breaks do not count, any change of meaning does."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return hashlib.blake2b(ast.dump(tree).encode(), digest_size=8).hexdigest()
