from itertools import islice
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from hmmtts.batch import Batch
from hmmtts.data.dataset import SpeechDataset
from hmmtts.data.loader import Loading
from hmmtts.data.manifest import Utterance, write_utterances
from hmmtts.data.sampler import EvaluationBatches, TrainingBatches
from hmmtts.data.survey import survey
from hmmtts.text.phones import Phones
from tests.loader.corpus import corpus, features

CONF = Path(__file__).resolve().parents[2] / "conf"


def data(loading: Loading, utterances: list[Utterance]) -> SpeechDataset:
    cache, transcribe = loading.cache(features()), loading.transcriber(Phones())
    facts = survey(utterances, cache, transcribe)
    return SpeechDataset(
        cache, transcribe, facts.symbols, facts.mel_normaliser(), facts.acoustic_normaliser(), facts.speakers
    )


def equal(first: Batch, second: Batch) -> bool:
    return all(
        torch.equal(one.nan_to_num(-1), other.nan_to_num(-1))
        if isinstance(one, torch.Tensor)
        else one == other
        for one, other in zip(first, second, strict=True)
    )


def test_workers_change_nothing_but_the_time(tmp_path: Path):
    utterances = corpus(tmp_path, count=9)
    alone = Loading(max_seconds=2.0, workers=0, cache_dir=str(tmp_path / "cache"))
    helped = Loading(max_seconds=2.0, workers=2, cache_dir=str(tmp_path / "cache"))
    dataset, epochs = data(alone, utterances), alone.epochs(utterances)
    state = torch.random.get_rng_state()
    for batches in (TrainingBatches(epochs, position=2), EvaluationBatches(epochs)):
        pairs = islice(
            zip(alone.loader(dataset, batches), helped.loader(dataset, batches), strict=True), epochs.steps
        )
        compared = [equal(first, second) for first, second in pairs]
        assert compared == [True] * epochs.steps
    assert torch.equal(torch.random.get_rng_state(), state)  # loading draws nothing from the global generator


def test_a_stream_yields_batches(tmp_path: Path):
    utterances = corpus(tmp_path)
    manifest = tmp_path / "cuts_train.jsonl.gz"
    write_utterances(manifest, utterances)
    loading = Loading(max_seconds=2.0, workers=0)
    loader = loading.loader(data(loading, utterances), loading.stream(manifest))
    names = [name for batch in islice(loader, loading.epochs(utterances).steps) for name in batch.names]
    assert sorted(names) == [spoken.id for spoken in utterances]


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "data").glob("*.yaml")))
def test_every_config_builds(name: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loading = instantiate(compose(overrides=[f"+data={name}"]).data)
    assert isinstance(loading, Loading)
    assert loading.cache(features()).folder is not None
