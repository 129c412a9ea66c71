"""Manifests: what is written is what is read, damage is named by file and line, and memory does not grow."""

import functools
import gzip
import itertools
import json
import math
import operator
import time
import tracemalloc
from pathlib import Path

import pytest
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.audio import AudioSource
from lhotse.supervision import AlignmentItem

from hmmtts.data import wording
from hmmtts.data.manifest import (
    Utterance,
    from_lhotse,
    manifests,
    read_utterances,
    to_cut,
    write_utterances,
)


def utterance(folder: Path, name: str = "a") -> Utterance:
    return Utterance(
        id=name,
        audio=folder / "wavs" / f"{name}.wav",
        rate=22050,
        start=0.0,
        duration=2.0,
        audio_duration=2.0,
        text="안녕 héllo\u2028",
        speaker="anna",
        language="ko",
        phones=["sil", "ɐ"],
        phone_times=[AlignmentItem("sil", 0.0, 0.5), AlignmentItem("ɐ", 0.5, 1.5)],
        word_times=[AlignmentItem("안녕", 0.5, 1.5)],
        file=folder / "metadata.csv",
        line=3,
    )


@pytest.mark.parametrize("name", ["cuts_train.jsonl.gz", "cuts.jsonl"])
def test_what_is_written_is_read_back(tmp_path, name):
    given = [
        utterance(tmp_path, "a"),
        utterance(tmp_path, "b")._replace(phones=None, phone_times=None, word_times=None),
    ]
    assert write_utterances(tmp_path / name, given) == 2
    assert list(read_utterances(tmp_path / name)) == given


def test_equal_utterances_give_equal_bytes_and_no_other_file(tmp_path, monkeypatch):
    for day, name in enumerate(("x.jsonl.gz", "y.jsonl.gz")):
        monkeypatch.setattr(time, "time", lambda day=day: 86400.0 * day)
        write_utterances(tmp_path / name, [utterance(tmp_path)])
    assert (tmp_path / "x.jsonl.gz").read_bytes() == (tmp_path / "y.jsonl.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.jsonl.gz", "y.jsonl.gz"]


def test_a_failed_write_leaves_the_old_manifest(tmp_path):
    path = tmp_path / "cuts_train.jsonl.gz"
    write_utterances(path, [utterance(tmp_path)])

    def broken():
        yield utterance(tmp_path, "b")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        write_utterances(path, broken())
    assert [u.id for u in read_utterances(path)] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_corpus_may_be_moved_as_a_whole(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "wavs").mkdir(parents=True)
    (here / "wavs" / "a.wav").touch()
    write_utterances(here / "cuts_train.jsonl.gz", [utterance(here)])
    here.rename(there)
    (read,) = read_utterances(there / "cuts_train.jsonl.gz")
    assert read.audio == there / "wavs" / "a.wav"
    assert read.audio.is_file()


def test_lhotse_reads_it(tmp_path):
    from lhotse import CutSet

    write_utterances(tmp_path / "cuts_train.jsonl.gz", [utterance(tmp_path)])
    (cut,) = CutSet.from_jsonl_lazy(tmp_path / "cuts_train.jsonl.gz")
    assert cut.supervisions[0].alignment["phones"][1].end == 2.0
    assert cut.num_samples == 44100


def test_manifests_by_split(tmp_path):
    write_utterances(tmp_path / "cuts_test.jsonl.gz", [utterance(tmp_path)])
    assert manifests(tmp_path) == {"test": tmp_path / "cuts_test.jsonl.gz"}


def line_of(**changes) -> str:
    raw = to_cut(utterance(Path("corpus"))).to_dict()
    return json.dumps(raw | changes)


COMMAND = {
    "id": "a",
    "sources": [{"type": "command", "channels": [0], "source": "touch canary"}],
    "sampling_rate": 22050,
    "num_samples": 44100,
    "duration": 2.0,
}
DAMAGE = {
    "not JSON": ("{", "not a lhotse cut"),
    "not an object": ("[1, 2]", "not a lhotse cut"),
    "no type": ("{}", "not a lhotse cut"),
    "a type that is no cut": (line_of(type="Recording"), "not a lhotse cut"),
    "no supervision": (line_of(supervisions=[]), "one supervision"),
    "a shell command for audio": (line_of(recording=COMMAND), "must name one audio file"),
}


