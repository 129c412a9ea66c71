"""Utterances on disk: lhotse cuts as JSON lines, one utterance a line, read and written one at a time.

A corpus is `cuts_train.jsonl.gz`, `cuts_valid.jsonl.gz` and `cuts_test.jsonl.gz`: MonoCuts of one supervision each, so
that every tool of lhotse reads them too. The rest of hmmtts sees `Utterance`. An audio path inside the manifest's folder
is stored relative to it, so that a corpus may be moved as a whole.
"""

import gzip
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple, cast

from lhotse import CutSet, MonoCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.audio import AudioSource
from lhotse.cut.set import deserialize_cut
from lhotse.supervision import AlignmentItem

SPLITS = ("train", "valid", "test")
LONGEST = 1_000_000  # seconds of a recording, and Hz: more is a damaged number


class Utterance(NamedTuple):
    """One sentence and the stretch of audio that holds it. Times are seconds from the start of that stretch."""

    id: str
    audio: Path
    rate: int  # samples per second of the file
    start: float  # of the stretch in the file, seconds
    duration: float
    audio_duration: float  # of the whole file
    text: str
    speaker: str = ""
    language: str | None = None
    phones: list[str] | None = None  # as the corpus spells the text, where it does
    phone_times: list[AlignmentItem] | None = None  # symbol, start, duration; a pause is `sil`
    word_times: list[AlignmentItem] | None = None  # pauses left out
    file: Path | None = None  # where the text was read, for messages
    line: int | None = None

    @property
    def where(self) -> str:
        """`LJ001-0002 (metadata.csv:2)`: the beginning of every message about this utterance."""
        if self.file is None:
            return self.id
        return f"{self.id} ({self.file if self.line is None else f'{self.file}:{self.line}'})"


def manifests(folder: Path) -> dict[str, Path]:
    """The manifests of a prepared corpus that exist, by split."""
    paths = {split: folder / f"cuts_{split}.jsonl.gz" for split in SPLITS}
    return {split: path for split, path in paths.items() if path.is_file()}


