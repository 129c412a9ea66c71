"""metadata.csv byte by byte: every kind of damage is named with its line, and no row is merged, split or lost."""

import random
from pathlib import Path

import pytest

from hmmtts.data.finding import ERROR, WARNING
from hmmtts.data.metadata import Metadata, read_metadata


def read(folder: Path, content: bytes | str, encoding: str = "utf-8") -> Metadata:
    path = folder / "metadata.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_metadata(path, encoding)


def said(metadata: Metadata) -> list[tuple[int | None, str, str, str]]:
    """Line, kind, severity and message of everything that is said."""
    rows = [(row.line, p.kind, p.severity, p.message) for row in metadata.rows for p in row.problems]
    return [(f.line, f.kind, f.severity, f.message) for f in metadata.findings] + rows


def test_ljspeech(tmp_path):
    metadata = read(tmp_path, 'LJ1|Mr. "A" said|Mister "A" said\nLJ2|안녕하세요?\nLJ3|1|one')
    assert [(row.id, row.text, row.normalised, row.line) for row in metadata.rows] == [
        ("LJ1", 'Mr. "A" said', 'Mister "A" said', 1),
        ("LJ2", "안녕하세요?", "", 2),
        ("LJ3", "1", "one", 3),
    ]
    assert said(metadata) == []


@pytest.mark.parametrize("separator", ["|", "\t", ","])
def test_named_columns(tmp_path, separator):
    head = separator.join(["file_name", "Speaker", "text", "language", "votes"])
    row = separator.join(["clips/a.mp3", "anna", "Guten Tag", "de", "3"])
    metadata = read(tmp_path, f"{head}\n{row}\n")
    (row,) = metadata.rows
    assert (row.id, row.file, row.speaker, row.text, row.language, row.line) == (
        "a", "clips/a.mp3", "anna", "Guten Tag", "de", 2,
    )  # fmt: skip
    assert said(metadata) == [(1, "columns", WARNING, "columns that nothing reads: votes")]


def test_commas_and_quotes_stay_on_their_line(tmp_path):
    metadata = read(tmp_path, 'id,text\na,"one, ""two"""\nb,"three\nc,four\n')
    assert [(row.id, row.text) for row in metadata.rows] == [("a", 'one, "two"'), ("", ""), ("c", "four")]
    assert [entry[:3] for entry in said(metadata)] == [(3, "quote", ERROR)]


# what the file holds -> (line, kind, severity, part of the message)
DAMAGE = {
    "byte order mark": (b"\xef\xbb\xbfa|x\n", (None, "bom", WARNING, "not part of the first id")),
    "CR LF": (b"a|x\r\nb|y\r\n", (None, "crlf", WARNING, "2 of 2 lines")),
    "UTF-16": ("a|x\n".encode("utf-16"), (None, "encoding", ERROR, "UTF-16; save it as UTF-8")),
    "nothing": (b"", (None, "empty-file", ERROR, "the file is empty")),
    "blank line": (b"a|x\n\nb|y\n", (2, "blank-line", WARNING, "blank")),
    "latin-1": (b"a|x\nb|caf\xe9\n", (2, "encoding", ERROR, "not UTF-8 at byte 5 (0xe9); is it latin-1?")),
    "NUL": (b"a|x\nb|y\0z\n", (2, "control-character", ERROR, "a NUL at byte 3")),
    "old Mac": (b"a|x\rb|y\r", (1, "line-end", ERROR, "carriage return")),
    "no bar": (b"a|x\nb y\n", (2, "columns", ERROR, "1 fields where 'id|text|normalised' has 3")),
    "a bar too many": (b"a|x|y|z\n", (1, "columns", ERROR, "is there a '|' in the text?")),
    "tab": (b"a|x\ty\n", (1, "white-space", WARNING, "tab")),
    "U+0085": ("a|x\u0085y\n", (1, "control-character", ERROR, "U+0085 x1")),
    "U+2028": ("a|x\u2028y\n", (1, "control-character", ERROR, "U+2028 x1")),
    "VT and FS": ("a|x\vy\x1cz\n", (1, "control-character", ERROR, "U+000B x1, U+001C x1")),
    "duplicate id": (b"a|x\nb|y\na|z\n", (3, "duplicate-id", ERROR, "id 'a' comes twice, first in line 1")),
    "case only": (b"LJ1|x\nlj1|y\n", (2, "similar-id", WARNING, "only in case or Unicode form")),
    "NFD and NFC": ("é|x\ne\u0301|y\n", (2, "similar-id", WARNING, "only in case or Unicode form")),
    "empty id": (b"|x\n", (1, "id-empty", ERROR, "the id is empty")),
    "empty text": (b"a|\n", (1, "empty-text", ERROR, "the text is empty")),
    "only spaces": (b"a|  |  \n", (1, "empty-text", ERROR, "the text is empty")),
    "parent": (b"../../x|t\n", (1, "id-leaves-folder", ERROR, "id '../../x' leaves the data directory")),
    "absolute": (b"/etc/passwd|t\n", (1, "id-leaves-folder", ERROR, "id '/etc/passwd' leaves")),
    "drive": (b"C:x|t\n", (1, "id-leaves-folder", ERROR, "id 'C:x' leaves")),
    "dots": (b"..|t\n", (1, "id-leaves-folder", ERROR, "id '..' leaves")),
    "separator": (b"a/b|t\n", (1, "id-separator", ERROR, "id 'a/b' holds a path separator")),
    "back slash": (b"a\\b|t\n", (1, "id-separator", ERROR, "holds a path separator")),
    "tab in id": (b"a\tb|t\n", (1, "id-character", ERROR, "U+0009")),
    "space before the bar": (b"a |t\n", (1, "id-character", ERROR, "white space")),
    "a long id": (b"a" * 300 + b"|t\n", (1, "id-character", ERROR, "300 bytes long")),
    "a file outside": (b"id|file|text\na|../b.wav|t\n", (2, "file-leaves-folder", ERROR, "'../b.wav' leaves")),
    "emoji": ("a|x 😀😀\n", (1, "unknown-symbol", ERROR, "unknown symbols: U+1F600 '😀' x2")),
    "replacement": ("a|caf\ufffd\n", (1, "unknown-symbol", ERROR, "U+FFFD")),
    "mixed scripts": ("a|the сat sat\n", (1, "mixed-script", WARNING, "сat")),
    "mojibake": ("a|cafÃ©\n", (1, "mojibake", WARNING, "read as Latin-1")),
    "zero width": ("a|x\u200by\n", (1, "invisible-character", WARNING, "U+200B x1")),
    "decomposed": ("a|cafe\u0301\n", (1, "unicode-form", WARNING, "NFC")),
    "one line without end": (b"x" * (1 << 20), (1, "line-too-long", ERROR, "longer than 1048576 bytes")),
}  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_said_once_with_its_line(tmp_path, content, expected):
    (found,) = said(read(tmp_path, content))
    assert found[:3] == expected[:3]
    assert expected[3] in found[3]


