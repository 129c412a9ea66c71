"""Checkpoint files: written whole or not at all, verified before they are believed, tensors and plain data only.

A checkpoint is what `torch.save` writes, a zip archive with a CRC-32 for every record. torch.load does not look
at those sums (a flipped bit loads without a word), so `verify` does, and says which record differs.
"""

import errno
import os
import pickle
import shutil
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

FORMAT = 1
MIGRATIONS: dict[int, Callable[[dict], dict]] = {}  # format n -> the function that makes format n + 1 of it

_PLAIN = (type(None), bool, int, float, str, bytes, torch.Size, torch.dtype, torch.device)
_MAPPINGS = (dict, OrderedDict, defaultdict)
_SEQUENCES = (list, tuple, set)


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, foreign or not to be trusted."""


def require_plain(content: Any, where: str = "checkpoint") -> None:
    """What is not plain data saves without complaint and cannot be loaded: it must be refused when it is saved."""
    if type(content) in _MAPPINGS:
        for key, value in content.items():
            require_plain(key, f"a key of {where}")
            require_plain(value, f"{where}[{key!r}]")
    elif type(content) in _SEQUENCES:
        for index, value in enumerate(content):
            require_plain(value, f"{where}[{index}]")
    elif not (type(content) in _PLAIN or isinstance(content, Tensor)):
        kind = type(content)
        raise CheckpointError(
            f"{where} is a {kind.__module__}.{kind.__qualname__}; "
            "a checkpoint may hold tensors and plain data only: convert it first"
        )


def save(content: dict, path: Path) -> None:
    """Write beside the target, sync, replace: at every moment the target is the old file or the new one, whole.

    OSError where the disk refuses, and the target is as it was.
    """
    require_plain(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except (RuntimeError, OSError) as error:
        raise _refusal(error, content, path.parent) from error
    finally:
        temporary.unlink(missing_ok=True)


def _refusal(error: BaseException, content: dict, folder: Path) -> BaseException:
    """torch closes its archive when a write fails, finds it short, and reports that: the disk's own words lie below."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    if cause is None:
        return error
    if cause.errno != errno.ENOSPC:
        return cause
    needed, free = _bytes(content), shutil.disk_usage(folder).free
    return OSError(
        errno.ENOSPC,
        f"no space left on {folder} (needed {needed / 1e6:.1f} MB, free {free / 1e6:.1f} MB)",
    )


def _bytes(content: Any) -> int:
    """Of all tensors; those that share memory are stored once."""
    storages: dict[int, int] = {}

    def visit(value: Any) -> None:
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(value, dict):
            visit(list(value.values()))
        elif isinstance(value, (list, tuple, set)):
            for item in value:
                visit(item)

    visit(content)
    return sum(storages.values())


def _sync_folder(folder: Path) -> None:
    """Without this the rename may be lost in a power cut even though the file's content was synced."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def verify(path: Path) -> None:
    """Raise CheckpointError, with the reason, unless every record of the file has the checksum written with it."""
    _verify(path, lambda record: True)


def _verify(path: Path, matters: Callable[[str], bool]) -> None:
    """`matters`: which records to read, by their names, such as data.pkl or data/0."""
    if "://" in str(path) or str(path).startswith(("http:", "https:")):
        raise CheckpointError(
            f"checkpoint {path}: addresses are not loaded; download the file and name its path"
        )
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    record = ""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                record = name.split("/", 1)[-1]
                if matters(record):
                    _read_through(archive, name)
    except zipfile.BadZipFile as error:
        if str(error).startswith("Bad CRC-32"):
            raise CheckpointError(f"{path} is damaged (checksum of {record!r} differs)") from error
        raise CheckpointError(f"{path} is damaged or no checkpoint ({error})") from error
    except Exception as error:  # a damaged archive raises almost anything
        raise CheckpointError(f"{path} is damaged or no checkpoint ({error})") from error


def _read_through(archive: zipfile.ZipFile, name: str) -> None:
    with archive.open(name) as record:  # its checksum is compared at its end
        while record.read(1 << 20):
            pass


def load(path: Path, map_location: str | torch.device = "cpu") -> dict:
    verify(path)
    return migrate(_unpickle(path, map_location, mmap=False), path)


def header(path: Path) -> dict:
    """What a checkpoint says of itself (step, batches, config, symbols, ...); neither reads nor verifies its tensors."""
    _verify(path, lambda record: not record.startswith("data/"))
    return migrate(_unpickle(path, "cpu", mmap=True), path)["hmmtts"]


def _unpickle(path: Path, map_location: str | torch.device, *, mmap: bool) -> dict:
    try:
        # Said explicitly, because an environment variable can turn the default off.
        return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "global" in line.lower()), str(error))
        raise CheckpointError(
            f"refusing {path}: a checkpoint may hold tensors and plain data only ({reason.strip()})"
        ) from error
    except Exception as error:  # so does a pickle that somebody made
        raise CheckpointError(f"{path} is damaged or no checkpoint ({error})") from error


def migrate(content: Any, path: Path) -> dict:
    """Bring an older format up to this program's; a newer one is refused with the way out."""
    if not isinstance(content, dict) or not isinstance(content.get("hmmtts"), dict):
        raise CheckpointError(f"{path} was not written by hmmtts (it has no 'hmmtts' section)")
    found = content["hmmtts"].get("format")
    if not isinstance(found, int) or found < 1:
        raise CheckpointError(f"{path}: format must be a positive integer, got {found!r}")
    if found > FORMAT:
        made_by = content["hmmtts"].get("version", "a later version")
        raise CheckpointError(
            f"{path} was made by hmmtts {made_by} (format {found}); this build reads up to {FORMAT}: upgrade hmmtts"
        )
    for number in range(found, FORMAT):
        content = MIGRATIONS[number](content)
    return content


class Newest(NamedTuple):
    path: Path | None
    rejected: list[str]  # why each of the others that went further was left, in one sentence


def newest(folder: Path) -> Newest:
    """The verified training checkpoint of the highest step in a folder.

    By step, never by the file's time: clocks jump, steps do not.
    """
    candidates: list[tuple[int, bool, Path]] = []
    rejected = []
    for path in sorted(folder.glob("*.ckpt")):
        try:
            found = header(path)
        except CheckpointError as error:
            rejected.append(str(error))
        else:
            if {"step", "batches"} <= found.keys():
                candidates.append((found["step"], path.name == "last.ckpt", path))
            else:
                rejected.append(f"{path} is a voice alone: no training goes on from it")
    for _, _, path in sorted(candidates, reverse=True):
        try:
            verify(path)
        except CheckpointError as error:
            rejected.append(str(error))
        else:
            return Newest(path, rejected)
    return Newest(None, rejected)
