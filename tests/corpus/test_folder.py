"""Folders of speech become utterances: metadata.csv, TextGrids, label files, and the true times of the test corpora."""

import random
import re
import unicodedata
from contextlib import suppress
from pathlib import Path

import pytest

from hmmtts.data.alignment import Times, problems, read_lab, read_textgrid, read_times
from hmmtts.data.folder import Listing, list_folder
from tests.corpus.sounds import write
from tests.data import TEST_DATA, needs_data

CORPORA = sorted(path.parent.name for path in TEST_DATA.glob("*/phones.csv"))
TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.0
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.0
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 1.0
            text = "oh"
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 1.0
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 0.625
            text = "o"
        intervals [3]:
            xmin = 0.625
            xmax = 1.0
            text = "ʊ"
"""


def corpus(folder: Path, metadata: str | bytes = "a|text\n", names: tuple[str, ...] = ("a.wav",)) -> Path:
    for name in names:
        write(folder / "wavs" / name)
    (folder / "metadata.csv").write_bytes(metadata if isinstance(metadata, bytes) else metadata.encode())
    return folder


def said(listing: Listing) -> list[tuple[str, str | None, str | None, int | None]]:
    found = [*listing.findings, *(finding for entry in listing.entries for finding in entry.findings)]
    return [(finding.kind, finding.id, finding.file, finding.line) for finding in found]


def test_metadata_wavs_phones_and_times(tmp_path):
    corpus(tmp_path, "a|Mr. O|Mister O\nb|B\n", ("a.wav", "b.flac"))
    (tmp_path / "phones.csv").write_text("b|b iː\n", encoding="utf-8")
    (tmp_path / "alignments").mkdir()
    (tmp_path / "alignments" / "a.TextGrid").write_text(TEXTGRID, encoding="utf-8")
    (tmp_path / "corpus.json").write_text('{"language": "en-us"}')
    listing = list_folder(tmp_path)
    assert said(listing) == []
    a, b = (entry.utterance for entry in listing.entries)
    assert (a.id, a.text, a.audio, a.language) == ("a", "Mister O", tmp_path / "wavs" / "a.wav", "en-us")
    assert a.where == f"a ({tmp_path / 'metadata.csv'}:1)"
    assert [(p.symbol, p.start, p.end) for p in a.phone_times] == [
        ("sil", 0, 0.25),
        ("o", 0.25, 0.625),
        ("ʊ", 0.625, 1),
    ]
    assert [(w.symbol, w.start, w.end) for w in a.word_times] == [("oh", 0.25, 1.0)]
    assert a.phones == ["sil", "o", "ʊ"]
    assert (b.phones, b.phone_times, b.audio.suffix) == (["b", "iː"], None, ".flac")


def test_columns_of_speakers_and_files(tmp_path):
    corpus(tmp_path, "file|text|speaker|language\nwavs/a.wav|x|anna|de\nb.wav|y|ben|ko\n", ("a.wav", "b.wav"))
    a, b = (entry.utterance for entry in list_folder(tmp_path).entries)
    assert (a.id, a.speaker, a.language, a.audio) == ("a", "anna", "de", tmp_path / "wavs" / "a.wav")
    assert (b.id, b.speaker, b.language, b.audio) == ("b", "ben", "ko", tmp_path / "wavs" / "b.wav")


def test_sound_in_deeper_folders_is_named_by_the_column(tmp_path):
    corpus(tmp_path, "file|text\nanna/a.wav|x\n", ("anna/a.wav", "anna/b.wav", "ben/a.wav"))
    listing = list_folder(tmp_path)
    assert [entry.utterance.audio for entry in listing.entries] == [tmp_path / "wavs/anna/a.wav"]
    assert [file for _, _, file, _ in said(listing)] == ["wavs/anna/b.wav", "wavs/ben/a.wav"]


def test_files_that_are_missing_extra_or_double(tmp_path):
    corpus(tmp_path, "a|x\nb|y\nc|z\n", ("a.wav", "a.flac", "d.wav", "C.wav"))
    assert said(list_folder(tmp_path)) == [
        ("unlisted-audio", None, "wavs/C.wav", None),
        ("unlisted-audio", None, "wavs/d.wav", None),
        ("ambiguous-audio", "a", "metadata.csv", 1),
        ("missing-audio", "b", "metadata.csv", 2),
        ("missing-audio", "c", "metadata.csv", 3),
    ]


def test_a_name_in_the_other_unicode_form_is_found_and_told(tmp_path):
    corpus(tmp_path, unicodedata.normalize("NFC", "é|x\n"), (unicodedata.normalize("NFD", "é") + ".wav",))
    (entry,) = list_folder(tmp_path).entries
    assert "differs only in case or Unicode form: rename it" in entry.findings[0].message


def test_ids_that_leave_the_folder_read_nothing_there(tmp_path):
    write(tmp_path / "secret.wav")
    listing = list_folder(corpus(tmp_path / "corpus", "../../secret|x\n../secret|x\na|y\n"))
    assert [entry.utterance and entry.utterance.id for entry in listing.entries] == [None, None, "a"]
    assert [kind for kind, *_ in said(listing)] == ["id-leaves-folder"] * 2


def test_the_first_of_two_equal_ids_counts(tmp_path):
    first, second = list_folder(corpus(tmp_path, "a|x\na|y\n")).entries
    assert first.utterance.text == "x"
    assert second.utterance is None


def test_phones_that_belong_to_no_one_or_are_broken(tmp_path):
    corpus(tmp_path)
    (tmp_path / "phones.csv").write_bytes(b"a|x y\na|z\nb|y\nc\nd|\ne|\xe9\n")
    assert sorted(said(list_folder(tmp_path)), key=str) == [
        ("columns", "c", "phones.csv", 4),
        ("duplicate-id", "a", "phones.csv", 2),
        ("empty-text", "d", "phones.csv", 5),
        ("encoding", "e", "phones.csv", 6),
        ("unlisted", None, "phones.csv", None),
    ]


def test_sound_beside_textgrids_labels_and_transcripts(tmp_path):
    for name in ("anna/grid", "anna/htk", "ben/seconds", "ben/mfa", "ben/plain", "ben/alone"):
        write(tmp_path / f"{name}.wav")
    (tmp_path / "anna/grid.TextGrid").write_text(TEXTGRID, encoding="utf-8")
    (tmp_path / "anna/htk.lab").write_text("0 2500000 sil\n2500000 10000000 oʊ extra\n", encoding="utf-8")
    (tmp_path / "ben/seconds.lab").write_text("0.0 0.25 pau\r\n0.25 1 o\r\n")
    (tmp_path / "ben/seconds.txt").write_text("Oh!\n")
    (tmp_path / "ben/mfa.lab").write_text("just a\ntranscript\n")
    (tmp_path / "ben/plain.txt").write_bytes("\ufeff안녕".encode())
    listing = list_folder(tmp_path)
    read = {entry.utterance.id: entry.utterance for entry in listing.entries if entry.utterance}
    assert {name: (u.speaker, u.text, u.phones) for name, u in read.items()} == {
        "grid": ("anna", "oh", ["sil", "o", "ʊ"]),
        "htk": ("anna", "oʊ", ["sil", "oʊ"]),
        "seconds": ("ben", "Oh!", ["sil", "o"]),
        "mfa": ("ben", "just a transcript", None),
        "plain": ("ben", "안녕", None),
    }
    assert [(i.start, i.end) for i in read["htk"].phone_times] == [(0.0, 0.25), (0.25, 1.0)]
    assert [(i.start, i.end) for i in read["seconds"].phone_times] == [(0.0, 0.25), (0.25, 1.0)]
    assert said(listing) == [("missing-text", "alone", "ben/alone.wav", None)]


def test_two_files_of_one_name(tmp_path):
    for name in ("anna/a", "ben/a"):
        write(tmp_path / f"{name}.wav").with_suffix(".txt").write_text("x")
    assert said(list_folder(tmp_path)) == [("duplicate-id", "a", "ben/a.wav", None)]


def test_an_empty_folder(tmp_path):
    (finding,) = list_folder(tmp_path).findings
    assert finding.kind == "empty-corpus"
    assert "no metadata.csv and no sound file" in finding.message


def test_a_folder_of_corpora(tmp_path):
    corpus(tmp_path / "one")
    corpus(tmp_path / "two")
    listing = list_folder(tmp_path)
    assert listing.entries == []
    assert str(listing.findings[0]).endswith(f"name one, such as {tmp_path / 'one'}")


BAD_TIMES = {
    "not a TextGrid": ("a.TextGrid", b"hello", "not readable as a TextGrid"),
    "nothing": ("a.TextGrid", b"", "not readable as a TextGrid"),
    "cut off": ("a.TextGrid", TEXTGRID.encode()[:400], "TextGrid"),
    "no tier of ours": ("a.TextGrid", TEXTGRID.replace('"phones"', '"x"').replace('"words"', '"y"').encode(), "only y, x"),
    "a label file in latin-1": ("a.lab", b"0 1 \xe9\n", "not UTF-8 at byte 4 (0xe9)"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BAD_TIMES.values(), ids=BAD_TIMES.keys())
def test_alignments_that_cannot_be_read_are_findings(tmp_path, name, content, message):
    corpus(tmp_path)
    (tmp_path / "alignments").mkdir()
    (tmp_path / "alignments" / name).write_bytes(content)
    (entry,) = list_folder(tmp_path).entries
    assert [(f.kind, f.severity, f.id, f.file) for f in entry.findings] == [
        ("alignment", "error", "a", f"alignments/{name}")
    ]
    assert message in entry.findings[0].message
    assert entry.utterance.phone_times is None


IMPOSSIBLE = {
    "beyond the audio": ("0 0.5 a\n0.5 1.5 b\n", "from 0.000 to 1.500 s, the audio has 1.000 s"),
    "backwards": ("0 0.5 a\n0.5 0.25 b\n", "lasts -0.250 s"),
    "no length": ("0 0.5 a\n0.5 0.5 b\n0.5 1.0 c\n", "'b' at 0.500 s lasts 0.000 s"),
    "overlapping": ("0 0.5 a\n0.25 1.0 b\n", "'b' at 0.250 s begins before the label before it ends"),
    "not a number": ("0 nan a\n0.5 1.0 b\n", "lasts nan s"),
    "short of the audio": ("0 0.5 a\n", "phones end at 0.500 s, the audio at 1.000 s"),
}


@pytest.mark.parametrize(("lines", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_impossible_times(tmp_path, lines, message):
    (tmp_path / "a.lab").write_text(lines)
    (problem,) = problems(Times(read_lab(tmp_path / "a.lab"), None), 1.0)
    assert message in problem.message


def test_corrupted_alignments_give_times_or_a_sentence(tmp_path):
    source = random.Random(0)
    path = tmp_path / "a.TextGrid"
    for _ in range(300):
        content = bytearray(TEXTGRID.encode())
        for _ in range(source.randrange(1, 6)):
            place = source.randrange(len(content))
            content[place : place + source.randrange(20)] = source.randbytes(source.randrange(6))
        path.write_bytes(bytes(content))
        with suppress(ValueError):
            list(problems(read_times(path), 1.0))


def textgrid_times(path: Path, tier: str) -> list[tuple[float, float, str]]:
    """An independent reading of the long format: the numbers as they stand in the file."""
    body = path.read_text(encoding="utf-8").split(f'name = "{tier}"')[1].split("item [")[0]
    found = re.findall(r'intervals \[\d+\]:\s+xmin = (\S+)\s+xmax = (\S+)\s+text = "(.*)"', body)
    return [(float(start), float(end), label) for start, end, label in found]


@needs_data
@pytest.mark.parametrize("name", CORPORA)
def test_the_times_of_the_test_corpora_are_those_of_their_textgrids(name):
    listing = list_folder(TEST_DATA / name)
    assert said(listing) == []
    assert len(listing.entries) == len(
        (TEST_DATA / name / "metadata.csv").read_text(encoding="utf-8").splitlines()
    )
    for entry in listing.entries:
        utterance = entry.utterance
        path = TEST_DATA / name / "alignments" / f"{utterance.id}.TextGrid"
        given = textgrid_times(path, "phones")
        assert [item.symbol for item in utterance.phone_times] == [label for _, _, label in given]
        assert all(
            abs(item.start - start) < 1e-3 and abs(item.end - end) < 1e-3
            for item, (start, end, _) in zip(utterance.phone_times, given, strict=True)
        )
        words = [(start, label) for start, _, label in textgrid_times(path, "words") if label]
        assert [item.symbol for item in utterance.word_times] == [label for _, label in words]


def test_a_short_textgrid_and_one_in_utf16(tmp_path):
    from praatio import textgrid

    path = tmp_path / "a.TextGrid"
    path.write_text(TEXTGRID, encoding="utf-8")
    long = read_textgrid(path)
    textgrid.openTextgrid(str(path), True).save(str(tmp_path / "b.TextGrid"), "short_textgrid", True)
    path.write_text(TEXTGRID, encoding="utf-16")
    assert read_textgrid(tmp_path / "b.TextGrid") == long == read_textgrid(path)
