"""An existing corpus, left where it lies, as a prepared one: checked, split, its manifests written."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from hmmtts.data import prepared
from hmmtts.data.check import Options, check
from hmmtts.data.corpus import open_corpus
from hmmtts.data.finding import rejects
from hmmtts.data.manifest import SPLITS, Utterance, manifests, read_utterances, write_utterances
from hmmtts.data.split import describe, place, split

log = logging.getLogger(__name__)
SHOWN = 10  # findings that a message names
Listed = Callable[[str], str | None]  # id -> split, None for an id that no list names


def adopt(
    source: Path,
    out: Path,
    listed: Listed | None = None,
    speaker: str = "",
    language: str | None = None,
    inputs: Sequence[Path] = (),
) -> None:
    """Write out/cuts_{train,valid,test}.jsonl.gz for whatever `hmmtts check SOURCE` accepts, or say why it does not.

    `listed` gives the split of an id as the corpus's usual lists have it, or None; without it the splits of a source
    that is prepared already are kept. `speaker` and `language` are for utterances whose corpus names none. Rerunning
    changes nothing unless the source or one of `inputs`, the files that `listed` reads, has changed.
    """
    key = prepared.key(str(source.absolute()), speaker, str(language), *inputs, *_state(source))
    if prepared.is_done(out, key):
        log.info("%s is prepared already", out)
        return
    prepared.begin(out)
    utterances = [
        utterance._replace(speaker=utterance.speaker or speaker, language=utterance.language or language)
        for utterance in accepted(source)
    ]
    listed = listed or _splits_of(source).get
    of = cover(utterances, assign([utterance.id for utterance in utterances], listed), listed)
    paths = {part: out / f"cuts_{part}.jsonl.gz" for part in SPLITS}
    for part, path in paths.items():
        count = write_utterances(path, (utterance for utterance in utterances if of[utterance.id] == part))
        log.info("%s: %d utterances", path, count)
    prepared.finish(out, key, paths.values())
    log.info("%.1f minutes of speech", sum(utterance.duration for utterance in utterances) / 60)


def accepted(source: Path) -> list[Utterance]:
    """The utterances of a corpus without an error; warnings go to the log."""
    report = check(open_corpus(str(source)), Options(jobs=min(4, os.cpu_count() or 1)))
    kinds = Counter(finding.kind for finding in report.findings if not rejects([finding]))
    for kind, count in kinds.items():
        log.warning("%s: %d times the warning %r; `hmmtts check %s` names them", source, count, kind, source)
    errors = [str(finding) for finding in report.findings if rejects([finding])]
    if errors:
        more = f"\n  and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
        raise ValueError(
            f"{source} has {len(errors)} errors:\n  "
            + "\n  ".join(errors[:SHOWN])
            + f"{more}\nMend them, or leave those utterances out: hmmtts check {source} --fix GOOD.jsonl.gz, "
            "then data_dir=GOOD.jsonl.gz"
        )
    return [judged.utterance for judged in report.accepted]


def assign(names: Iterable[str], listed: Listed) -> dict[str, str]:
    """The split of every id: as listed, else by a hash of the id; a split that would be empty is filled by hash too."""
    hashed = split(names)
    of = {name: listed(name) or part for name, part in hashed.items()}
    unlisted = [name for name in of if listed(name) is None]
    if len(unlisted) == len(of):
        log.info(describe(hashed))
        return hashed
    if unlisted:
        log.info("%d ids are in no list, such as %s: split by hash of the id", len(unlisted), unlisted[0])
    for part in SPLITS:
        if part not in of.values():
            fullest = Counter(of.values()).most_common(1)[0][0]
            source = [name for name in of if of[name] == fullest]
            moved = [name for name in source if hashed[name] == part] or [max(source, key=place)]
            of.update(dict.fromkeys(moved, part))
            log.info(
                "the lists leave %s empty: %d of %s fill it, by hash of the id", part, len(moved), fullest
            )
    return of


def cover(
    utterances: Sequence[Utterance], of: Mapping[str, str], listed: Listed = lambda name: None
) -> dict[str, str]:
    """A symbol that training never meets cannot be judged: an utterance of valid or test that has one goes to train,
    unless it is where a list has it.
    """
    spelt = {
        utterance.id: frozenset(utterance.phones or utterance.text.casefold()) for utterance in utterances
    }
    covered = dict(of)
    left = Counter(of.values())
    trained = set().union(*(spelt[name] for name, part in of.items() if part == "train"))
    for name, part in of.items():
        if part not in ("train", listed(name)) and spelt[name] - trained and left[part] > 1:
            covered[name] = "train"
            left[part] -= 1
            trained |= spelt[name]
    moved = [name for name in of if covered[name] != of[name]]
    if moved:
        log.info("%d go to train, which lacked some of their symbols: %s", len(moved), ", ".join(moved))
    return covered


def _splits_of(source: Path) -> dict[str, str]:
    found = manifests(source) if source.is_dir() else {}
    return {utterance.id: part for part, path in found.items() for utterance in read_utterances(path)}


def _state(source: Path) -> list[str]:
    """What changes when a file of the corpus does."""
    paths = sorted(source.rglob("*")) if source.is_dir() else [source]
    stats = ((path, path.stat()) for path in paths if path.is_file())
    return [f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats]