@pytest.mark.parametrize(("line", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_bad_line_is_named(tmp_path, monkeypatch, line, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "cuts.jsonl"
    path.write_text(f"{line_of()}\n\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"cuts\.jsonl:3: .*{message}"):
        list(read_utterances(path))
    assert not (tmp_path / "canary").exists()


def leaves(value: object, place: tuple = ()) -> list[tuple]:
    """The places of all values in a tree of JSON."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, child in inside for found in leaves(child, (*place, key)))]


def test_any_json_is_an_utterance_or_a_sentence(tmp_path):
    """Whatever stands where something else should: a ValueError that names the line, or a sound Utterance."""
    path = tmp_path / "cuts.jsonl"
    places = [place for place in leaves(json.loads(line_of())) if place]
    refused = 0
    for place in places:
        for nonsense in (None, -1, 1e308, math.nan, "x", "", [], {}, [1], {"a": 1}, True, 10**400):
            raw = json.loads(line_of())
            target = functools.reduce(operator.getitem, place[:-1], raw)
            target[place[-1]] = nonsense
            try:
                (read,) = parse_all(path, json.dumps(raw))
            except ValueError as failure:
                refused += 1
                assert "cuts.jsonl:1: " in str(failure), (place, nonsense)  # noqa: PT017
            else:
                assert isinstance(read.text, str), (place, nonsense)
                assert read.duration > 0, (place, nonsense)
                list(wording.problems(read.text))
                to_cut(read)
    assert refused > len(places)


def parse_all(path: Path, text: str) -> list[Utterance]:
    path.write_text(text + "\n", encoding="utf-8")
    return list(read_utterances(path))


def test_a_manifest_that_is_not_utf8(tmp_path):
    path = tmp_path / "cuts.jsonl"
    path.write_bytes(line_of().encode() + b"\n{\xe9}\n")
    with pytest.raises(ValueError, match=r"cuts\.jsonl:2: not UTF-8 at byte 1 \(0xe9\)"):
        list(read_utterances(path))


def test_a_cut_off_manifest(tmp_path):
    path = tmp_path / "cuts.jsonl.gz"
    write_utterances(path, [utterance(tmp_path, str(n)) for n in range(100)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"damaged after line \d+"):
        list(read_utterances(path))


def test_a_corpus_of_lhotse_s_recipes():
    recording = Recording("r", [AudioSource("file", [0], "r.flac")], 24000, 240000, 10.0)
    supervisions = [
        SupervisionSegment(
            "r-1", "r", 0.0, 4.0, text="Mr. A", speaker="s1", custom={"normalized_text": "Mister A"}
        ),
        SupervisionSegment(
            "r-2", "r", 4.5, 5.0, text="B", speaker="s1", alignment={"phones": [AlignmentItem("b", 5.0, 1.0)]}
        ),
    ]
    first, second = from_lhotse(
        RecordingSet.from_recordings([recording]), SupervisionSet.from_segments(supervisions)
    )
    assert (first.id, first.text, first.start, first.duration, first.rate) == (
        "r-1",
        "Mister A",
        0.0,
        4.0,
        24000,
    )
    assert (second.id, second.text, second.start, second.duration) == ("r-2", "B", 4.5, 5.0)
    assert second.audio_duration == 10.0
    # lhotse's times count from the start of the recording, those of an utterance from its own.
    assert [(item.start, item.duration) for item in second.phone_times] == [(0.5, 1.0)]
    assert to_cut(second).supervisions[0].alignment["phones"] == [AlignmentItem("b", 5.0, 1.0)]


def test_a_million_utterances_stream(tmp_path):
    """The first utterance at once, and no more memory after 20,000 than after 1,000."""
    path = tmp_path / "cuts.jsonl.gz"
    thousand = gzip.compress((line_of().encode() + b"\n") * 1000)
    with path.open("wb") as file:
        for _ in range(1000):
            file.write(thousand)  # gzip files may be joined
    start = time.perf_counter()
    stream = read_utterances(path)
    next(stream)
    assert time.perf_counter() - start < 1.0

    tracemalloc.start()
    sizes = []
    for _ in range(2):
        for _ in itertools.islice(stream, 2000):
            pass
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[1] < sizes[0] + 100_000
