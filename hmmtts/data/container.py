"""What a sound file's container says of itself, against the file: libsndfile repairs a cut-off file and is silent about it.

FLAC needs nothing here, since its decoder fails on damage. MP3 has no sum to check; its length is compared in inspect.py.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hmmtts.data.finding import Problem, error, warning

UNKNOWN_SIZE = (0xFFFFFFFF, 0x7FFFFFFF)  # what programs write that stream and never learn the size
LINEAR = (1, 3, 0xFFFE)  # integers, floats, extensible: formats in which bytes = samples x width


def problems(path: Path) -> Iterator[Problem]:
    with path.open("rb") as file:
        size = path.stat().st_size
        head = file.read(12)
        file.seek(0)
        if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:] == b"WAVE":
            yield from wav_problems(file, size)
        elif head[:4] == b"OggS":
            yield from ogg_problems(file)


def wav_problems(file: BinaryIO, size: int) -> Iterator[Problem]:
    """Walk the chunks as far as the samples."""
    endian = ">" if file.read(12).startswith(b"RIFX") else "<"
    sample_bytes, long_size = 1, None
    while len(head := file.read(8)) == 8:
        name, length = struct.unpack(f"{endian}4sI", head)
        if name == b"data":
            yield from _data_problems(long_size or length, size - file.tell(), sample_bytes, file)
            return
        body = file.read(min(length, 40))
        if name == b"ds64" and len(body) >= 16:
            (long_size,) = struct.unpack_from("<Q", body, 8)
        if name == b"fmt " and len(body) >= 16:
            kind, channels, rate, rate_bytes, sample_bytes, bits = struct.unpack_from(f"{endian}HHIIHH", body)
            width = channels * ((bits + 7) // 8)
            if kind in LINEAR and rate * sample_bytes != rate_bytes:
                message = f"{rate} Hz of {sample_bytes} bytes are not {rate_bytes} bytes a second"
                yield error("header", f"the header contradicts itself: {message}")
            if kind in LINEAR and width != sample_bytes:
                message = f"{channels} channels of {bits} bits are not {sample_bytes} bytes"
                yield error("header", f"the header contradicts itself: {message}")
        file.seek(length - len(body) + length % 2, 1)
    yield error("truncated", "truncated, the header ends before the samples begin")


def _data_problems(length: int, there: int, sample_bytes: int, file: BinaryIO) -> Iterator[Problem]:
    if length in UNKNOWN_SIZE:
        yield warning("header", "the header gives no length (streamed by a program that never wrote it)")
        return
    if length > there:
        yield error("truncated", f"truncated, header says {length} bytes, file has {there}")
        return
    if sample_bytes and length % sample_bytes:
        yield error("truncated", f"{length} bytes are no whole number of samples of {sample_bytes} bytes")
    file.seek(length + length % 2, 1)
    after = file.read(4)
    unexplained = there - length
    if unexplained > 1 and not (len(after) == 4 and after.isascii() and after.decode().isprintable()):
        say = error if unexplained > length // 10 else warning
        yield say(
            "header", f"header says {length} bytes of samples, {unexplained} unexplained bytes follow them"
        )


def ogg_problems(file: BinaryIO) -> Iterator[Problem]:
    """Every page has a sum and a number; the last says that it is the last."""
    number = flags = 0
    while head := file.read(27):
        if len(head) < 27 or not head.startswith(b"OggS"):
            yield error("truncated", f"damaged, no Ogg page where page {number} should begin")
            return
        flags, stated, segments = head[5], struct.unpack_from("<I", head, 22)[0], head[26]
        table = file.read(segments)
        body = file.read(sum(table))
        if len(table) < segments or len(body) < sum(table):
            yield error("truncated", f"truncated in Ogg page {number}")
            return
        if ogg_sum(head[:22] + bytes(4) + head[26:] + table + body) != stated:
            yield error("damaged", f"damaged, the sum of Ogg page {number} differs")
            return
        number += 1
    if not flags & 4:
        yield error("truncated", f"truncated, Ogg page {number - 1} is not marked as the last")


REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def ogg_sum(data: bytes) -> int:
    """Ogg's CRC-32 is zlib's with every byte and the result mirrored, and neither start nor end inverted."""
    mirrored = zlib.crc32(data.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
