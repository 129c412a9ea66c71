"""Any folder of speech as utterances, without a line of code: what belongs together is found by name.

With metadata.csv (see metadata.py): the audio is `wavs/ID.wav` (or .flac, .mp3, .ogg) or what the column `file` names;
phones may stand in `phones.csv` (`id|space-separated phones`) and times in `alignments/ID.TextGrid` or `.lab`.
Without it: every sound file with a `.TextGrid`, a `.lab` (times, or a bare transcript) or a `.txt` of the same name
beside it; a folder inside the folder is a speaker. `corpus.json` may give `language` and `speaker` of the whole.
"""

import json
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hmmtts.data.alignment import Times, read_lab, read_text, read_times
from hmmtts.data.finding import Finding, Problem, error, rejects, warning
from hmmtts.data.inspect import SUFFIXES
from hmmtts.data.manifest import Utterance
from hmmtts.data.metadata import Names, Row, id_problems, read_lines, read_metadata
from hmmtts.data.wording import problems as wording_problems
from hmmtts.text import SILENCE

METADATA = "metadata.csv"
AUDIO_FOLDERS = ("wavs", "wav", "audio", "clips")
ALIGNMENT_FOLDERS = ("alignments", "TextGrid", "textgrids", "labels", "lab")
ALIGNMENT_SUFFIXES = (".TextGrid", ".textgrid", ".lab")


class Entry(NamedTuple):
    """One utterance as it is listed, before its audio is decoded, and what is wrong with it so far."""

    utterance: Utterance | None  # None if the line gives none; rate and durations 0 until the audio is read
    findings: list[Finding]


class Listing(NamedTuple):
    entries: list[Entry]
    findings: list[Finding]  # that belong to no utterance


def list_folder(folder: Path, encoding: str = "utf-8") -> Listing:
    """Every utterance of a folder, and every file or line that is none."""
    common, findings = _common(folder)
    listing = _listed(folder, encoding, common) if (folder / METADATA).is_file() else _paired(folder, common)
    return Listing(listing.entries, findings + listing.findings)


class Common(NamedTuple):
    """What corpus.json says of every utterance."""

    language: str | None = None
    speaker: str = ""


def _common(folder: Path) -> tuple[Common, list[Finding]]:
    path = folder / "corpus.json"
    if not path.is_file():
        return Common(), []
    try:
        raw = json.loads(path.read_bytes())
    except ValueError as failure:
        return Common(), [warning("corpus-json", f"not read: {failure}").at(file=path.name)]
    known = {
        key: raw[key] for key in Common._fields if isinstance(raw, dict) and isinstance(raw.get(key), str)
    }
    return Common(**known), []


def _listed(folder: Path, encoding: str, common: Common) -> Listing:
    metadata = read_metadata(folder / METADATA, encoding)
    audio = Audio(folder)
    phones, findings = _phones(folder, encoding)
    entries = [_entry(row, folder, audio, phones, common) for row in metadata.rows]
    findings = [*metadata.findings, *findings]
    listed = {row.id for row in metadata.rows}
    for name in sorted(phones.keys() - listed):
        message = f"id {name!r} is not in {METADATA}"
        findings.append(warning("unlisted", message).at(file="phones.csv"))
    for path in audio.unclaimed():
        message = f"no line of {METADATA} names this file"
        findings.append(warning("unlisted-audio", message).at(file=_shown(path, folder)))
    if not entries and not findings:
        findings.append(error("empty-corpus", "no utterances").at(file=METADATA))
    return Listing(entries, findings)


def _entry(row: Row, folder: Path, audio: "Audio", phones: dict[str, list[str]], common: Common) -> Entry:
    findings = [problem.at(row.id or None, METADATA, row.line) for problem in row.problems]
    path = None
    # A line without a usable name has no audio to look at; a later line of the same id has none of its own.
    if row.id and not NAMELESS.intersection(finding.kind for finding in findings):
        path, problem = audio.find(row)
        if problem:
            findings.append(problem.at(row.id, METADATA, row.line))
    if path is None:
        return Entry(None, findings)
    spoken = row.phones.split() or phones.get(row.id)
    utterance = Utterance(
        id=row.id,
        audio=path,
        rate=0,
        start=0.0,
        duration=0.0,
        audio_duration=0.0,
        text=row.normalised or row.text or row.phones,
        speaker=row.speaker or common.speaker,
        language=row.language or common.language,
        phones=spoken,
        file=folder / METADATA,
        line=row.line,
    )
    return with_times(utterance, _alignment(row.id, path, folder), findings, folder)


NAMELESS = {
    "id-empty",
    "id-leaves-folder",
    "id-separator",
    "id-character",
    "file-leaves-folder",
    "duplicate-id",
    "columns",
}


