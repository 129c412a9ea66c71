"""hmmtts: text-to-speech whose alignment between text and sound is an exact hidden Markov model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from hmmtts.synthesis import Voice

__version__ = "0.1.0"


def load(bundle: str | Path) -> Voice:
    """A trained voice from a run folder or a checkpoint: `load("runs/demo/first").synthesize("Hello.")`."""
    from hmmtts.synthesis import load  # heavy: `import hmmtts` stays instant

    return load(bundle)
