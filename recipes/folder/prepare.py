"""Any folder of speech that `hmmtts check` accepts; the audio stays where it is.

python recipes/folder/prepare.py --data-dir FOLDER [--out data/folder]
"""

import argparse
import logging
import sys
from pathlib import Path

from hmmtts.data.adopt import adopt


def prepare(out: Path, data_dir: Path | None = None, profile: str = "full") -> None:
    """Write out/cuts_{train,valid,test}.jsonl.gz; do nothing if the folder has not changed since."""
    if profile != "full":
        raise ValueError(f"profile must be full, got {profile!r}")
    if data_dir is None:
        raise ValueError("data_dir must name the folder of speech: data_dir=FOLDER")
    adopt(data_dir, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("data/folder"))
    parser.add_argument(
        "--data-dir", type=Path, required=True, help="a folder, or a manifest such as --fix writes"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        prepare(arguments.out, arguments.data_dir)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"{error}")
