"""numba, compiled once per user and machine: where the machine code is kept, and who compiles when many start at once.

numba's own cache lies beside the source, which may be read-only and which many processes would fill at the same
time. Here it lies in a per-user folder named after the kernels' source, and one process compiles while others wait.
"""

import fcntl
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import llvmlite.binding
import numba
from numba.core.compiler import CompilerBase, DefaultPassBuilder

log = logging.getLogger(__name__)

# NaN never reaches the arithmetic (rows are checked first) and the sign of zero has no meaning here.
FAST = {"contract", "nsz", "nnan"}
REASSOCIATE = {"contract", "nsz", "nnan", "reassoc"}


class NoAlias(CompilerBase):
    """The default pipeline, told that array arguments do not overlap: without it LLVM does not vectorise."""

    def define_pipelines(self):
        self.state.flags.noalias = True
        return [DefaultPassBuilder.define_nopython_pipeline(self.state)]


row = numba.njit(
    fastmath=FAST, pipeline_class=NoAlias, forceinline=True, _nrt=False
)  # a loop over one row, cell by cell
reduction = numba.njit(
    fastmath=REASSOCIATE, pipeline_class=NoAlias, forceinline=True, _nrt=False
)  # one number from a row


inner = numba.njit(fastmath=FAST, forceinline=True, _nrt=False)  # a step of a kernel


def kernel(function: Callable) -> Callable:
    """A function that Python calls: runs without the interpreter's lock, its machine code cached."""
    with _cache_folder():
        return numba.njit(fastmath=FAST, nogil=True, cache=True)(function)


@cache
def cache_folder() -> Path:
    """Named by everything that decides the machine code, so that a stale kernel cannot be loaded."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.binding.get_host_cpu_name()}".encode())
    digest.update(llvmlite.binding.get_host_cpu_features().flatten().encode())
    for source in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        digest.update(source.read_bytes())
    return _user_cache() / "kernels" / digest.hexdigest()[:16]


def warm(compile_all: Callable[[], None]) -> float:
    """Compile every kernel unless that was done before; others who come meanwhile wait. Returns the seconds taken."""
    folder, start = cache_folder(), time.monotonic()
    ready = folder / "ready"
    if ready.exists():
        return 0.0
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            log.warning("compiling the HMM kernels once into %s (20 to 60 seconds)", folder)
            compile_all()
            ready.touch()
    return time.monotonic() - start


def _user_cache() -> Path:
    """HMMTTS_CACHE, else the desktop's cache folder, else (read-only home) a private folder for temporary files."""
    chosen = os.environ.get("HMMTTS_CACHE")
    home = (
        Path(chosen)
        if chosen
        else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hmmtts"
    )
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            return home
    except OSError:
        private = Path(tempfile.gettempdir()) / f"hmmtts-{os.getuid()}"
        private.mkdir(mode=0o700, exist_ok=True)
        if private.stat().st_uid != os.getuid():
            raise PermissionError(
                f"{private} belongs to somebody else: set HMMTTS_CACHE to a folder of your own"
            ) from None
        return private


@contextmanager
def _cache_folder():
    """numba reads the folder of its cache when a function is decorated."""
    before, folder = numba.config.CACHE_DIR, cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    numba.config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before
