"""numba, compiled once per user and machine: where the machine code is kept, and who compiles when many start at once.

numba's own cache lies beside the source, which may be read-only and which many processes would fill at the same
time. Here it lies in a per-user folder named after what the kernels' source says, wherever that lies, and one process
compiles while others wait.
"""

import ast
import fcntl
import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from threading import local

import llvmlite.binding
import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.compiler import CompilerBase, DefaultPassBuilder

log = logging.getLogger(__name__)

PACKAGE = __name__.rpartition(".")[0]

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
    return _called(function, nogil=True)


def glance(function: Callable) -> Callable:
    """The same for what is over before the lock could be given away."""
    return _called(function, nogil=False)


def _called(function: Callable, nogil: bool) -> Callable:
    compiled = numba.njit(fastmath=FAST, nogil=nogil)(function)
    compiled._cache = _Cache(function)  # cache=True, but in a folder of our choice
    return compiled


class _Place:
    """What numba asks for the place of a function's machine code, in place of its own, which go by the source's path."""

    def __init__(self, function: Callable, source: str):
        self._py_file, self._line = source, function.__code__.co_firstlineno
        self._folder = cache_folder(function.__module__)

    @classmethod
    def from_function(cls, function: Callable, source: str) -> "_Place":
        return cls(function, source)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def ensure_cache_path(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)

    def get_source_stamp(self) -> str:
        return self._folder.name

    def get_disambiguator(self) -> str:
        return str(self._line)


class _Rules(CompileResultCacheImpl):
    _locator_classes = (_Place,)


class _Cache(FunctionCache):
    _impl_class = _Rules


_this_thread = local()  # at_work: whose kernels it is calling


@cache
def cache_folder(module: str) -> Path:
    """Where a module's kernels are kept: named by everything that decides their machine code, so that none is stale."""
    python, host = sys.implementation.cache_tag, llvmlite.binding.get_host_cpu_name()
    digest = hashlib.sha256(f"{python} {numba.__version__} {host}".encode())
    digest.update(llvmlite.binding.get_host_cpu_features().flatten().encode())
    for source in sorted(_sources(_source(module))):
        digest.update(source.read_bytes())
    return _user_cache() / "kernels" / f"{module.rpartition('.')[2]}-{digest.hexdigest()[:16]}"


def compiled_once(call_all: Callable[[], None]) -> Callable[[], None]:
    """Of a function that calls every kernel of its module: does so unless it was done before, by whichever process.

    Whoever comes meanwhile waits. What it calls may ask for it again, and for other modules' kernels.
    """
    done = False

    @wraps(call_all)
    def make_ready() -> None:
        nonlocal done
        if done:
            return
        at_work = _this_thread.__dict__.setdefault("at_work", [])
        if call_all in at_work:
            return
        at_work.append(call_all)
        try:
            _once(cache_folder(call_all.__module__), call_all, say=len(at_work) == 1)
        finally:
            at_work.pop()
        done = True

    return make_ready


def _once(folder: Path, call_all: Callable[[], None], say: bool) -> None:
    ready = folder / "ready"
    if ready.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if not ready.exists():
                if say:
                    log.warning("compiling kernels once into %s (10 to 60 seconds)", folder)
                call_all()
                ready.touch()
        finally:
            # A process forked meanwhile has the file open too: closing it does not free it.
            fcntl.flock(lock, fcntl.LOCK_UN)


def _source(module: str) -> Path:
    """Found by its name: the module that asks may be half imported."""
    stem = Path(__file__).parent.joinpath(*module.removeprefix(PACKAGE).split("."))
    return stem.with_suffix(".py") if stem.with_suffix(".py").exists() else stem / "__init__.py"


def _sources(source: Path) -> set[Path]:
    """A kernel's source and those of the modules here whose functions are compiled into it."""
    found, remaining = set(), [source]
    while remaining:
        source = remaining.pop()
        if source not in found:
            found.add(source)
            for node in ast.walk(ast.parse(source.read_text())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
                    names = [f".{name.name}" for name in node.names] if node.module == PACKAGE else [""]
                    remaining += [_source(f"{node.module}{name}") for name in names]
    return found


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
