"""A corpus in shards, as `hmmtts shard` writes it: its manifests, and the audio of what is validated and tested on.

python recipes/shards/prepare.py --source https://HOST/FOLDER [--out data/shards]

The audio of the training set stays where it is; training fetches it shard by shard (conf/data/shar.yaml).
"""

import argparse
import logging
import sys
from pathlib import Path

from hmmtts.data import prepared
from hmmtts.data.sharded import SOURCE
from hmmtts.data.shards import INDEX, fetch_index, is_remote, parse, retrieve
from hmmtts.data.unpack import extract

log = logging.getLogger(__name__)


def prepare(
    out: Path, data_dir: Path | None = None, profile: str = "full", source: str | None = None
) -> None:
    """Write out/cuts_{train,valid,test}.jsonl.gz, the index, and the audio of valid and test, or do nothing if done."""
    if profile != "full":
        raise ValueError(f"profile must be full, got {profile!r}")
    source = source or (str(data_dir) if data_dir else None)
    if source is None:
        raise ValueError("data_dir must name the shards: data_dir=https://HOST/FOLDER, or a folder")
    source = source if is_remote(source) else str(Path(source).resolve())
    key = prepared.key(source)
    if prepared.is_done(out, key):
        log.info("%s is prepared already", out)
        return
    prepared.begin(out)
    content = fetch_index(source)
    index = parse(content, source)
    files = [out / INDEX, out / SOURCE]
    files[0].write_bytes(content)
    files[1].write_text(source, encoding="utf-8")
    for split, manifest in index.manifests.items():
        files.append(retrieve(source, manifest, out / f"cuts_{split}.jsonl.gz"))
    for shard, tar in index.shards.items():
        folder = out / "audio" / shard
        if shard.startswith("train/") or folder.is_dir():
            continue
        folder.parent.mkdir(parents=True, exist_ok=True)
        archive = retrieve(source, tar, folder.with_name(f".{folder.name}.tar"))
        extract(archive, folder)
        archive.unlink()
    prepared.finish(out, key, files)
    train = [tar.size for shard, tar in index.shards.items() if shard.startswith("train/")]
    log.info("%s: %d shards of %.1f GB to train on", source, len(train), sum(train) / 1e9)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("data/shards"))
    parser.add_argument("--source", required=True, help="a folder or an address, as `hmmtts shard` wrote it")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        prepare(arguments.out, source=arguments.source)
    except (ValueError, OSError) as error:
        sys.exit(f"{error}")
