import math
from pathlib import Path

import numpy as np
import pytest
import torch
from lhotse.supervision import AlignmentItem

from hmmtts.audio.normaliser import Normaliser
from hmmtts.data.augment import Noise
from hmmtts.data.cache import FeatureCache
from hmmtts.data.collate import collate
from hmmtts.data.dataset import Draw, SpeechDataset, Transcriber, symbol_times
from hmmtts.text.frontend import NO_WORD, Mark, Transcript
from hmmtts.text.phones import Phones
from hmmtts.text.symbols import SymbolTable
from tests.loader.corpus import PHONE, RATE, features, utterance

SYMBOLS = SymbolTable.learn([["sil", "a", "o", "u"]])


def dataset(**changes: object) -> SpeechDataset:
    options = {
        "cache": FeatureCache(features(), None), "transcribe": Transcriber(Phones()), "symbols": SYMBOLS,
        "mel": Normaliser((-5.0,), (2.0,)), "acoustic": Normaliser((0.0,) * 13, (1.0,) * 13),
        "speakers": ["one", "two"],
    }  # fmt: skip
    return SpeechDataset(**{**options, **changes})  # type: ignore[arg-type]


def test_an_item_is_the_utterance(tmp_path: Path):
    spoken = utterance(tmp_path, "x", "aou", speaker="two")
    item = dataset()[Draw(spoken)]
    assert item.name == "x"
    assert SYMBOLS.decode(item.ids.tolist()) == ["sil", "a", "o", "u", "sil"]
    assert item.marks.tolist()[0] == Mark.PAUSE
    assert item.speaker == 1
    torch.testing.assert_close(item.starts, torch.arange(5.0) * PHONE)
    torch.testing.assert_close(item.ends, torch.arange(1.0, 6.0) * PHONE)
    # The pitch of every phone is heard where its times say it is.
    times = torch.arange(len(item.f0)) * 100 / RATE
    for start, end, pitch in zip(item.starts, item.ends, [0.0, 100.0, 150.0, 200.0, 0.0], strict=True):
        inside = item.f0[(times > start + 0.05) & (times < end - 0.05)]
        torch.testing.assert_close(inside, torch.full_like(inside, pitch), rtol=0.03, atol=0)
    tracks = FeatureCache(features(), None)(spoken)
    np.testing.assert_allclose(item.mel.numpy() * 2 - 5, tracks.mel, atol=1e-5)


def test_randomness_belongs_to_seed_epoch_and_utterance(tmp_path: Path):
    x, y = (utterance(tmp_path, name, "ao") for name in "xy")
    data = dataset(augment=Noise())
    clean = data[Draw(x)].mel  # evaluation knows no epoch
    assert torch.equal(clean, dataset()[Draw(x, 3)].mel)
    noise = data[Draw(x, 3)].mel - clean
    assert abs(noise.std() - 0.01) < 0.001
    assert torch.equal(data[Draw(x, 3)].mel, dataset(augment=Noise())[Draw(x, 3)].mel)
    others = [data[Draw(x, 4)], data[Draw(y, 3)], dataset(augment=Noise(), seed=1)[Draw(x, 3)]]
    assert not any(torch.equal(data[Draw(x, 3)].mel, other.mel) for other in others)


def test_a_stretch_of_a_longer_file_is_that_stretch(tmp_path: Path):
    whole = utterance(tmp_path, "x", "aou")
    part = whole._replace(start=2 * PHONE, duration=PHONE, phone_times=None, word_times=None, phones=["o"])
    item = dataset()[Draw(part)]
    assert len(item.mel) == 1 + round(PHONE * RATE) // 100
    torch.testing.assert_close(item.f0[4:-4], torch.full_like(item.f0[4:-4], 150.0), rtol=0.03, atol=0)
    assert item.starts.isnan().all()


def test_what_is_wrong_names_the_utterance(tmp_path: Path):
    spoken = utterance(tmp_path, "x", "ao")
    with pytest.raises(ValueError, match=r"^x \(.*metadata.csv:1\): unknown symbols: 'o'"):
        dataset(symbols=SymbolTable.learn(["sil", "a"]))[Draw(spoken)]
    with pytest.raises(
        ValueError, match="speaker 'three' was not in the training data, which has 'one', 'two'"
    ):
        dataset()[Draw(spoken._replace(speaker="three"))]
    spoken.audio.write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"^x \(.*metadata.csv:1\): .*x.wav: not readable as sound"):
        dataset()[Draw(spoken)]


def intervals(labels: str) -> list[AlignmentItem]:
    return [AlignmentItem(label, float(place), 1.0) for place, label in enumerate(labels.split())]


@pytest.mark.parametrize(
    ("symbols", "labels", "starts"),
    [
        ("sil a o sil", "sil a o sil", [0, 1, 2, 3]),
        ("a o", "sil a o sil", [1, 2]),  # pauses that the text does not have
        ("a , o .", "a sil o", [0, None, 2, None]),  # punctuation, and a pause where it stands
        ("sil a sil o", "a o", [None, 0, None, 1]),  # pauses that the speaker did not make
        ("a o", "a u", [None, None]),  # other labels: nothing is known
        ("a o", "a", [None, None]),
        ("a", "a o", [None]),
        ("a o", "", [None, None]),
    ],
)
def test_times_are_those_of_the_same_labels(symbols: str, labels: str, starts: list[int | None]):
    spelt = symbols.split()
    words = [NO_WORD if symbol in ("sil", ",", ".") else 0 for symbol in spelt]
    found, ends = symbol_times(Transcript(spelt, ["w"], words), intervals(labels))
    assert [None if math.isnan(value) else value for value in found] == starts
    assert [None if math.isnan(value) else value - 1 for value in ends] == starts


def test_the_corpus_spells_unless_it_is_told_not_to(tmp_path: Path):
    spoken = utterance(tmp_path, "x", "ao")._replace(text="u")
    assert Transcriber(Phones())(spoken).symbols == ["sil", "a", "o", "sil"]
    assert Transcriber(Phones())(spoken._replace(phone_times=None)).symbols == ["sil", "a", "o", "sil"]
    assert Transcriber(Phones(), corpus_phones=False)(spoken).symbols == ["u"]


def test_a_batch_is_its_items_and_nothing_else(tmp_path: Path):
    data = dataset()
    draws = [Draw(utterance(tmp_path, "x", "a")), Draw(utterance(tmp_path, "y", "aou"), counted=False)]
    items = [data[draw] for draw in draws]
    batch = collate(items)
    assert batch.names == ["x", ""]
    assert batch.counted.tolist() == [True, False]
    assert batch.symbols.tolist() == [3, 5]
    for row, item in enumerate(items):
        t, u, s = batch.frames[row], batch.acoustic_frames[row], batch.symbols[row]
        assert torch.equal(batch.mel[row, :t], item.mel)
        assert torch.equal(batch.f0[row, :t], item.f0)
        assert torch.equal(batch.acoustic[row, :u], item.acoustic)
        for field in ("ids", "marks", "starts", "ends"):
            assert torch.equal(getattr(batch, field)[row, :s], getattr(item, field))
    assert not batch.mel[0, batch.frames[0] :].any()
    assert not batch.ids[0, 3:].any()
    assert batch.starts[0, 3:].isnan().all()
