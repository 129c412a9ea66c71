"""The shards that a machine has on its own disk: fetched when one of their utterances is first wanted, and no more than fit.

All processes of a machine share a spool. A shard appears whole or not at all, is fetched by one process while the others
that want it wait, and is given up, the one unused for longest first, when another needs its room.
"""

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hmmtts.data.shards import Index, retrieve
from hmmtts.data.unpack import extract

log = logging.getLogger(__name__)


class Spool:
    def __init__(self, index: Index, folder: Path, limit: float) -> None:
        self.index, self.folder = index, folder
        self.limit = limit  # bytes

    def audio(self, shard: str, name: str) -> Path:
        """A file of a shard. Another process may give it up at any time: who opens it too late asks again."""
        folder = self.folder / shard
        if folder.is_dir():
            with suppress(OSError):
                os.utime(folder)  # used now
        else:
            self._fetch(shard, folder)
        return folder / name

    def _fetch(self, shard: str, folder: Path) -> None:
        if shard not in self.index.shards:
            raise ValueError(f"{self.index.source} has no shard {shard}: prepare the corpus again")
        file = self.index.shards[shard]
        folder.parent.mkdir(parents=True, exist_ok=True)
        with self._alone(f"{shard.replace('/', '-')}.lock"):
            if folder.is_dir():
                return
            with self._alone("room.lock"):
                self._make_room(shard, file.size)
            tar = folder.with_name(f".{folder.name}.tar")
            retrieve(self.index.source, file, tar)
            extract(tar, folder)
            tar.unlink()
            log.info("shard %s: %.1f MB from %s", shard, file.size / 1e6, self.index.source)

    def _make_room(self, wanted: str, needed: int) -> None:
        there = [shard for shard in self.index.shards if shard != wanted and (self.folder / shard).is_dir()]
        used = sum(self.index.shards[shard].size for shard in there)
        for shard in sorted(there, key=lambda shard: (self.folder / shard).stat().st_mtime):
            if used + needed <= self.limit:
                return
            used -= self.index.shards[shard].size
            folder = self.folder / shard
            gone = folder.with_name(f".{folder.name}.gone")
            shutil.rmtree(gone, ignore_errors=True)
            folder.rename(gone)  # in one step: nobody finds half of it
            shutil.rmtree(gone, ignore_errors=True)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """The lock is the kernel's: it ends with its process, however that dies."""
        lock = os.open(self.folder / f".{name}", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
