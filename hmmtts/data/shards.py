"""A corpus in shards: lhotse Shar, with an index that pins every file, for disks and web servers.

    shards.json                       every file with its size and SHA-256
    cuts_{train,valid,test}.jsonl.gz  the manifests: texts, durations, and audio/SPLIT/NUMBER/ID.flac for each utterance
    train/recording.NUMBER.tar        the audio of some hundred utterances
    train/cuts.NUMBER.jsonl.gz        the same utterances for lhotse: CutSet.from_shar(in_dir="train")

The manifests are small and are always there as a whole, so that batches can be drawn, and a run resumed at any position,
without a look at the audio. Utterances are put into shards in random order: what is read together is no chapter.
"""

import hashlib
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from hmmtts.data.fetch import Remote, download, mismatch
from hmmtts.data.manifest import Utterance, manifests, read_utterances, to_cut, write_utterances

INDEX = "shards.json"
FORMAT = 1
LARGEST_INDEX = 1 << 28  # bytes
TIMEOUT = 30.0  # seconds


class File(NamedTuple):
    """A file of a sharded corpus and what it must be."""

    name: str  # below the index, with /
    size: int
    sha256: str


class Index(NamedTuple):
    source: str  # the folder or address that the files are below
    manifests: dict[str, File]  # by split
    shards: dict[str, File]  # by SPLIT/NUMBER, the folder of their audio


def write(source: Path, out: Path, per_shard: int = 500, seed: int = 0) -> Index:
    """Put a prepared corpus into shards. `out` appears when all of it is written."""
    found = manifests(source)
    if not found:
        raise ValueError(f"{source} holds no cuts_train.jsonl.gz: prepare the corpus first")
    if out.exists():
        raise ValueError(f"{out} exists already: choose another folder, or remove it first")
    if per_shard < 1:
        raise ValueError(f"per_shard must be at least 1, got {per_shard}")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of an interrupted run
    part.mkdir(parents=True)
    try:
        index = Index(str(out), {}, {})
        for number, (split, manifest) in enumerate(found.items()):
            utterances = list(read_utterances(manifest))
            order = np.random.default_rng([seed, number]).permutation(len(utterances))
            placed = _write_split(part, split, (utterances[place] for place in order), per_shard)
            write_utterances(part / manifest.name, placed)
            index.manifests[split] = _file(part, part / manifest.name)
            for tar in sorted((part / split).glob("recording.*.tar")):
                index.shards[f"{split}/{tar.suffixes[0][1:]}"] = _file(part, tar)
        content = {"format": FORMAT, "manifests": index.manifests, "shards": index.shards}
        (part / INDEX).write_text(json.dumps(content, indent=0), encoding="utf-8")
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return index


def _write_split(
    folder: Path, split: str, utterances: Iterable[Utterance], per_shard: int
) -> Iterator[Utterance]:
    """Write the shards of a split; the utterances come out as the manifest holds them."""
    from lhotse.shar import SharWriter  # takes a second to import

    (folder / split).mkdir()
    with SharWriter(str(folder / split), fields={"recording": "flac"}, shard_size=per_shard) as shards:
        waiting = iter(utterances)
        number = 0
        while batch := list(islice(waiting, per_shard)):
            for utterance in batch:
                shards.write(to_cut(utterance))
                audio = folder / "audio" / split / f"{number:06d}" / f"{utterance.id}.flac"
                yield utterance._replace(
                    audio=audio, start=0.0, audio_duration=utterance.duration, file=None, line=None
                )
            number += 1


def _file(folder: Path, path: Path) -> File:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return File(path.relative_to(folder).as_posix(), path.stat().st_size, digest)


def fetch_index(source: str) -> bytes:
    """The index below a folder or an address."""
    if not is_remote(source):
        return (Path(source) / INDEX).read_bytes()
    url = f"{source.rstrip('/')}/{INDEX}"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            content = answer.read(LARGEST_INDEX)
    except urllib.error.HTTPError as error:
        raise ValueError(
            f"{url}: the server answers {error}; is it the folder that `hmmtts shard` wrote?"
        ) from error
    return content


def parse(content: bytes, source: str) -> Index:
    """ValueError for what is no index; no name in it leads out of its folder."""
    try:
        stated = json.loads(content)
        version = stated["format"]
        if version != FORMAT:
            raise ValueError(f"format {version}, this hmmtts reads {FORMAT}")
        files = [
            {str(key): _checked(File(*value)) for key, value in stated[kind].items()}
            for kind in ("manifests", "shards")
        ]
        return Index(source, *files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{source}: {INDEX} is no index of shards ({error})") from error


def _checked(file: File) -> File:
    inside = PurePosixPath(file.name)
    if (
        inside.is_absolute()
        or ".." in inside.parts
        or not isinstance(file.size, int)
        or len(file.sha256) != 64
    ):
        raise ValueError(f"{file} is not a file of this folder")
    return file


def is_remote(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def retrieve(source: str, file: File, path: Path) -> Path:
    """The file under `path`, verified; from a web server resumed where an earlier attempt broke off."""
    if is_remote(source):
        return download(Remote(f"{source.rstrip('/')}/{file.name}", file.size, file.sha256), path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(Path(source) / file.name, part)
        problem = mismatch(part, Remote(file.name, file.size, file.sha256))
        if problem is not None:
            raise ValueError(f"{Path(source) / file.name}: {problem}; write the shards again")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