GOOD = {
    "an unclosed quote": 'a|"x\nb|y\nc|z\n',
    "Arabic and digits": "a|لدي 3 كتب\nb|y\nc|z\n",
    "scripts of one language": "a|東京タワーへ行く\nb|Ich heiße Jürgen\nc|10 °C\n",
    "Hangul": "a|각\nb|한글과 English\nc|z\n",
    "many characters": f"a|{'long ' * 2000}end\nb|y\nc|z\n",
    "no line end at the end": "a|x\nb|y\nc|z",
}


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD.keys())
def test_what_is_no_damage(tmp_path, content):
    metadata = read(tmp_path, content)
    assert [row.id for row in metadata.rows] == ["a", "b", "c"]
    assert said(metadata) == []


def test_rows_end_at_line_feeds_only(tmp_path):
    """str.splitlines would make ten rows of these two."""
    metadata = read(tmp_path, "a|1\u20282\x0b3\x0c4\x1c5\x1d6\x1e7\u00858\u20299\nb|y\n")
    assert [row.id for row in metadata.rows] == ["a", "b"]


def test_the_first_id_behind_a_byte_order_mark(tmp_path):
    assert read(tmp_path, b"\xef\xbb\xbfa|x\n").rows[0].id == "a"


def test_a_damaged_line_keeps_its_id(tmp_path):
    assert [row.id for row in read(tmp_path, b"a|caf\xe9\n../b|\xe9\n").rows] == ["a", ""]


def test_latin1_if_asked_for(tmp_path):
    (row,) = read(tmp_path, b"a|caf\xe9\n", encoding="latin-1").rows
    assert (row.text, row.problems) == ("café", ())


def test_any_bytes_are_read(tmp_path):
    """Whatever the bytes, every line gives a row or a finding, and nothing raises."""
    source = random.Random(0)
    start = b"id|text\n" + 'a|cafe\u0301 \u2028|x\r\nb|y\n,"\t'.encode()
    for _ in range(300):
        content = bytearray(start)
        for _ in range(source.randrange(1, 8)):
            place = source.randrange(len(content))
            content[place : place + source.randrange(3)] = source.randbytes(source.randrange(4))
        lines = content.count(b"\n") + (not content.endswith(b"\n"))
        metadata = read(tmp_path, bytes(content))
        counted = {row.line for row in metadata.rows} | {finding.line for finding in metadata.findings}
        whole = any(finding.severity == ERROR for finding in metadata.findings)  # nothing like text
        assert whole or counted >= set(range(2, lines + 1))  # the first line may name the columns
