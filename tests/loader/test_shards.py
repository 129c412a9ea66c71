"""A corpus in shards gives what the corpus itself gives: read by lhotse, over HTTP with every fault, resumed anywhere."""

import importlib.util
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet
from typer.testing import CliRunner

from hmmtts import cli
from hmmtts.audio.io import read
from hmmtts.data import fetch, shards
from hmmtts.data.cache import FeatureCache
from hmmtts.data.manifest import Utterance, read_utterances, write_utterances
from hmmtts.data.sampler import TrainingBatches
from hmmtts.data.sharded import Room, ShardedCache, ShardedEpochs, index_of, spool_of
from tests.loader.corpus import corpus, features
from tests.loader.test_sampler import utterance
from tests.loader.web import Web

ROOT = Path(__file__).resolve().parents[2]
TRAIN, PER_SHARD = 14, 4  # four shards, the last of them smaller


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    utterances = corpus(folder, TRAIN + 4)
    parts = {"train": utterances[:TRAIN], "valid": utterances[TRAIN:-2], "test": utterances[-2:]}
    for split, members in parts.items():
        write_utterances(folder / f"cuts_{split}.jsonl.gz", members)
    return folder


@pytest.fixture(scope="module")
def sharded(original: Path) -> Path:
    out = original / "shards"
    shards.write(original, out, PER_SHARD)
    return out


@pytest.fixture
def web(sharded: Path) -> Iterator[Web]:
    server = Web(sharded)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "PATIENCE", fetch.Patience(attempts=3, pause=0.01, timeout=5.0))
    index_of.cache_clear()
    spool_of.cache_clear()