def read_utterances(path: str | Path) -> Iterator[Utterance]:
    """The utterances of a manifest, one at a time: memory does not grow with the corpus."""
    path = Path(path)
    for line, text in read_lines(path):
        yield parse(text, path, line)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a manifest that are not blank, and their numbers."""
    line = 0
    try:
        with _open(path) as stream:
            for line, raw in enumerate(stream, 1):
                if raw.strip():
                    yield line, raw.decode("utf-8")
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged after line {line} ({error}); prepare the corpus again") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}:{line}: not UTF-8 at byte {error.start} ({error.object[error.start]:#04x})"
        ) from error


def parse(text: str, path: Path, line: int) -> Utterance:
    """The utterance of one line of a manifest."""
    try:
        utterance = from_cut(deserialize_cut(json.loads(text)), path.parent)
    except UnfitCut as error:
        raise ValueError(f"{path}:{line}: {error}") from error
    except Exception as error:
        # lhotse raises whatever its constructors run into: KeyError, TypeError, AssertionError, OverflowError, ...
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}:{line}: not a lhotse cut ({reason}); one JSON object a line") from error
    # Where a person can mend the text: the metadata, if the manifest remembers it.
    return utterance if utterance.file else utterance._replace(file=path, line=line)


class UnfitCut(ValueError):
    """A cut that is no utterance to train on."""


def from_cut(cut: MonoCut, folder: Path = Path()) -> Utterance:
    """The utterance that a cut holds; a relative audio path starts at `folder`, or else at the working directory."""
    if not isinstance(cut, MonoCut) or cut.recording is None or len(cut.supervisions) != 1:
        raise UnfitCut(
            f"cut {cut.id!r} must be a MonoCut with a recording and one supervision; "
            "CutSet.trim_to_supervisions() makes such cuts"
        )
    recording, supervision = cut.recording, cut.supervisions[0]
    # A source of type `command` is a shell command, which reading a manifest must never run.
    if len(recording.sources) != 1 or recording.sources[0].type != "file" or recording.transforms:
        raise UnfitCut(f"cut {cut.id!r} must name one audio file, untransformed; save the audio first")
    times = supervision.alignment or {}
    custom = supervision.custom or {}
    phones = custom.get("phones")
    utterance = Utterance(
        id=cut.id,
        audio=_resolve(Path(recording.sources[0].source), folder),
        rate=recording.sampling_rate,
        start=cut.start,
        duration=cut.duration,
        audio_duration=recording.duration,
        text=supervision.text or "",
        speaker=supervision.speaker or "",
        language=supervision.language,
        phones=None if phones is None else phones.split(),
        phone_times=_shifted(times.get("phones"), -cut.start),
        word_times=_shifted(times.get("words"), -cut.start),
        file=_resolve(Path(custom["file"]), folder) if "file" in custom else None,
        line=custom.get("line"),
    )
    refuse_nonsense(utterance)
    return utterance


def refuse_nonsense(utterance: Utterance) -> None:
    """JSON holds anything anywhere; what would only fail later, and far from the manifest, fails here."""
    texts = [
        utterance.id,
        utterance.text,
        utterance.speaker,
        utterance.language or "",
        *(utterance.phones or []),
    ]
    numbers = {name: getattr(utterance, name) for name in ("start", "duration", "audio_duration", "rate")}
    for item in [*(utterance.phone_times or []), *(utterance.word_times or [])]:
        texts.append(item.symbol)
        numbers |= {f"start of {item.symbol!r}": item.start, f"duration of {item.symbol!r}": item.duration}
    if not all(isinstance(text, str) for text in texts):
        raise UnfitCut(f"id, text, speaker, language and symbols must be strings, got {texts}")
    for name, number in numbers.items():
        if not isinstance(number, int | float) or not 0 <= number < LONGEST:
            raise UnfitCut(f"{name} must be a number from 0 to {LONGEST}, got {number!r}")
    if not utterance.duration or not utterance.rate or not isinstance(utterance.rate, int):
        raise UnfitCut(
            f"duration and rate must be positive, got {utterance.duration} s at {utterance.rate!r} Hz"
        )


def to_cut(utterance: Utterance, folder: Path | None = None) -> MonoCut:
    """The cut that holds an utterance; paths inside `folder` become relative to it."""
    times = {"phones": utterance.phone_times, "words": utterance.word_times}
    alignment = {tier: _shifted(items, utterance.start) for tier, items in times.items() if items is not None}
    custom = {
        "phones": None if utterance.phones is None else " ".join(utterance.phones),
        "file": None if utterance.file is None else _relative(utterance.file, folder),
        "line": utterance.line,
    }
    supervision = SupervisionSegment(
        id=utterance.id,
        recording_id=utterance.id,
        start=0.0,
        duration=utterance.duration,
        text=utterance.text,
        language=utterance.language,
        speaker=utterance.speaker,
        custom={key: value for key, value in custom.items() if value is not None} or None,
        alignment=alignment or None,
    )
    recording = Recording(
        id=utterance.id,
        sources=[AudioSource("file", [0], _relative(utterance.audio, folder))],
        sampling_rate=utterance.rate,
        num_samples=round(utterance.audio_duration * utterance.rate),
        duration=utterance.audio_duration,
    )
    return MonoCut(
        id=utterance.id,
        start=utterance.start,
        duration=utterance.duration,
        channel=0,
        supervisions=[supervision],
        recording=recording,
    )


def write_utterances(path: str | Path, utterances: Iterable[Utterance]) -> int:
    """Write a manifest and return the number of utterances.

    The file appears only when it is whole, and equal utterances give equal bytes: the gzip header holds no time.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    count = 0
    try:
        with part.open("wb") as raw, _compressed(path, raw) as stream:
            for utterance in utterances:
                cut = to_cut(utterance, path.parent.absolute())
                stream.write(json.dumps(cut.to_dict(), ensure_ascii=False).encode() + b"\n")
                count += 1
        part.replace(path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    return count


def from_lhotse(recordings: RecordingSet, supervisions: SupervisionSet) -> Iterator[Utterance]:
    """The utterances of a corpus that one of lhotse's recipes prepared (LJSpeech, VCTK, LibriTTS, AISHELL-3, ...)."""
    cuts = CutSet.from_manifests(recordings=recordings, supervisions=supervisions).trim_to_supervisions(
        keep_overlapping=False, keep_all_channels=False
    )
    for cut in cuts:
        utterance = from_cut(cut)
        supervision = cut.supervisions[0]
        normalised = (supervision.custom or {}).get("normalized_text")
        yield utterance._replace(id=supervision.id, text=normalised or utterance.text)


def _shifted(items: list[AlignmentItem] | None, seconds: float) -> list[AlignmentItem] | None:
    """Times of lhotse count from the start of the recording, times of an utterance from its own."""
    if items is None or seconds == 0.0:
        return items
    return [item._replace(start=round(item.start + seconds, 8)) for item in items]


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _compressed(path: Path, raw: IO[bytes]) -> IO[bytes]:
    return cast(IO[bytes], gzip.GzipFile("", "wb", 6, raw, mtime=0)) if path.suffix == ".gz" else raw


def _resolve(path: Path, folder: Path) -> Path:
    """A relative path starts at `folder`, or else, as lhotse's own manifests have it, at the working directory."""
    inside = folder / path
    return inside if inside.exists() or not path.exists() else path


def _relative(path: Path, folder: Path | None) -> str:
    if folder is None:
        return path.as_posix()
    path = path.absolute()
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
