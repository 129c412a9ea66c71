"""The sample rate that most of a corpus has, from a few headers: a config needs it before anything is prepared."""

from collections import Counter
from pathlib import Path

import soundfile

from hmmtts.data.folder import METADATA, Audio
from hmmtts.data.manifest import manifests, read_utterances

LOOKED_AT = 100  # files, evenly spread over the corpus


def usual_rate(corpus: Path) -> int | None:
    """Of a folder or a manifest, as `hmmtts check` takes them; None where nothing says it."""
    if corpus.name == METADATA:
        corpus = corpus.parent
    listed = list(manifests(corpus).values()) if corpus.is_dir() else [corpus]
    if corpus.is_dir() and not listed:
        paths = Audio(corpus).paths
        rates = [_rate(path) for path in paths[:: max(1, len(paths) // LOOKED_AT)]]
    else:
        rates = _listed_rates(listed)
    counts = Counter(rate for rate in rates if rate)
    return max(counts, key=lambda rate: (counts[rate], rate), default=None)


def _rate(path: Path) -> int:
    try:
        return soundfile.info(path).samplerate
    except soundfile.SoundFileError:
        return 0  # the check of the corpus names it


def _listed_rates(paths: list[Path]) -> list[int]:
    try:
        return [utterance.rate for path in paths for utterance in read_utterances(path)]
    except (ValueError, OSError):
        return []  # the check of the corpus says why
