"""`hmmtts features`: a corpus's features ahead of training, on one machine or as an array of jobs."""

from typing import Annotated

import typer


def run(
    overrides: Annotated[
        list[str], typer.Argument(help="What train.py will be given: recipe=NAME, data_dir=...")
    ],
    shard: Annotated[
        str, typer.Option(help="K/N: the Kth of N shares, one for each job of an array.")
    ] = "1/1",
) -> None:
    """Compute into the cache what training will look for there. Any number may run at once.

    Example: hmmtts features --shard 3/16 recipe=ljspeech
    """
    import logging

    from hmmtts.training.features import Share, extract

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    extract(overrides, Share.parse(shard))
