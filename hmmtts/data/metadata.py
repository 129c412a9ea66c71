"""`metadata.csv`, read byte by byte, since what libraries make of a damaged one is worse than the damage.

Two forms: LJSpeech's `id|text[|normalised text]`, and a first line that names the columns (`id` or `file`, `text`,
and if wanted `normalised`, `speaker`, `language`, `phones`), separated by `|`, a tab or a comma. A row is a line: it
ends at a line feed and nowhere else, so that neither an unclosed quote nor a Unicode line end can merge or split rows.
Between bars and tabs a quote is a character like any other; between commas it encloses a field, on one line.
"""

import csv
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO, NamedTuple

from hmmtts.data.finding import Finding, Problem, error, rejects, warning
from hmmtts.data.wording import listing, problems

LONGEST_LINE = 1 << 20  # bytes; a longer one is no text
LONGEST_ID = 200  # bytes; file systems end at 255, suffixes included
COLUMNS = {
    "id": ("id", "name", "utterance", "utterance_id"),
    "file": ("file", "file_name", "filename", "path", "audio", "audio_file", "wav"),
    "text": ("text", "sentence", "transcription", "transcript"),
    "normalised": ("normalised", "normalized", "normalised_text", "normalized_text"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "language": ("language", "lang", "locale"),
    "phones": ("phones", "phonemes"),
}
MEANING = {alias: column for column, aliases in COLUMNS.items() for alias in aliases}
LJSPEECH = ("id", "text", "normalised")


class Row(NamedTuple):
    """One line and everything that is wrong with it. Fields that the line does not give are empty."""

    line: int
    id: str = ""
    file: str = ""  # of the audio, relative to the folder of metadata.csv
    text: str = ""
    normalised: str = ""
    speaker: str = ""
    language: str = ""
    phones: str = ""
    problems: tuple[Problem, ...] = ()


class Metadata(NamedTuple):
    rows: list[Row]
    findings: list[Finding]  # about the file as a whole


class Line(NamedTuple):
    number: int
    text: str
    problem: Problem | None


def read_metadata(path: Path, encoding: str = "utf-8") -> Metadata:
    """Every row of the file, the good and the bad."""
    findings = [problem.at(file=path.name) for problem in file_problems(path)]
    if rejects(findings):
        return Metadata([], findings)
    rows: list[Row] = []
    names = Names()
    form: tuple[str, Sequence[str]] | None = None
    for line in read_lines(path, encoding):
        if not line.text and not line.problem:
            findings.append(warning("blank-line", "the line is blank").at(file=path.name, line=line.number))
            continue
        if line.problem:
            rows.append(Row(line.number, id=_first_field(line.text), problems=(line.problem,)))
            continue
        if form is None:
            form = header(line.text)
            if form is not None:
                if unused := [field for field in form[1] if field not in Row._fields]:
                    message = f"columns that nothing reads: {', '.join(unused)}"
                    findings.append(warning("columns", message).at(file=path.name, line=line.number))
                continue
            form = "|", LJSPEECH
        row = parse(line, *form)
        rows.append(
            row._replace(
                problems=(*row.problems, *(names.problems(row.id, f"line {row.line}") if row.id else ()))
            )
        )
    return Metadata(rows, findings)


def read_lines(path: Path, encoding: str = "utf-8") -> Iterator[Line]:
    """The lines of a text file without their ends, and what keeps one from being text."""
    with path.open("rb") as file:
        for number, raw in enumerate(_raw_lines(file), 1):
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            raw = raw.removesuffix(b"\n").removesuffix(b"\r")
            try:
                yield Line(number, raw.decode(encoding), _line_problem(raw))
            except UnicodeDecodeError as failure:
                before = raw[: failure.start].decode(encoding)
                yield Line(number, before, _encoding_problem(raw, failure))


def _first_field(text: str) -> str:
    """The id of a line that is damaged after it."""
    name, bar, _ = text.partition("|")
    return name if bar and not any(id_problems(name)) else ""


def _raw_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, of which one that is too long to be a line of text is the last."""
    while raw := file.readline(LONGEST_LINE):
        yield raw
        if len(raw) == LONGEST_LINE:
            return


def _encoding_problem(raw: bytes, failure: UnicodeDecodeError) -> Problem:
    mend = "is it latin-1? convert it with `iconv -f latin1 -t utf8`, or give --encoding latin-1"
    name = "UTF-8" if failure.encoding == "utf-8" else failure.encoding
    return error("encoding", f"not {name} at byte {failure.start} ({raw[failure.start]:#04x}); {mend}")


def _line_problem(raw: bytes) -> Problem | None:
    if len(raw) >= LONGEST_LINE:
        return error("line-too-long", f"the line is longer than {LONGEST_LINE} bytes: is this a text file?")
    if b"\0" in raw:
        return error("control-character", f"a NUL at byte {raw.index(0)}: is the file UTF-16, or damaged?")
    if b"\r" in raw:
        return error(
            "line-end", "a carriage return inside the line (line ends of old Macs?); end lines with LF"
        )
    return None


def file_problems(path: Path) -> Iterator[Problem]:
    with path.open("rb") as file:
        head = file.read(4)
        if not head:
            yield error("empty-file", "the file is empty")
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            yield error("encoding", "the file is UTF-16; save it as UTF-8")
        if head.startswith(b"\xef\xbb\xbf"):
            yield warning(
                "bom",
                "the file begins with a byte order mark, which is not part of the first id; save it without",
            )
        file.seek(0)
        ends = Counter(raw.endswith(b"\r\n") for raw in _raw_lines(file))
    if ends[True]:
        yield warning(
            "crlf",
            f"{ends[True]} of {ends.total()} lines end in CR LF (Windows); the CR is not part of the text",
        )


def header(text: str) -> tuple[str, list[str]] | None:
    """The separator and the columns, if the line names columns; a name that means nothing here stays as it is."""
    for separator in ("|", "\t", ","):
        names = [field.strip().strip('"').lower() for field in text.split(separator)]
        columns = [MEANING.get(name, name) for name in names]
        if {"id", "file"} & set(columns) and {"text", "normalised", "phones"} & set(columns):
            return separator, columns
    return None


def parse(line: Line, separator: str, columns: Sequence[str]) -> Row:
    """The row of a line; a wrong number of fields is a problem of the row."""
    if separator == ",":
        try:
            fields = next(csv.reader([line.text], strict=True))
        except csv.Error as failure:
            return Row(line.number, problems=(error("quote", f"{failure}: is a quote not closed?"),))
    else:
        fields = line.text.split(separator)
    optional = columns is LJSPEECH and len(fields) == len(columns) - 1
    if len(fields) != len(columns) and not optional:
        shape = separator.join(columns)
        mend = (
            f"is there a {separator!r} in the text?" if len(fields) > len(columns) else "is the line cut off?"
        )
        message = f"{len(fields)} fields where {shape!r} has {len(columns)}; {mend}"
        name = fields[0] if columns[0] == "id" else ""
        return Row(line.number, id=name, problems=(error("columns", message), *id_problems(name)))
    known = {column: field for column, field in zip(columns, fields, strict=False) if column in Row._fields}
    row = Row(line.number, **known)  # type: ignore[arg-type]
    row = row._replace(id=row.id or PurePosixPath(row.file).stem)
    spoken = row.normalised or row.text or row.phones
    return row._replace(problems=(*id_problems(row.id), *_file_problems(row.file), *problems(spoken)))


def leaves_folder(path: str) -> bool:
    """Whether a path from the metadata could name a file outside the corpus, on any system."""
    posix, windows = PurePosixPath(path), PureWindowsPath(path)
    return posix.is_absolute() or bool(windows.anchor) or ".." in windows.parts


def id_problems(name: str) -> Iterator[Problem]:
    control = Counter(c for c in name if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cf", "Cs"))
    if not name:
        yield error("id-empty", "the id is empty")
    elif leaves_folder(name):
        yield error("id-leaves-folder", f"id {name!r} leaves the data directory")
    elif "/" in name or "\\" in name:
        yield error(
            "id-separator",
            f"id {name!r} holds a path separator; an id is a file name without folder and suffix",
        )
    elif control:
        yield error("id-character", f"id {name!r} holds {listing(control)}")
    elif name != name.strip():
        yield error("id-character", f"id {name!r} begins or ends with white space")
    elif len(name.encode()) > LONGEST_ID:
        yield error(
            "id-character",
            f"the id is {len(name.encode())} bytes long; at most {LONGEST_ID} make a file name",
        )


def _file_problems(file: str) -> Iterator[Problem]:
    if file and leaves_folder(file):
        yield error("file-leaves-folder", f"file {file!r} leaves the data directory")


class Names:
    """The ids so far and where they stood, as they are written and as a forgiving file system compares them."""

    def __init__(self) -> None:
        self.written: dict[str, str] = {}
        self.folded: dict[str, str] = {}

    def problems(self, name: str, where: str) -> Iterator[Problem]:
        folded = unicodedata.normalize("NFC", name).casefold()
        if name in self.written:
            yield error(
                "duplicate-id",
                f"id {name!r} comes twice, first in {self.written[name]}; only the first counts",
            )
        elif folded in self.folded:
            yield warning(
                "similar-id",
                f"id {name!r} differs from that in {self.folded[folded]} only in case or Unicode form: "
                "macOS and Windows take them for one file",
            )
        self.written.setdefault(name, where)
        self.folded.setdefault(folded, where)
