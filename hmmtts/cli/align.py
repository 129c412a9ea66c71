"""`hmmtts align CORPUS --out DIR`: when every phone and word of a corpus was spoken."""

from pathlib import Path
from typing import Annotated

import typer


def run(
    corpus: Annotated[str, typer.Argument(help="A manifest (.jsonl.gz), a folder, or recipe=NAME.")],
    out: Annotated[Path, typer.Option(help="Folder for ID.TextGrid and its kin.")],
    text: Annotated[
        str | None,
        typer.Option(
            help="characters, phones or espeak; default: the corpus's phones, or letters where it has none."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Align with this voice: a run folder or a checkpoint; its text frontend reads."),
    ] = None,
    language: Annotated[str | None, typer.Option(help="Voice of espeak-ng, such as en-us or ko.")] = None,
    format: Annotated[str, typer.Option(help="Of textgrid, ctm, json and lab, with commas.")] = "textgrid",
    jobs: Annotated[int | None, typer.Option(help="Threads; else one a processor.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Which utterances are learnt from where there are many.")] = 0,
    encoding: Annotated[str, typer.Option(help="Of metadata.csv.")] = "utf-8",
    show: Annotated[int, typer.Option(help="Utterances of least confidence to list.", min=0)] = 10,
) -> None:
    """Align recordings with what is said in them; the aligner trains itself on the corpus, or is a trained voice.

    A second run continues an interrupted one. Exit code 3 if an utterance could not be aligned. Example:

    hmmtts align data/voice --out data/voice/alignments --text espeak --language en-us --format textgrid,json
    """
    import torch
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from hmmtts.align.corpus import read_scripts, speller
    from hmmtts.align.output import FORMATS
    from hmmtts.align.session import Session
    from hmmtts.data.corpus import open_corpus

    formats = [name.strip().lower() for name in format.split(",")]
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ValueError(f"--format must be of {', '.join(FORMATS)}, got {', '.join(map(repr, unknown))}")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, and {out} is a file")
    if checkpoint and (text or language):
        raise ValueError(
            "--checkpoint reads texts as its voice has learnt to: leave --text and --language out"
        )
    if jobs:
        torch.set_num_threads(jobs)
    console, aside = Console(highlight=False), Console(stderr=True)
    with aside.status(f"listing {corpus}"):
        listed = open_corpus(corpus, encoding)
        if checkpoint:
            from hmmtts.synthesis.corpus import Listener

            listener = Listener(checkpoint)
            session = Session(
                out, formats, read_scripts(listed.entries, listener.spell, believed=True), seed, listener
            )
        else:
            session = Session(out, formats, read_scripts(listed.entries, speller(text, language)), seed)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=aside, transient=True) as progress:
        task = progress.add_task("reading", total=None)
        session.run(
            lambda what, done, total: progress.update(task, description=what, completed=done, total=total)
        )
    for line in session.summary(show):
        console.print(line, markup=False, soft_wrap=True)
    raise typer.Exit(3 if session.refused else 0)
