"""Download a file that is known by length and SHA-256, resuming where an earlier attempt broke off.

The final name appears only on verified content, and a file that already has it is verified too. What has arrived so
far is NAME.part, with NAME.part.json beside it: the server's ETag, without which the rest might be of another file.
"""

import hashlib
import http.client
import json
import logging
import os
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO, NamedTuple

log = logging.getLogger(__name__)
CHUNK = 1 << 20
TENTHS = 10  # the log tells of every tenth of a file that is at least LARGE
LARGE = 500 * 10**6  # bytes


class Remote(NamedTuple):
    """A file on a server and what it must be."""

    url: str
    size: int
    sha256: str


class Patience(NamedTuple):
    """When to give up."""

    attempts: int = 8  # in a row without a byte of progress
    pause: float = 2.0  # seconds before the second attempt; doubled for each further one
    timeout: float = 30.0  # seconds without an answer
    slowest: float = 1000.0  # bytes a second, over `timeout`


PATIENCE = Patience()


class BrokenOff(OSError):
    """The connection ended or stalled; another attempt may go on from here."""


class NotTheFile(ValueError):
    """What the server offers is not what was asked for; another attempt would bring the same."""


def download(remote: Remote, path: Path, patience: Patience | None = None) -> Path:
    """The file under `path`, verified."""
    if path.exists():
        problem = mismatch(path, remote)
        if problem is None:
            log.info("%s is there already and verified", path)
            return path
        log.warning("%s is not the file that was asked for (%s); downloading it again", path, problem)
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    _fetch(remote, part, patience or PATIENCE)
    problem = mismatch(part, remote)
    if problem is not None:
        _forget(part)
        raise ValueError(
            f"{remote.url}: {problem}; deleted. Run it again; if that does not help, the file has changed"
        )
    part.replace(path)
    _forget(part)
    return path


def mismatch(path: Path, remote: Remote) -> str | None:
    """Why the file is not the one expected, None if it is."""
    size = path.stat().st_size
    if size != remote.size:
        return f"size mismatch: expected {remote.size} bytes, got {size}"
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return None if digest == remote.sha256 else f"sha256 mismatch: expected {remote.sha256}, got {digest}"


def _fetch(remote: Remote, part: Path, patience: Patience) -> None:
    """Attempt after attempt until the part is whole."""
    failures = 0
    while (have := _length(part)) != remote.size:
        if have > remote.size:
            _forget(part)
            have = 0
        _check_space(part.parent, remote.size - have)
        try:
            _attempt(remote, part, have, patience)
        except (OSError, http.client.HTTPException) as error:
            code = error.code if isinstance(error, urllib.error.HTTPError) else None
            if code == 416:
                _forget(part)  # the server has less than we do: begin again
            elif code is not None and code < 500 and code not in (408, 429):
                raise NotTheFile(f"{remote.url}: the server answers {error}") from error
            failures = failures + 1 if _length(part) <= have else 1
            if failures >= patience.attempts:
                raise OSError(
                    f"{remote.url}: {error}; {_length(part)} of {remote.size} bytes are kept in {part}: run it again to go on"
                ) from error
            log.warning("%s: %s; attempt %d follows", remote.url, error, failures + 1)
            time.sleep(patience.pause * 2 ** (failures - 1))


def _attempt(remote: Remote, part: Path, have: int, patience: Patience) -> None:
    """One connection: everything, or the rest where the server still has the same file."""
    validator = _validator(part) if have else None
    request = urllib.request.Request(remote.url, headers={"Accept-Encoding": "identity"})
    if validator:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator)
    with _opener().open(request, timeout=patience.timeout) as answer:
        resumed = answer.status == 206
        _check(answer, remote, have)
        if resumed and _validator_of(answer.headers) not in (None, validator):
            _forget(part)
            raise BrokenOff("the file on the server changed")
        if have:
            log.info(
                "%s: %s",
                remote.url,
                f"resumed at byte {have}" if resumed else "begun again: it changed or cannot be resumed",
            )
        if not resumed:
            _remember(part, answer.headers)
        with part.open("ab" if resumed else "wb") as file:
            _copy(answer, file, remote, have if resumed else 0, patience)
            file.flush()
            os.fsync(file.fileno())


def _check(answer: http.client.HTTPResponse, remote: Remote, start: int) -> None:
    """Whether the answer can be the file, by its headers."""
    length = answer.headers.get("Content-Length")
    kind = answer.headers.get("Content-Type", "no content type")
    if answer.status == 206:
        expected = f"bytes {start}-{remote.size - 1}/{remote.size}"
        if answer.headers.get("Content-Range") != expected:
            raise NotTheFile(
                f"{remote.url}: the server sends {answer.headers.get('Content-Range')}, asked for {expected}"
            )
    elif int(length or remote.size) != remote.size or (length is None and kind.startswith("text/")):
        raise NotTheFile(
            f"{remote.url}: expected {remote.size} bytes, the server offers {length or 'some'} of {kind}"
        )


def _copy(
    answer: http.client.HTTPResponse, file: BinaryIO, remote: Remote, done: int, patience: Patience
) -> None:
    window, begun = done, time.monotonic()
    while block := answer.read1(CHUNK):  # read1: whatever has arrived, so that a drip is noticed
        file.write(block)
        before, done = done, done + len(block)
        if done > remote.size:
            raise NotTheFile(f"{remote.url}: expected {remote.size} bytes, the server sends more")
        if remote.size >= LARGE and done * TENTHS // remote.size > before * TENTHS // remote.size:
            log.info("%s: %d of %d MB", remote.url, done // 10**6, remote.size // 10**6)
        elapsed = time.monotonic() - begun
        if elapsed > patience.timeout:
            if (done - window) / elapsed < patience.slowest:
                raise BrokenOff(f"slower than {patience.slowest:.0f} bytes a second")
            window, begun = done, time.monotonic()
    if done < remote.size:
        raise BrokenOff(f"the connection ended at byte {done} of {remote.size}")


def _opener() -> urllib.request.OpenerDirector:
    """Only the web: no redirect leads to a file of this machine."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPRedirectHandler,
    ):
        opener.add_handler(handler())
    return opener


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NotTheFile(f"{folder}: {needed} bytes are needed, {free} are free")


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _notes(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _validator_of(headers: http.client.HTTPMessage) -> str | None:
    """A weak ETag does not promise equal bytes, so it is no validator (RFC 9110, 13.1.5)."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _remember(part: Path, headers: http.client.HTTPMessage) -> None:
    _notes(part).write_text(json.dumps({"validator": _validator_of(headers)}), encoding="utf-8")


def _validator(part: Path) -> str | None:
    try:
        validator = json.loads(_notes(part).read_text(encoding="utf-8"))["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return validator if isinstance(validator, str) else None


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)
