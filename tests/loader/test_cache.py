import inspect
import os
import random
import time
import zipfile
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from hmmtts.audio.cepstra import Cepstra
from hmmtts.audio.f0 import Pyin
from hmmtts.audio.features import Features, Tracks, Trim
from hmmtts.audio.io import write
from hmmtts.audio.mel import LogMel
from hmmtts.data.cache import ABANDONED, DAMAGED, NEW, FeatureCache, load, save
from hmmtts.data.manifest import Utterance
from tests.audio.signals import pulses
from tests.loader.corpus import RATE, corpus, features, utterance

FORK = get_context("fork")


def same(first: Tracks, second: Tracks) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.fixture
def spoken(tmp_path: Path) -> Utterance:
    return utterance(tmp_path, "x", "ao")


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(features(), tmp_path / "cache")


def test_computed_once_and_equal_from_then_on(cache: FeatureCache, spoken: Utterance):
    computed, miss = cache.fetch(spoken)
    assert miss == NEW
    stored, miss = cache.fetch(spoken)
    assert miss is None
    assert same(stored, computed)
    assert same(stored, cache.compute(spoken))
    assert (stored.mel.dtype, type(stored.start)) == (np.float32, float)


# Another value for every option of every extractor.
OTHERS: dict[type, dict[str, object]] = {
    LogMel: {
        "sample_rate": 7000, "n_fft": 512, "hop": 80, "win": 200, "n_mels": 16, "fmin": 50.0, "fmax": 3000.0,
        "floor": 1e-4, "mel_scale": "htk", "norm": None, "padding": "same",
    },
    Cepstra: {
        "sample_rate": 7000, "window": 0.009, "hop": 0.006, "n_cepstra": 12, "n_mels": 24, "fmin": 80.0, "fmax": 3000.0,
        "deltas": 1, "dither": 1e-3,
    },
    Pyin: {"sample_rate": 7000, "hop": 80, "fmin": 70.0, "fmax": 120.0, "resolution": 0.25, "window": 0.05},
    Trim: {"below_peak_db": 0.0, "keep": 0.1},  # 0: nothing is cut off
}  # fmt: skip
SHARED = {"sample_rate": (LogMel, Cepstra, Pyin), "hop": (LogMel, Pyin)}  # that must be equal where they are


def features_of(**other: dict[str, object]) -> Features:
    """Those of `features()` with a trim; `other`: options by the name of their class."""

    def options(kind: type, **usual: object) -> dict:
        return usual | other.get(kind.__name__, {})

    mel = options(LogMel, sample_rate=RATE, n_fft=256, hop=100, win=256, n_mels=20, fmax=3500.0)
    acoustic = options(Cepstra, sample_rate=RATE, fmax=3500.0)
    f0 = options(Pyin, sample_rate=RATE, hop=100, resolution=0.5)
    return Features(mel["sample_rate"], LogMel(**mel), Cepstra(**acoustic), Pyin(**f0), Trim(**options(Trim)))


@pytest.mark.parametrize(
    ("kind", "option"),
    [(kind, option) for kind, options in OTHERS.items() for option in options],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_another_config_is_another_cache(kind: type, option: str, tmp_path: Path, spoken: Utterance):
    usual = FeatureCache(features_of(), tmp_path / "cache")
    usual.fetch(spoken)
    kinds = SHARED[option] if kind in SHARED.get(option, ()) else (kind,)
    changed = features_of(**{each.__name__: {option: OTHERS[kind][option]} for each in kinds})
    other = FeatureCache(changed, tmp_path / "cache")
    tracks, miss = other.fetch(spoken)
    assert miss == NEW
    assert same(tracks, other.compute(spoken))
    assert not same(tracks, usual(spoken))
    assert (usual.fetch(spoken).miss, other.fetch(spoken).miss) == (None, None)


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.__name__)
def test_no_option_is_left_out_of_the_test_above(kind: type):
    assert OTHERS[kind].keys() == inspect.signature(kind).parameters.keys()


def test_another_extractor_is_another_cache(tmp_path: Path, spoken: Utterance):
    usual = features()
    FeatureCache(usual, tmp_path).fetch(spoken)
    heard = Features(RATE, usual.mel, usual.mel, usual.f0)
    assert FeatureCache(heard, tmp_path).fetch(spoken).miss == NEW
    assert FeatureCache(usual, tmp_path).fetch(spoken).miss is None


