"""Sound files to break."""

import struct
from pathlib import Path

import numpy as np
import soundfile

RATE = 22050


def speech(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """Something as loud and as varied as speech, the same at every call."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (0.2 * np.sin(2 * np.pi * 150 * time) * (1 + np.sin(8 * time)) + 0.01 * noise).astype(np.float32)


def write(
    path: Path,
    wave: np.ndarray | None = None,
    rate: int = RATE,
    subtype: str | None = None,
    format: str | None = None,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, speech() if wave is None else wave, rate, subtype=subtype, format=format)
    return path


def patch(path: Path, offset: int, layout: str, value: int) -> Path:
    """Overwrite a field of the header."""
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, offset, value)
    path.write_bytes(bytes(content))
    return path


def cut(path: Path, length: int) -> Path:
    """Keep the first bytes, or with a negative length all but the last."""
    path.write_bytes(path.read_bytes()[:length])
    return path
