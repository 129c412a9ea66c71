"""Every test corpus becomes batches whose times are those of its TextGrids."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from praatio import textgrid

from hmmtts.audio.features import Features
from hmmtts.data.dataset import SpeechDataset
from hmmtts.data.folder import list_folder
from hmmtts.data.loader import Loading
from hmmtts.data.manifest import Utterance
from hmmtts.data.sampler import EvaluationBatches
from hmmtts.data.survey import survey
from hmmtts.text.phones import Phones
from tests.data import TEST_DATA, needs_data

CONF = Path(__file__).resolve().parents[2] / "conf"
CORPORA = sorted(path.parent.name for path in TEST_DATA.glob("*/corpus.json"))


def utterances_of(folder: Path, count: int) -> list[Utterance]:
    found = []
    for entry in list_folder(folder).entries[:count]:
        assert entry.utterance is not None
        info = soundfile.info(entry.utterance.audio)
        seconds = info.frames / info.samplerate
        found.append(
            entry.utterance._replace(
                rate=info.samplerate, duration=seconds, audio_duration=seconds, start=0.0
            )
        )
    return found


def features_at(rate: int) -> Features:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return instantiate(compose(overrides=["+features=default", f"features.sample_rate={rate}"]).features)


@needs_data
@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_becomes_batches_with_its_own_times(name: str):
    folder = TEST_DATA / name
    rate = json.loads((folder / "corpus.json").read_text())["sample_rate"]
    utterances = utterances_of(folder, 2)
    loading = Loading(workers=0)
    cache, transcribe = loading.cache(features_at(rate)), loading.transcriber(Phones())
    facts = survey(utterances, cache, transcribe)
    dataset = SpeechDataset(
        cache, transcribe, facts.symbols, facts.mel_normaliser(), facts.acoustic_normaliser(),
        facts.speakers, facts.languages,
    )  # fmt: skip
    seen = {}
    for batch in loading.loader(dataset, EvaluationBatches(loading.epochs(utterances))):
        for row, utterance_name in enumerate(batch.names):
            s = batch.symbols[row]
            labels = facts.symbols.decode(batch.ids[row, :s].tolist())
            seen[utterance_name] = (labels, batch.starts[row, :s].numpy(), batch.ends[row, :s].numpy())
            hop = cache.features.mel.hop_seconds
            assert abs(batch.frames[row] * hop - batch.ends[row, s - 1]) < 2 * hop
    assert seen.keys() == {utterance.id for utterance in utterances}
    for utterance_name, (labels, starts, ends) in seen.items():
        grid = textgrid.openTextgrid(str(folder / "alignments" / f"{utterance_name}.TextGrid"), True)
        truth = grid.getTier("phones").entries
        assert labels == [interval.label for interval in truth]
        np.testing.assert_allclose(starts, [interval.start for interval in truth], atol=1e-3)
        np.testing.assert_allclose(ends, [interval.end for interval in truth], atol=1e-3)
