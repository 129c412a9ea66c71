"""The stamp of a prepared corpus: what it was made from and which files it consists of.

It is written last, so that an interrupted preparation is never taken for a finished one.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

STAMP = "prepared.json"


def key(*inputs: str | bytes | Path) -> str:
    """A hash of texts, and of the content of files, that the corpus depends on."""
    digest = hashlib.sha256()
    for source in inputs:
        content = source.read_bytes() if isinstance(source, Path) else source
        content = content.encode() if isinstance(content, str) else content
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def is_done(folder: Path, key: str) -> bool:
    """Whether the folder was prepared from these inputs and its files still have their sizes."""
    stamp = _stamp(folder)
    return (
        stamp is not None
        and stamp.key == key
        and all(path.is_file() and path.stat().st_size == size for path, size in stamp.files.items())
    )


def begin(folder: Path) -> None:
    """Make the folder, and forget an earlier preparation and its files: from here to `finish` it is not done."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = _stamp(folder)
    (folder / STAMP).unlink(missing_ok=True)
    for path in stamp.files if stamp else ():
        path.unlink(missing_ok=True)


def finish(folder: Path, key: str, files: Iterable[Path]) -> None:
    """Stamp the folder. `files`: those inside it that the corpus consists of."""
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    part = folder / f".{STAMP}.{os.getpid()}.part"
    part.write_text(json.dumps({"key": key, "files": sizes}, indent=1), encoding="utf-8")
    part.replace(folder / STAMP)


class _Stamp(NamedTuple):
    key: str
    files: dict[Path, int]  # sizes


def _stamp(folder: Path) -> _Stamp | None:
    """None if there is none, or it cannot be read."""
    try:
        raw = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        inside = {
            name for name in raw["files"] if not Path(name).is_absolute() and ".." not in Path(name).parts
        }
        return _Stamp(raw["key"], {folder / name: int(raw["files"][name]) for name in inside})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
