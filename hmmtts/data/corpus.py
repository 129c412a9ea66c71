"""What a person names as a corpus, as entries to check: a manifest, a folder, or the manifests of a recipe."""

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lhotse import RecordingSet, SupervisionSet

from hmmtts.data.finding import Finding, Problem, error
from hmmtts.data.folder import METADATA, Entry, list_folder
from hmmtts.data.manifest import Utterance, from_lhotse, manifests, parse, read_lines
from hmmtts.data.metadata import Names, id_problems
from hmmtts.data.wording import problems

RECIPE = "recipe="
PREPARED = Path("data")  # recipes prepare their corpora here, below the working directory


class Corpus(NamedTuple):
    title: str  # what was found under the name
    folder: Path  # paths in findings are relative to it
    entries: Iterable[Entry]
    size: int  # entries
    findings: list[Finding]  # that belong to no utterance


def open_corpus(name: str, encoding: str = "utf-8") -> Corpus:
    """`recipe=NAME`, a manifest, a folder with manifests or with metadata.csv, or a folder of sound files with texts."""
    try:
        codecs.lookup(encoding)
    except LookupError as unknown:
        raise ValueError(
            f"--encoding must be one that Python knows, such as utf-8 or latin-1, got {encoding!r}"
        ) from unknown
    path = PREPARED / name.removeprefix(RECIPE) if name.startswith(RECIPE) else Path(name)
    if name.startswith(RECIPE) and not manifests(path):
        recipe = name.removeprefix(RECIPE)
        raise ValueError(f"{path} holds no corpus yet; make it with `python recipes/{recipe}/prepare.py`")
    if not path.exists():
        raise ValueError(
            f"{name!r} is no corpus: there is no such file; a corpus is a manifest, a folder or recipe=NAME"
        )
    if path.name == METADATA:
        path = path.parent
    if path.is_dir():
        if found := list(manifests(path).values()):
            return open_manifests(found, path)
        if prepared := sorted(path.glob("*recordings*.jsonl.gz")):
            return open_prepared(prepared, path)
        return open_folder(path, encoding)
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise ValueError(
            f"CORPUS {name!r} must be a folder, {METADATA} or a manifest, whose name ends in .jsonl.gz"
        )
    return open_manifests([path], path.parent)


def open_folder(path: Path, encoding: str) -> Corpus:
    listing = list_folder(path, encoding)
    title = f"folder {path}, {'listed by ' + METADATA if (path / METADATA).is_file() else 'sound files with texts'}"
    return Corpus(title, path, listing.entries, len(listing.entries), listing.findings)


def open_manifests(paths: list[Path], folder: Path) -> Corpus:
    count = sum(1 for path in paths for _ in read_lines(path))
    title = f"manifest{'s' * (len(paths) > 1)} {', '.join(str(path) for path in paths)}"
    findings = [] if count else [error("empty-corpus", "no utterances").at(file=str(paths[0]))]
    return Corpus(title, folder, manifest_entries(paths), count, findings)


def open_prepared(paths: list[Path], folder: Path) -> Corpus:
    """What one of lhotse's own recipes wrote: *_recordings_*.jsonl.gz beside *_supervisions_*.jsonl.gz."""
    entries: list[Entry] = []
    names = Names()
    for path in paths:
        texts = path.with_name(path.name.replace("recordings", "supervisions"))
        for utterance in _prepared(path, texts):
            found = [*problems(utterance.text), *names.problems(utterance.id, texts.name)]
            placed = utterance._replace(file=texts)
            entries.append(Entry(placed, [problem.at(utterance.id, texts.name) for problem in found]))
    return Corpus(f"manifests of lhotse in {folder}", folder, entries, len(entries), [])


def _prepared(recordings: Path, supervisions: Path) -> list[Utterance]:
    try:
        return list(from_lhotse(RecordingSet.from_file(recordings), SupervisionSet.from_file(supervisions)))
    except Exception as failure:
        # lhotse raises whatever it runs into; one damaged line spoils the lot, and naming it is beyond us.
        reason = f"{type(failure).__name__}: {failure}"
        raise ValueError(
            f"{recordings} and {supervisions.name} are no manifests of lhotse ({reason})"
        ) from failure


def manifest_entries(paths: list[Path]) -> Iterator[Entry]:
    """One entry a line. An id may come once in all the splits together: training on a test sentence is no test."""
    names = Names()
    for path in paths:
        for line, text in read_lines(path):
            try:
                utterance = parse(text, path, line)
            except ValueError as failure:
                message = str(failure).removeprefix(f"{path}:{line}: ")
                yield Entry(None, [error("manifest", message).at(file=path.name, line=line)])
                continue
            found: list[Problem] = [*id_problems(utterance.id), *problems(utterance.text)]
            found += names.problems(utterance.id, f"{path.name}:{line}")
            yield Entry(utterance, [problem.at(utterance.id, path.name, line) for problem in found])