def prepared(source: str, out: Path) -> list[Utterance]:
    """The training set as recipes/shards prepares it."""
    spec = importlib.util.spec_from_file_location("shards_recipe", ROOT / "recipes" / "shards" / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.prepare(out, source=source)
    return list(read_utterances(out / "cuts_train.jsonl.gz"))


def cache(folder: Path, gigabytes: float = 1.0, root: Path | None = None, window: int = 2) -> ShardedCache:
    return ShardedCache(features(), root, Room(folder, gigabytes * 1e9, window))


def test_lhotse_reads_the_shards_and_finds_the_same_samples(original: Path, sharded: Path):
    expected = {u.id: u for u in read_utterances(original / "cuts_train.jsonl.gz")}
    cuts = list(CutSet.from_shar(in_dir=sharded / "train"))
    assert sorted(cut.id for cut in cuts) == sorted(expected)
    assert [cut.id for cut in cuts] != list(expected)
    for cut in cuts:
        wave, rate = read(expected[cut.id].audio)
        assert cut.sampling_rate == rate
        np.testing.assert_array_equal(cut.load_audio()[0], wave)
        assert cut.supervisions[0].text == expected[cut.id].text


def test_features_are_those_of_the_original_audio(original: Path, web: Web, tmp_path: Path):
    from_shards, plain = cache(tmp_path / "spool"), FeatureCache(features(), None)
    expected = {u.id: u for u in read_utterances(original / "cuts_train.jsonl.gz")}
    for found in prepared(web.url, tmp_path / "corpus")[:6]:
        assert found.phone_times == expected[found.id].phone_times
        for one, other in zip(from_shards(found), plain(expected[found.id]), strict=True):
            np.testing.assert_array_equal(one, other)
    for split in ("valid", "test"):
        for found in read_utterances(tmp_path / "corpus" / f"cuts_{split}.jsonl.gz"):
            assert found.audio.is_file()


def test_a_stretch_of_a_longer_file_becomes_a_file_of_its_own(original: Path, tmp_path: Path):
    whole = next(iter(read_utterances(original / "cuts_train.jsonl.gz")))
    part = whole._replace(start=0.15, duration=0.3, phone_times=None)
    write_utterances(tmp_path / "in" / "cuts_train.jsonl.gz", [part])
    shards.write(tmp_path / "in", tmp_path / "out")
    (found,) = prepared(str(tmp_path / "out"), tmp_path / "corpus")
    assert (found.start, found.duration, found.audio_duration) == (0.0, 0.3, 0.3)
    spool = spool_of(tmp_path / "corpus", Room(tmp_path / "spool", 1e9, 1))
    wave, _ = read(spool.audio("train/000000", found.audio.name))
    np.testing.assert_array_equal(wave, read(part.audio, 0.15, 0.3)[0])


def test_the_verb_writes_once_and_says_how_to_train(original: Path, tmp_path: Path):
    command = ["shard", str(original), "--out", str(tmp_path / "out"), "--per-shard", "9"]
    done = CliRunner().invoke(cli.register(), command)
    assert done.exit_code == 0
    assert "out: 4 shards," in done.output
    assert f"recipe=shards data_dir={tmp_path / 'out'}" in done.output
    again = CliRunner().invoke(cli.register(), command)
    assert "exists already: choose another folder" in str(again.exception)
    empty = CliRunner().invoke(cli.register(), ["shard", str(tmp_path), "--out", str(tmp_path / "other")])
    assert "holds no cuts_train.jsonl.gz: prepare the corpus first" in str(empty.exception)
    assert not (tmp_path / "other").exists()


class TestFaults:
    def test_a_download_that_breaks_off_goes_on(self, web: Web, tmp_path: Path):
        web.bad = {"recording.000001.tar": ["short", "broken"], "cuts_train.jsonl.gz": ["short"]}
        utterances = prepared(web.url, tmp_path / "corpus")
        assert len({cache(tmp_path / "spool").fetch(u).tracks.mel.shape for u in utterances}) > 1
        assert not any(web.bad.values())

    def test_a_missing_shard_is_named(self, web: Web, tmp_path: Path):
        utterances = prepared(web.url, tmp_path / "corpus")
        web.bad = {"train/recording.000000.tar": ["missing"] * 9}
        with pytest.raises(
            ValueError, match=r"train/recording.000000.tar: the server answers HTTP Error 404"
        ):
            cache(tmp_path / "spool").fetch(utterances[0])

    def test_a_shard_that_changed_since_is_refused(self, original: Path, tmp_path: Path):
        """One bit of the audio, at the same length: only the checksum tells."""
        shards.write(original, tmp_path / "out", PER_SHARD)
        utterances = prepared(str(tmp_path / "out"), tmp_path / "corpus")
        tar = tmp_path / "out" / "train" / "recording.000000.tar"
        content = bytearray(tar.read_bytes())
        content[len(content) // 2] ^= 1
        tar.write_bytes(content)
        server = Web(tmp_path / "out")
        (tmp_path / "corpus" / "source").write_text(server.url)
        try:
            for again in range(2):
                with pytest.raises(ValueError, match=r"recording.000000.tar: sha256 mismatch: expected"):
                    cache(tmp_path / f"spool{again}").fetch(utterances[0])
        finally:
            server.close()
        (tmp_path / "corpus" / "source").write_text(str(tmp_path / "out"))
        index_of.cache_clear()
        with pytest.raises(
            ValueError, match=r"recording.000000.tar: sha256 mismatch.*write the shards again"
        ):
            cache(tmp_path / "spool3").fetch(utterances[0])

    def test_what_is_no_index_is_refused(self, web: Web, tmp_path: Path):
        web.bad = {"shards.json": ["missing"]}
        with pytest.raises(ValueError, match="is it the folder that `hmmtts shard` wrote"):
            prepared(web.url, tmp_path / "corpus")
        with pytest.raises(ValueError, match="is no index of shards"):
            shards.parse(b"<html>", web.url)
        for name in ("../../etc/passwd", "/etc/passwd"):
            hostile = {"format": 1, "manifests": {}, "shards": {"train/000000": [name, 1, "0" * 64]}}
            with pytest.raises(ValueError, match="is not a file of this folder"):
                shards.parse(json.dumps(hostile).encode(), web.url)
        with pytest.raises(ValueError, match="format 2, this hmmtts reads 1"):
            shards.parse(b'{"format": 2, "manifests": {}, "shards": {}}', web.url)

    def test_a_recipe_that_prepared_no_shards_is_told_so(self, original: Path, tmp_path: Path):
        first = next(iter(read_utterances(original / "cuts_train.jsonl.gz")))
        with pytest.raises(ValueError, match="data=shar reads a corpus that recipe=shards prepared"):
            cache(tmp_path, root=tmp_path / "cache").fetch(first)


class TestSpool:
    def test_it_holds_no_more_than_fit_and_fetches_each_once_a_visit(self, web: Web, tmp_path: Path):
        utterances = prepared(web.url, tmp_path / "corpus")
        sizes = [
            size for shard, (_, size, _) in index_of(tmp_path / "corpus").shards.items() if "train" in shard
        ]
        spool = spool_of(tmp_path / "corpus", Room(tmp_path / "spool", 2.1 * max(sizes), 1))
        for found in utterances:
            assert spool.audio(f"train/{found.audio.parent.name}", found.audio.name).is_file()
            assert len(list((spool.folder / "train").glob("0*"))) <= 2
        tars = [path for path in web.asked if path.startswith("/train/")]
        assert len(tars) == len(set(tars)) == 4
        assert not list(spool.folder.rglob("*.tar"))

    def test_two_at_once_fetch_a_shard_once(self, web: Web, tmp_path: Path):
        utterances = prepared(web.url, tmp_path / "corpus")
        web.asked.clear()
        with ThreadPoolExecutor(4) as threads:
            caches = [cache(tmp_path / "spool") for _ in range(4)]
            list(threads.map(lambda each: each.fetch(utterances[0]), caches))
        assert web.asked == ["/train/recording.000000.tar"]

    def test_one_too_small_for_two_windows_is_refused(self, web: Web, tmp_path: Path):
        utterances = prepared(web.url, tmp_path / "corpus")
        with pytest.raises(ValueError, match=r"data.spool_gb must hold two windows of data.window=2 shards"):
            cache(tmp_path / "spool", gigabytes=1e-6).fetch(utterances[0])


def test_cached_features_need_no_audio(web: Web, tmp_path: Path):
    utterances = prepared(web.url, tmp_path / "corpus")
    first = cache(tmp_path / "spool", root=tmp_path / "cache")
    computed = [first.fetch(found).tracks for found in utterances[:3]]
    web.asked.clear()
    second = cache(tmp_path / "another", root=tmp_path / "cache")
    for found, tracks in zip(utterances[:3], computed, strict=True):
        read_back, miss = second.fetch(found)
        assert miss is None
        np.testing.assert_array_equal(read_back.mel, tracks.mel)
    assert web.asked == []


def spread(count: int = 200, per_shard: int = 20) -> list[Utterance]:
    """Utterances of ten shards."""
    return [
        utterance(number, 1.0 + number % 17 / 4)._replace(
            audio=Path(f"corpus/audio/train/{number // per_shard:06d}/u{number}.flac")
        )
        for number in range(count)
    ]


class TestBatches:
    epochs = ShardedEpochs(spread(), max_seconds=20.0, bucket_count=4, world_size=2, window=3)

    def test_every_epoch_covers_the_corpus_in_the_same_number_of_steps(self):
        steps = self.epochs.steps
        shares = [list(islice(TrainingBatches(self.epochs, 1, rank), 3 * steps)) for rank in (0, 1)]
        for epoch in range(3):
            drawn = [batch for share in shares for batch in share[epoch * steps : (epoch + 1) * steps]]
            names = [draw.utterance.id for batch in drawn for draw in batch if draw.counted]
            assert sorted(names) == sorted(each.id for each in spread())
            assert {draw.epoch for batch in drawn for draw in batch} == {epoch}
            for batch in drawn:
                assert len(batch) * max(draw.utterance.duration for draw in batch) <= 20.0

    def test_batches_stay_within_a_window_and_windows_change_places(self):
        orders = []
        for epoch in range(4):
            visited = []
            for batch in self.epochs.shuffled(1, epoch):
                (window,) = {int(self.epochs.utterances[index].audio.parent.name) // 3 for index in batch}
                if not visited or visited[-1] != window:
                    visited.append(window)
            assert sorted(visited) == [0, 1, 2, 3]
            orders.append(tuple(visited))
        assert len(set(orders)) > 1
        assert self.epochs.shuffled(1, 0) == self.epochs.shuffled(1, 0) != self.epochs.shuffled(2, 0)

    @pytest.mark.parametrize("position", [1, 7, 33, 60])
    def test_resuming_is_a_slice_of_the_uninterrupted_run(self, position: int):
        whole = list(islice(TrainingBatches(self.epochs, 1, 1), position + 9))
        again = ShardedEpochs(spread(), max_seconds=20.0, bucket_count=4, world_size=2, window=3)
        assert list(islice(TrainingBatches(again, 1, 1, position), 9)) == whole[position:]

    def test_a_run_resumed_elsewhere_sees_the_same_sound(self, web: Web, tmp_path: Path):
        """In mid-epoch, on a machine that has no shard yet."""
        utterances = prepared(web.url, tmp_path / "corpus")
        epochs = ShardedEpochs(utterances, max_seconds=6.0, bucket_count=2, window=2)

        def seen(spool: Path, position: int, count: int) -> list[tuple[str, bytes]]:
            from_shards = cache(spool)
            batches = islice(TrainingBatches(epochs, 3, position=position), count)
            return [
                (draw.utterance.id, from_shards.fetch(draw.utterance).tracks.mel.tobytes())
                for batch in batches
                for draw in batch
            ]

        skipped = seen(tmp_path / "one", 0, 2)
        assert seen(tmp_path / "one", 0, 5) == skipped + seen(tmp_path / "two", 2, 3)
