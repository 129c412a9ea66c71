"""The recipe's corpus, made on first use: recipes/NAME/prepare.py writes cuts_{train,valid,test}.jsonl.gz."""

import fcntl
import hashlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from hmmtts.build import program
from hmmtts.data.shards import is_remote
from hmmtts.training.faults import DataError


def corpus_folder(recipe: str, options: dict, data_dir: str | None) -> Path:
    """data/RECIPE for the recipe's own corpus; one that is made with other options or from elsewhere lies apart."""
    if data_dir is None and not options:
        return Path("data") / recipe
    source = str(Path(data_dir).resolve()) if data_dir else ""
    digest = hashlib.sha256(repr((source, sorted(options.items()))).encode()).hexdigest()[:8]
    return Path("data") / f"{recipe}-{digest}"


def prepare(recipe: str, options: dict, data_dir: str | None) -> Path:
    """The folder of the recipe's manifests. A prepared corpus is left as it is: prepare.py itself knows."""
    out = corpus_folder(recipe, options, data_dir)
    # What is prepared may not need its source any more: the recipe knows.
    if data_dir and not is_remote(data_dir) and not Path(data_dir).exists() and not out.exists():
        raise DataError(
            f"data_dir={data_dir}: there is no file or folder {Path(data_dir).resolve()}; "
            "give the path of the corpus, a folder or a manifest"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        try:
            _module(recipe).prepare(out, data_dir=Path(data_dir).resolve() if data_dir else None, **options)
        except ValueError as error:
            raise DataError(str(error)) from error
    return out


@contextmanager
def first_alone(folder: str | None, run: str) -> Iterator[None]:
    """The processes of one run that share a cache: the first fills it while the others wait, and then all read at once."""
    if folder is None:
        yield
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(run.encode()).hexdigest()[:8]
    lock = os.open(Path(folder) / f".{name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Processes that were started together (torchrun, SLURM) prepare one after the other: all but the first find it done."""
    lock = os.open(out.with_name(f".{out.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _module(recipe: str) -> ModuleType:
    path = program.recipes()[recipe].parent / "prepare.py"
    spec = importlib.util.spec_from_file_location(f"hmmtts_recipe_{recipe}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
