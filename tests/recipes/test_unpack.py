"""Hostile and damaged archives: an error that says why, nothing outside the target, no half-extracted folder."""

import io
import stat
import tarfile
import zipfile

import pytest

from hmmtts.data.unpack import Limits, extract


def tar(path, *members, mode="w:gz"):
    """Members: (name, content) or a TarInfo."""
    with tarfile.open(path, mode) as file:
        for member in members:
            info, content = (
                (member, b"")
                if isinstance(member, tarfile.TarInfo)
                else (tarfile.TarInfo(member[0]), member[1])
            )
            if content:
                info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zipped(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def everything(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar(tmp_path, mode):
    archive = tar(
        tmp_path / "a",
        special("top", tarfile.DIRTYPE),
        ("top/wavs/1.wav", b"x" * 3000),
        ("top/empty", b""),
        mode=mode,
    )
    extract(archive, tmp_path / "out")
    assert everything(tmp_path / "out") == {"top", "top/wavs", "top/wavs/1.wav", "top/empty"}
    assert (tmp_path / "out/top/wavs/1.wav").read_bytes() == b"x" * 3000


def test_zip(tmp_path):
    extract(zipped(tmp_path / "a", ("top/", ""), ("top/1.wav", b"x" * 3000)), tmp_path / "out")
    assert (tmp_path / "out/top/1.wav").read_bytes() == b"x" * 3000


HOSTILE_TARS = {
    "climbs": ([("../escaped", b"x")], "would leave the target folder"),
    "climbs inside": ([("a/../../escaped", b"x")], "would leave the target folder"),
    "absolute": ([("/tmp/escaped", b"x")], "would leave the target folder"),
    "backslash": ([("..\\escaped", b"x")], "would leave the target folder"),
    "drive": ([("C:escaped", b"x")], "would leave the target folder"),
    "newline": ([("a\nb", b"x")], "no usable name"),
    "link, then through it": ([special("a", tarfile.SYMTYPE, ".."), ("a/escaped", b"x")], "link, a device"),
    "hard link": ([("a", b"x"), special("b", tarfile.LNKTYPE, "a")], "link, a device"),
    "device": ([special("null", tarfile.CHRTYPE)], "link, a device"),
    "pipe": ([special("pipe", tarfile.FIFOTYPE)], "link, a device"),
    "twice": ([("a", b"x"), ("a", b"y")], "two members are named 'a'"),
    "twice but for case": ([("a", b"x"), ("A", b"y")], "two members are named 'A'"),
    "file and folder": ([("a", b"x"), ("a/b", b"y")], "damaged or not an archive"),
}


@pytest.mark.parametrize("case", HOSTILE_TARS)
def test_hostile_tar(tmp_path, case):
    members, message = HOSTILE_TARS[case]
    inside = tmp_path / "inside"
    inside.mkdir()
    archive = tar(inside / "a.tar.gz", *members)
    before = everything(tmp_path)
    with pytest.raises(ValueError, match=message):
        extract(archive, inside / "out")
    assert everything(tmp_path) == before


def test_setuid_is_not_kept(tmp_path):
    info = tarfile.TarInfo("tool")
    info.mode = 0o6777
    extract(tar(tmp_path / "a", info), tmp_path / "out")
    assert not (tmp_path / "out/tool").stat().st_mode & (stat.S_ISUID | stat.S_ISGID)


@pytest.mark.parametrize(
    ("name", "message"),
    [("../escaped", "would leave"), ("/escaped", "would leave"), ("a/../../b", "would leave")],
)
def test_hostile_zip(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        extract(zipped(tmp_path / "a", (name, b"x")), tmp_path / "out")
    assert everything(tmp_path) == {"a"}


def test_zip_with_a_link_or_a_name_twice(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(ValueError, match="link or a device"):
        extract(zipped(tmp_path / "a", (link, b"/etc/passwd")), tmp_path / "out")
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = zipped(tmp_path / "b", ("a", b"x"), ("a", b"y"))
    with pytest.raises(ValueError, match="two members"):
        extract(twice, tmp_path / "out")


@pytest.mark.parametrize("make", [tar, zipped])
def test_bombs_and_too_many_files(tmp_path, make):
    bomb = make(tmp_path / "bomb", *((f"{number}", bytes(400_000)) for number in range(5)))
    with pytest.raises(ValueError, match="holds more than 1000000 bytes"):
        extract(bomb, tmp_path / "out", Limits(always=10**6))
    with pytest.raises(ValueError, match="holds more than 500000 bytes"):
        extract(bomb, tmp_path / "out", Limits(bytes=500_000))
    with pytest.raises(ValueError, match="more than 3 members"):
        extract(bomb, tmp_path / "out", Limits(files=3))
    assert not (tmp_path / "out").exists()
    extract(bomb, tmp_path / "out")


def test_a_forged_header_does_not_fill_the_memory(tmp_path):
    header = tarfile.TarInfo("header")
    header.type, header.size = tarfile.XHDTYPE, 10**9
    content = header.tobuf(tarfile.USTAR_FORMAT) + bytes(5_000_000)
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="absurdly long"):
        extract(path, tmp_path / "out")


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty"])
def test_damaged_archive(tmp_path, damage):
    archive = tar(tmp_path / "a.tar.bz2", ("a", bytes(range(256)) * 4000), mode="w:bz2")
    content = bytearray(archive.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    changed = {"cut": content[:-200], "flipped": content, "text": b"<html>404</html>" * 100, "empty": b""}
    archive.write_bytes(changed[damage])
    with pytest.raises(ValueError, match="damaged or not an archive"):
        extract(archive, tmp_path / "out")
    assert everything(tmp_path) == {"a.tar.bz2"}


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="exists already"):
        extract(tar(tmp_path / "a", ("a", b"x")), tmp_path / "out")
