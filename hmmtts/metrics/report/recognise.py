"""Intelligibility: the word error rate of a recogniser that ships its model in its package (extra `asr`).

pocketsphinx makes many errors on any speech, so only the difference from the natural recordings' rate says something.
It is of use for US English voices; of a synthesiser like espeak's it understands nothing.
"""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float

from hmmtts.audio.io import resample

RATE = 16000


def words(text: str) -> list[str]:
    """In lower case, without punctuation."""
    return re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)*", text.lower())


def word_errors(ref: list[str], hyp: list[str]) -> int:
    """The least number of substitutions, insertions and deletions (Levenshtein 1966)."""
    row = list(range(len(hyp) + 1))
    for i, wanted in enumerate(ref, start=1):
        diagonal, row[0] = row[0], i
        for j, heard in enumerate(hyp, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (wanted != heard))
    return row[-1]


class Recogniser:
    """pocketsphinx with the US English model of its wheel, at its default settings."""

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise ValueError("word error rates need pocketsphinx: pip install 'hmmtts[asr]'") from error
        self.decoder = Decoder(samprate=RATE, loglevel="FATAL")

    def __call__(self, wave: Float[np.ndarray, "n"], rate: int) -> list[str]:
        pcm = (np.clip(resample(wave, rate, RATE), -1, 1) * 32767).astype(np.int16)
        self.decoder.start_utt()
        self.decoder.process_raw(pcm.tobytes(), full_utt=True)
        self.decoder.end_utt()
        heard = self.decoder.hyp()
        return words(re.sub(r"\(\d+\)", "", heard.hypstr)) if heard else []


def read_texts(path: Path) -> dict[str, list[str]]:
    """The words of `ID|text` or `ID|text|normalised text` lines, the last column that is there."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; word error rates need a metadata.csv of ID|text lines")
    texts = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        name, *columns = line.split("|")
        if not columns:
            raise ValueError(f"{path}:{number}: no | between id and text: {line[:60]!r}")
        texts[name] = words(next((column for column in reversed(columns[:2]) if column.strip()), ""))
    return texts