def test_a_replaced_file_is_noticed_even_with_the_old_time_and_size(
    cache: FeatureCache, spoken: Utterance, caplog: pytest.LogCaptureFixture
):
    before = cache(spoken)
    status = spoken.audio.stat()
    write(spoken.audio, pulses(100.0, spoken.duration, RATE), RATE)
    os.utime(spoken.audio, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert spoken.audio.stat().st_size == status.st_size
    assert spoken.audio.stat().st_mtime_ns == status.st_mtime_ns
    with caplog.at_level("INFO"):
        after = cache(spoken)
    assert "x: cache miss: 1 file (content changed)" in caplog.text
    assert not same(after, before)
    assert same(after, cache.compute(spoken))
    assert cache.fetch(spoken).miss is None


def test_the_same_content_written_again_is_no_change(cache: FeatureCache, spoken: Utterance):
    cache(spoken)
    spoken.audio.write_bytes(spoken.audio.read_bytes())
    assert cache.fetch(spoken).miss is None


def test_stretches_of_one_file_are_entries_of_their_own(cache: FeatureCache, spoken: Utterance):
    part = spoken._replace(start=0.1, duration=0.2)
    assert not same(cache(spoken), cache(part))
    assert cache.fetch(part).miss is None


def test_no_flipped_bit_and_no_missing_byte_goes_unnoticed(cache: FeatureCache, spoken: Utterance):
    truth, path = cache(spoken), cache.path(spoken)
    content, _ = load(path)
    whole = path.read_bytes()
    random.seed(0)
    unnoticed = 0
    for place in random.sample(range(len(whole)), 1000):
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << random.randrange(8)]) + whole[place + 1 :]
        )
        try:
            found, tracks = load(path)
        except Exception:
            continue
        unnoticed += 1
        assert found == content, "a flipped bit changed the entry"
        assert same(tracks, truth)
    assert unnoticed < 100  # bits that mean nothing, such as the time of day in a zip header
    for length in (0, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert cache.fetch(spoken).miss == DAMAGED
        assert cache.fetch(spoken).miss is None  # it was written anew


def test_a_pickle_in_an_entry_is_not_loaded(cache: FeatureCache, spoken: Utterance):
    truth = cache(spoken)
    entry = {**truth._asdict(), "mel": np.array([{"not": "plain"}], dtype=object)}
    np.savez(cache.path(spoken), content=np.zeros(16, np.uint8), **entry, allow_pickle=True)
    assert cache.fetch(spoken).miss == DAMAGED


def test_where_nothing_can_be_written_features_are_computed_after_one_warning(
    tmp_path: Path, spoken: Utterance, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").touch()
    cache = FeatureCache(features(), tmp_path / "file" / "cache")
    before = sorted(tmp_path.rglob("*"))
    assert [cache.fetch(spoken).miss for _ in range(2)] == [NEW, NEW]
    assert caplog.text.count("features are not cached from here on") == 1
    assert sorted(tmp_path.rglob("*")) == before  # nothing beside the data either


def fill(cache: FeatureCache, utterances: list[Utterance], seed: int, results) -> None:
    torch.set_num_threads(1)  # a forked process must not start OpenMP threads
    order = random.Random(seed).sample(utterances, len(utterances))
    results.put({spoken.id: cache(spoken) for spoken in order})


def test_four_writers_at_once_agree(tmp_path: Path):
    utterances = corpus(tmp_path)
    cache = FeatureCache(features(), tmp_path / "cache")
    results = FORK.Queue()
    writers = [FORK.Process(target=fill, args=(cache, utterances, seed, results)) for seed in range(4)]
    for writer in writers:
        writer.start()
    found = [results.get(timeout=60) for _ in writers]
    for writer in writers:
        writer.join()
    for spoken in utterances:
        stored, miss = cache.fetch(spoken)
        assert miss is None
        assert all(same(one[spoken.id], stored) for one in found)
    assert len(list((tmp_path / "cache").rglob("*"))) <= 1 + 2 * len(utterances)  # no file is left over


def save_for_ever(path: Path) -> None:
    mel = np.random.default_rng(0).normal(size=(20_000, 80)).astype(np.float32)
    while True:
        save(path, bytes(16), Tracks(mel, mel[:, 0], mel, 0.0))


def test_a_writer_killed_in_the_middle_leaves_no_torn_entry(cache: FeatureCache, spoken: Utterance):
    path = cache.path(spoken)
    random.seed(0)
    for attempt in range(100):
        writer = FORK.Process(target=save_for_ever, args=(path,))
        writer.start()
        time.sleep(0.05 + random.random() * 0.05)
        writer.kill()
        writer.join()
        if path.exists():
            content, tracks = load(path)
            assert (content, tracks.mel.shape) == (bytes(16), (20_000, 80))
        left = list(path.parent.glob(".*.part"))
        if attempt >= 12 and left:
            break
    assert left, "no writer was caught in the middle: the test shows nothing"
    cache.sweep()
    assert list(path.parent.glob(".*.part")) == left  # they may belong to a living process
    for part in left:
        os.utime(part, (0, time.time() - 2 * ABANDONED))
    cache.sweep()
    assert not list(path.parent.glob(".*.part"))


def test_an_entry_is_an_ordinary_npz(cache: FeatureCache, spoken: Utterance):
    cache(spoken)
    assert zipfile.is_zipfile(cache.path(spoken))
    with np.load(cache.path(spoken), allow_pickle=False) as entry:
        assert set(entry) == {"content", *Tracks._fields}
