"""Extract an archive that may be hostile: nothing leaves the target folder, nothing but plain files comes out of it.

Refused: links, devices, absolute paths, `..`, names that two members share, more files or bytes than a limit, and more
bytes than an honest archive of that size holds. The folder gets its name when all of it is there.
"""

import bz2
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, NamedTuple, cast

CHUNK = 1 << 20
HEADER = 1 << 20  # bytes that tar may read for the header of one member
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,  # zipfile: encrypted, or an unknown method
    FileExistsError,  # a member is a file here and a folder there
    NotADirectoryError,
)


class Limits(NamedTuple):
    files: int = 100_000
    bytes: int = 20 * 10**9
    ratio: int = 100  # extracted bytes for each byte of the archive; speech has about 2
    always: int = 10**7  # this much is allowed whatever the ratio


LIMITS = Limits()


class Member(NamedTuple):
    name: str
    size: int
    content: IO[bytes] | None  # None: a folder


def extract(archive: Path, target: Path, limits: Limits = LIMITS) -> Path:
    """Extract a .tar, .tar.bz2, .tar.gz, .tar.xz or .zip into the new folder `target`."""
    if target.exists():
        raise ValueError(f"{target} exists already: remove it first")
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of an interrupted run
    part.mkdir(parents=True)
    try:
        _extract(archive, part, limits)
        part.rename(target)
    except DAMAGED as error:
        raise ValueError(f"{archive}: damaged or not an archive ({error})") from error
    except OSError as error:
        if error.errno is None:  # bz2 and gzip; an error of the disk has a number
            raise ValueError(f"{archive}: damaged or not an archive ({error})") from error
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _extract(archive: Path, folder: Path, limits: Limits) -> None:
    allowed = min(limits.bytes, max(limits.always, limits.ratio * archive.stat().st_size))
    seen: set[str] = set()
    total = 0
    for member in _members(archive, allowed):
        path = _inside(member.name, archive)
        if len(seen) >= limits.files:
            raise ValueError(f"{archive}: more than {limits.files} members")
        if member.content is None:
            (folder / path).mkdir(parents=True, exist_ok=True)
            continue
        if str(path).casefold() in seen:
            raise ValueError(f"{archive}: two members are named {member.name!r}")
        seen.add(str(path).casefold())
        total += member.size
        if total > allowed:
            raise ValueError(
                f"{archive}: holds more than {allowed} bytes, which no honest archive of its size does"
            )
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with (folder / path).open("xb") as file:
            written = _copy(member.content, file, member.size)
        if written != member.size:
            raise ValueError(f"{archive}: {member.name!r} should have {member.size} bytes, has {written}")


def _copy(source: IO[bytes], file: BinaryIO, size: int) -> int:
    """At most one byte more than announced, so that a wrong size shows."""
    done = 0
    while done <= size and (block := source.read(min(CHUNK, size + 1 - done))):
        file.write(block)
        done += len(block)
    return done


def _inside(name: str, archive: Path) -> PurePosixPath:
    """The member's path, relative and without tricks."""
    path = PurePosixPath(name)
    odd = "\\" in name or ":" in name or not name.isprintable()
    if path.is_absolute() or ".." in path.parts or odd or not name.strip("/."):
        if name.rstrip("/") == ".":
            return path
        raise ValueError(
            f"{archive}: the member {name!r} would leave the target folder or has no usable name"
        )
    return path


def _members(archive: Path, allowed: int) -> Iterator[Member]:
    return _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive, allowed)


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ValueError(f"{archive}: the member {info.filename!r} is a link or a device")
            if info.is_dir():
                yield Member(info.filename, 0, None)
                continue
            with file.open(info) as content:
                yield Member(info.filename, info.file_size, content)


def _tar_members(archive: Path, allowed: int) -> Iterator[Member]:
    with archive.open("rb") as raw, _decompressed(raw) as plain:
        metered = _Metered(plain, archive)
        # A stream: read once, forwards, as a compressed file must be.
        with tarfile.open(fileobj=cast(BinaryIO, metered), mode="r|") as file:
            metered.grant(HEADER)
            while (info := file.next()) is not None:
                if not (info.isdir() or (info.isreg() and not info.issparse())):
                    raise ValueError(
                        f"{archive}: the member {info.name!r} is a link, a device or no plain file"
                    )
                metered.grant(min(info.size, allowed) + HEADER)
                yield Member(info.name, info.size, None if info.isdir() else file.extractfile(info))
                metered.grant(HEADER)


class _Metered:
    """A stream that gives no more bytes than were granted: a forged header cannot make tarfile fill the memory."""

    def __init__(self, stream: BinaryIO, archive: Path):
        self.stream, self.archive, self.left = stream, archive, HEADER

    def grant(self, count: int) -> None:
        self.left = count

    def read(self, count: int) -> bytes:
        data = self.stream.read(count)
        self.left -= len(data)
        if self.left < 0:
            raise ValueError(f"{self.archive}: a header of the archive is absurdly long")
        return data


def _decompressed(raw: BinaryIO) -> BinaryIO:
    magic = raw.read(6)
    raw.seek(0)
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(raw)  # type: ignore[return-value]
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if magic.startswith(b"\xfd7zXZ"):
        return lzma.LZMAFile(raw)  # type: ignore[return-value]
    return raw
