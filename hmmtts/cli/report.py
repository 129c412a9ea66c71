"""`hmmtts report`: report.html of a finished run once more, with another run beside it."""

from pathlib import Path
from typing import Annotated

import typer


def run(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    beside: Annotated[
        Path | None, typer.Option(help="Another finished run: its figures and its sound stand beside.")
    ] = None,
) -> None:
    """Write report.html of a finished run again, from what its folder holds. Example:

    hmmtts report runs/demo/neural --beside runs/demo/parallel
    """
    from hmmtts.training.report import read_run, write_report

    found = read_run(folder)
    print(write_report(folder, found.metrics, found.config, beside))
