"""`hmmtts shard CORPUS --out FOLDER`: a corpus too large for one disk, in shards that training fetches as it goes."""

from pathlib import Path
from typing import Annotated

import typer


def run(
    corpus: Annotated[
        str, typer.Argument(help="A folder with cuts_train.jsonl.gz and so on, or recipe=NAME.")
    ],
    out: Annotated[Path, typer.Option(help="The folder to make; serve it as it is.")],
    per_shard: Annotated[int, typer.Option(help="Utterances in a shard: 500 are about 150 MB.", min=1)] = 500,
    seed: Annotated[
        int, typer.Option(help="Of the random order in which utterances are put into shards.")
    ] = 0,
) -> None:
    """Write a prepared corpus as lhotse Shar, with an index of checksums.

    Example: hmmtts shard recipe=ljspeech --out /big/ljspeech; then train with recipe=shards data_dir=/big/ljspeech
    """
    from hmmtts.data import shards
    from hmmtts.data.corpus import PREPARED, RECIPE

    folder = PREPARED / corpus.removeprefix(RECIPE) if corpus.startswith(RECIPE) else Path(corpus)
    index = shards.write(folder, out, per_shard, seed)
    size = sum(shard.size for shard in index.shards.values())
    print(f"{out}: {len(index.shards)} shards, {size / 1e6:.0f} MB")
    print(f"train with: python train.py recipe=shards data_dir={out} run.name=NAME")
