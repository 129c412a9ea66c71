"""Intelligibility: the word error rate of a recogniser that ships its model in its package (extra `asr`).

pocketsphinx makes many errors on any speech, so only the difference from the natural recordings' rate says something.
It is of use for US English voices; of a synthesiser like espeak's it understands nothing.
"""

import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

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


class WordErrors(Metric):
    """Word error rates of made speech and of the recordings, pooled over words."""

    full_state_update = False
    said: Tensor
    errors: Tensor
    natural: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("said", "errors", "natural"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, text: list[str], made: list[str], recorded: list[str]) -> None:
        self.said += len(text)
        self.errors += word_errors(text, made)
        self.natural += word_errors(text, recorded)

    def compute(self) -> dict[str, Tensor]:
        return {
            "word_error_rate": self.errors / self.said,
            "word_error_rate_natural": self.natural / self.said,
        }


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
