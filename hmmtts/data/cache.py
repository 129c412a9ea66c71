"""Features on disk: computed once, read from then on.

ROOT/FINGERPRINT/AB/NAME.npz holds the features of one stretch of one audio file, FINGERPRINT those of
`Features.fingerprint` and NAME a digest of path, start and duration. The entry remembers a digest of the audio file's
content and counts only while the file still has it; the zip format's checksums are verified at every read. So an entry
is used if it is what would be computed now, and made again, with a line in the log, if it is not.

Several processes may share a cache: an entry appears whole or not at all. Nothing is written beside the audio, and
where the cache cannot be written to, features are computed every time, after one warning.
"""

import hashlib
import io
import logging
import os
import time
import zipfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hmmtts.audio.features import Features, Tracks
from hmmtts.audio.io import read
from hmmtts.data.manifest import Utterance

log = logging.getLogger(__name__)

NEW = "not in the cache"
CHANGED = "content changed"
DAMAGED = "entry damaged"
ABANDONED = 3600.0  # seconds after which a writer's unfinished file belongs to a process that was killed


class Fetched(NamedTuple):
    tracks: Tracks
    miss: str | None  # why it was computed, None if it was read


class FeatureCache:
    """Utterance -> Tracks. `root` None computes the features every time."""

    def __init__(self, features: Features, root: str | Path | None) -> None:
        self.features = features
        self.folder = None if root is None else Path(root) / features.fingerprint()
        self.writable = self.folder is not None

    def __call__(self, utterance: Utterance) -> Tracks:
        tracks, miss = self.fetch(utterance)
        if miss in (CHANGED, DAMAGED):
            log.info("%s: cache miss: 1 file (%s)", utterance.id, miss)
        return tracks

    def fetch(self, utterance: Utterance) -> Fetched:
        """The features, and why they had to be computed."""
        if self.folder is None:
            return Fetched(self.compute(utterance), NEW)
        path, content = self.path(utterance), self.content(utterance)
        miss = NEW
        if path.is_file():
            try:
                stored, tracks = load(path)
                if stored == content:
                    return Fetched(tracks, None)
                miss = CHANGED
            except Exception:
                # A damaged zip raises almost anything: BadZipFile, KeyError, NotImplementedError, struct.error, ...
                miss = DAMAGED
        tracks = self.compute(utterance)
        if self.writable:
            try:
                save(path, content, tracks)
            except OSError as error:
                self.writable = False
                log.warning("%s: features are not cached from here on: %s", self.folder, error)
        return Fetched(tracks, miss)

    def compute(self, utterance: Utterance) -> Tracks:
        try:
            whole = utterance.start == 0 and utterance.duration == utterance.audio_duration
            # To the end of a file that the utterance fills, so that a truncated file is noticed.
            wave, rate = read(utterance.audio, utterance.start, None if whole else utterance.duration)
            return self.features(wave, rate)
        except ValueError as error:
            raise ValueError(f"{utterance.where}: {error}") from error

    def content(self, utterance: Utterance) -> bytes:
        """What an entry must have been computed from."""
        return content_digest(utterance.audio)

    def path(self, utterance: Utterance) -> Path:
        """Where the entry of an utterance lies."""
        if self.folder is None:
            raise ValueError("this cache has no root: nothing is kept")
        place = f"{utterance.audio.resolve()}\0{utterance.start!r}\0{utterance.duration!r}"
        name = hashlib.blake2b(place.encode(), digest_size=16).hexdigest()
        return self.folder / name[:2] / f"{name[2:]}.npz"

    def sweep(self) -> None:
        """Remove what killed writers left behind."""
        if self.folder is None:
            return
        for part in self.folder.glob("*/.*.part"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > ABANDONED:
                    part.unlink()


def content_digest(audio: Path) -> bytes:
    """16 bytes that stand for the content of a file, which is read again only when its status has changed."""
    status = audio.stat()
    # The time of the last status change cannot be set back, as the modification time can.
    return _digest(audio, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@lru_cache(maxsize=100_000)
def _digest(audio: Path, *status: int) -> bytes:
    with audio.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def save(path: Path, content: bytes, tracks: Tracks) -> None:
    """Write an entry beside its place, then move it there, which the file system does in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.{time.monotonic_ns()}.part")
    arrays = {"content": np.frombuffer(content, np.uint8), **tracks._asdict()}
    try:
        with part.open("wb") as file:
            np.savez(file, **arrays)
        part.replace(path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def load(path: Path) -> tuple[bytes, Tracks]:
    """The digest and the features of an entry; any damage raises."""
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        arrays = {name: _array(archive, name) for name in ("content", *Tracks._fields)}
    tracks = Tracks(arrays["mel"], arrays["f0"], arrays["acoustic"], float(arrays["start"]))
    return arrays["content"].tobytes(), tracks


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    # The whole member, so that its checksum is compared before anything in it is believed.
    data = archive.read(f"{name}.npy")
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