class Audio:
    """The sound files of a folder with metadata, by name; what no row claims is left over."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.root = next((folder / name for name in AUDIO_FOLDERS if (folder / name).is_dir()), folder)
        self.by_name: dict[str, list[Path]] = defaultdict(list)
        self.by_folded: dict[str, list[Path]] = defaultdict(list)
        self.paths = sorted(path for path in self.root.rglob("*") if path.suffix.lower() in SUFFIXES)
        for path in self.paths:
            if path.parent == self.root:  # deeper ones need a column `file`
                self.by_name[path.stem].append(path)
                self.by_folded[_folded(path.stem)].append(path)
        self.claimed: set[Path] = set()

    def find(self, row: Row) -> tuple[Path | None, Problem | None]:
        if row.file:
            return self._named(row.file)
        paths = self.by_name.get(row.id, [])
        self.claimed.update(paths)
        if not paths:
            return None, self._missing(row.id)
        ambiguous = warning(
            "ambiguous-audio", f"{' and '.join(p.name for p in paths)}: {paths[0].name} is used"
        )
        return min(paths, key=lambda path: SUFFIXES.index(path.suffix.lower())), ambiguous if len(
            paths
        ) > 1 else None

    def _named(self, file: str) -> tuple[Path | None, Problem | None]:
        for path in (self.folder / file, self.root / file):
            if path.exists() or path.is_symlink():
                self.claimed.add(path)
                return path, None
        return None, error("missing-audio", f"no file {file}")

    def _missing(self, name: str) -> Problem:
        message = f"no {_shown(self.root / name, self.folder)} with a suffix {', '.join(SUFFIXES)}"
        for path in self.by_folded.get(_folded(name), []):
            message += f"; {path.name!r} differs only in case or Unicode form: rename it"
        return error("missing-audio", message)

    def unclaimed(self) -> Iterator[Path]:
        return (path for path in self.paths if path not in self.claimed)


def _phones(folder: Path, encoding: str) -> tuple[dict[str, list[str]], list[Finding]]:
    path = folder / "phones.csv"
    phones: dict[str, list[str]] = {}
    findings: list[Finding] = []
    if not path.is_file():
        return phones, findings
    for line in read_lines(path, encoding):
        name, bar, spelling = line.text.partition("|")
        problem = line.problem or (None if bar else error("columns", "no '|': id|space-separated phones"))
        problem = problem or (error("duplicate-id", f"id {name!r} comes twice") if name in phones else None)
        problem = problem or (None if spelling.strip() else error("empty-text", "no phones"))
        if problem:
            findings.append(problem.at(name or None, path.name, line.number))
        else:
            phones[name] = spelling.split()
    return phones, findings


def _alignment(name: str, audio: Path, folder: Path) -> Path | None:
    """The file of times that belongs to an utterance: in a folder of alignments, else beside the audio."""
    places = [*(folder / inside for inside in ALIGNMENT_FOLDERS), audio.parent]
    paths = (place / (name + suffix) for place in places for suffix in ALIGNMENT_SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def with_times(utterance: Utterance, path: Path | None, findings: list[Finding], folder: Path) -> Entry:
    """The entry with the times of its alignment file, if it has one."""
    if path is None:
        return Entry(utterance, findings)
    try:
        times = read_times(path)
    except (ValueError, OSError) as failure:
        message = str(failure).removeprefix(f"{path}: ")
        return Entry(
            utterance, [*findings, error("alignment", message).at(utterance.id, _shown(path, folder))]
        )
    return Entry(_timed(utterance, times), findings)


def _timed(utterance: Utterance, times: Times) -> Utterance:
    spelt = [item.symbol for item in times.phones] if times.phones else None
    return utterance._replace(
        phones=utterance.phones or spelt, phone_times=times.phones, word_times=times.words
    )


def _paired(folder: Path, common: Common) -> Listing:
    if corpora := sorted(path.parent for path in folder.rglob(METADATA)):
        message = (
            f"{len(corpora)} folders inside have a {METADATA} of their own: name one, such as {corpora[0]}"
        )
        return Listing([], [error("empty-corpus", message).at()])
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        message = f"no {METADATA} and no sound file ({', '.join(SUFFIXES)}) in {folder}"
        return Listing([], [error("empty-corpus", message).at()])
    entries: list[Entry] = []
    names = Names()
    for path in paths:
        shown = _shown(path, folder)
        wrong = [*id_problems(path.stem), *names.problems(path.stem, shown)]
        found = [problem.at(path.stem, shown) for problem in wrong]
        entries.append(Entry(None, found) if rejects(found) else _pair(path, folder, common, found))
    return Listing(entries, [])


def _pair(path: Path, folder: Path, common: Common, findings: list[Finding]) -> Entry:
    inside = path.relative_to(folder).parts[:-1]
    speakers = [part for part in inside if part not in AUDIO_FOLDERS]
    utterance = Utterance(
        id=path.stem,
        audio=path,
        rate=0,
        start=0.0,
        duration=0.0,
        audio_duration=0.0,
        text="",
        speaker=speakers[0] if speakers else common.speaker,
        language=common.language,
    )
    alignment = _alignment(path.stem, path, folder)
    transcript = next((p for p in (path.with_suffix(".txt"), path.with_suffix(".lab")) if p.is_file()), None)
    try:
        if alignment and alignment.suffix == ".lab" and read_lab(alignment) is None:
            transcript, alignment = alignment, None
        text = (
            "" if transcript is None or transcript == alignment else " ".join(read_text(transcript).split())
        )
    except (ValueError, OSError) as failure:
        return Entry(None, [*findings, error("encoding", str(failure)).at(path.stem, _shown(path, folder))])
    entry = with_times(utterance, alignment, findings, folder)
    if entry.utterance is None or (transcript is None and alignment is None):
        message = "no .TextGrid, .lab or .txt of the same name"
        return Entry(
            None, [*entry.findings, error("missing-text", message).at(path.stem, _shown(path, folder))]
        )
    words = entry.utterance.word_times or []
    spoken = [phone for phone in entry.utterance.phones or [] if phone != SILENCE]
    text = text or " ".join(item.symbol for item in words) or " ".join(spoken)
    origin = transcript or alignment
    findings = [problem.at(path.stem, _shown(path, folder)) for problem in wording_problems(text)]
    return Entry(entry.utterance._replace(text=text, file=origin), [*entry.findings, *findings])


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _shown(path: Path, folder: Path) -> str:
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
