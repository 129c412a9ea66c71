"""Every file of conf/text makes a frontend that keeps the contract."""

import pickle
from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf

from hmmtts.text import NO_WORD, SymbolTable, marks

CONF = sorted((Path(__file__).resolve().parents[2] / "conf" / "text").glob("*.yaml"))
TEXTS = ["sil h ə l oʊ sil", "Hello, world. It is 7 o'clock!", "one", "a, b; c: d"]


@pytest.mark.parametrize("path", CONF, ids=lambda path: path.stem)
def test_frontend(path):
    if path.stem == "espeak":
        pytest.importorskip("espeakng_loader")
    frontend = hydra.utils.instantiate(OmegaConf.load(path))
    transcripts = [frontend(text, None) for text in TEXTS]
    table = SymbolTable.learn(transcript.symbols for transcript in transcripts)
    for transcript in transcripts:
        assert transcript.symbols
        assert len(transcript.symbols) == len(transcript.word_of) == len(marks(transcript))
        assert {word for word in transcript.word_of if word != NO_WORD} == set(range(len(transcript.words)))
        assert table.decode(table.encode(transcript.symbols)) == transcript.symbols
        assert not any(symbol.isspace() or symbol == "" for symbol in transcript.symbols)
    assert pickle.loads(pickle.dumps(frontend))(TEXTS[0]) == transcripts[0]
    assert frontend("").symbols == []
