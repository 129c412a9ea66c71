"""LJSpeech 1.1: 24 hours of one reader, public domain. Downloads 2.7 GB, or takes a copy that you have.

python recipes/ljspeech/prepare.py [--out data/ljspeech] [--data-dir LJSpeech-1.1]
"""

import argparse
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path

from hmmtts.data.adopt import adopt
from hmmtts.data.fetch import Remote, download
from hmmtts.data.unpack import extract

ARCHIVE = Remote(
    "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
    2_748_572_632,
    "be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
)
LISTS = {part: Path(__file__).parent / f"{part}.txt" for part in ("valid", "test")}
CORPUS_ID = re.compile(r"LJ0(0[1-9]|[1-4]\d|50)-\d{4}")  # LJ001-0001 to LJ050-0278


def usual_lists() -> Callable[[str], str | None]:
    """Id -> split: 100 ids are listed for validation, 500 for testing, the rest of the corpus is for training."""
    named = {name: part for part, path in LISTS.items() for name in path.read_text(encoding="utf-8").split()}
    return lambda name: named.get(name, "train" if CORPUS_ID.fullmatch(name) else None)


def prepare(out: Path, data_dir: Path | None = None, profile: str = "full") -> None:
    """Write out/cuts_{train,valid,test}.jsonl.gz; do nothing if they are there already."""
    if profile != "full":
        raise ValueError(f"profile must be full, got {profile!r}")
    source = data_dir or fetched(out)
    adopt(source, out, usual_lists(), speaker="LJ", language="en-us", inputs=list(LISTS.values()))


def fetched(out: Path) -> Path:
    """The corpus inside `out`. It has its name only when all of it is there; then the archive is deleted."""
    folder = out / "corpus"
    archive = out / ARCHIVE.url.rpartition("/")[2]
    if not folder.exists():
        extract(download(ARCHIVE, archive), folder)
    archive.unlink(missing_ok=True)
    return folder / "LJSpeech-1.1"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("data/ljspeech"))
    parser.add_argument(
        "--data-dir", type=Path, help="the folder of an extracted copy, with wavs/ and metadata.csv"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        prepare(arguments.out, arguments.data_dir)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"{error}")
