"""`hmmtts check CORPUS`: what a training would stumble over, in plain words, before it does."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hmmtts.data.dataset import Transcriber
    from hmmtts.text import SymbolTable


def run(
    corpus: Annotated[str, typer.Argument(help="A manifest (.jsonl.gz), a folder, or recipe=NAME.")],
    json: Annotated[Path | None, typer.Option(help="Write counts and all findings to this file.")] = None,
    fix: Annotated[
        Path | None, typer.Option(help="Write the utterances without errors to this manifest (.jsonl.gz).")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            help="Read the text with this frontend of conf/text; else the corpus's phones or letters count."
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Check against a trained voice: it reads the text, and knows its symbols only."),
    ] = None,
    sample_rate: Annotated[int | None, typer.Option(help="Hz; else the rate that most files have.")] = None,
    hop: Annotated[float, typer.Option(help="Milliseconds between frames of the aligner.")] = 5.0,
    states_per_symbol: Annotated[int, typer.Option(help="States of the HMM for every symbol.", min=1)] = 5,
    min_seconds: Annotated[float, typer.Option(help="Shorter utterances are errors.")] = 0.1,
    max_seconds: Annotated[float, typer.Option(help="Longer utterances are errors.")] = 60.0,
    batch_seconds: Annotated[float, typer.Option(help="Seconds in a batch, to predict its memory.")] = 60.0,
    batch_items: Annotated[int, typer.Option(help="Utterances in a batch at most.", min=1)] = 32,
    encoding: Annotated[str, typer.Option(help="Of metadata.csv.")] = "utf-8",
    jobs: Annotated[
        int | None, typer.Option(help="Processes that decode; else one a processor.", min=0)
    ] = None,
    show: Annotated[int, typer.Option(help="Findings of one kind to print.", min=0)] = 10,
) -> None:
    """Decode every file of a corpus once and tell what is wrong with it. Exit code 3 if anything is an error."""
    import os

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    from hmmtts.data import report as reports
    from hmmtts.data.check import Options, check
    from hmmtts.data.corpus import open_corpus
    from hmmtts.data.inspect import Limits
    from hmmtts.data.manifest import write_utterances

    if fix and not fix.name.endswith((".jsonl", ".jsonl.gz")):
        raise ValueError(f"--fix must name a manifest that ends in .jsonl.gz, got {fix}")
    if hop <= 0:
        raise ValueError(f"--hop must be more than 0 ms, got {hop}")
    if text and bundle:
        raise ValueError("--text and --bundle exclude each other: a voice reads with its own frontend")
    transcribe, symbols = voice(bundle) if bundle else (frontend(text) if text else None, None)
    options = Options(
        transcribe=transcribe,
        symbols=symbols,
        sample_rate=sample_rate,
        hop=hop / 1000,
        states_per_symbol=states_per_symbol,
        limits=Limits(shortest=min_seconds, longest=max_seconds),
        batch_seconds=batch_seconds,
        batch_items=batch_items,
        jobs=(os.cpu_count() or 1) if jobs is None else jobs,
    )
    console, aside = Console(highlight=False, markup=False), Console(stderr=True)
    with aside.status(Text(f"listing {corpus}")):
        listed = open_corpus(corpus, encoding)
    console.print(listed.title, soft_wrap=True)
    columns = TextColumn("decoding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=aside, transient=True, disable=not aside.is_terminal) as progress:
        task = progress.add_task("decoding", total=listed.size)
        try:
            report = check(listed, options, lambda: progress.advance(task))
        except ImportError as missing:  # of a frontend's extra: the message says what to install
            raise ValueError(str(missing)) from missing
    reports.show(report, options, console, show)
    counts = f"{len(report.accepted):,} ok, {len(report.rejected):,} rejected"
    if json:
        reports.write_json(report, json)
        counts += f" (list in {json})"
    console.print(counts, soft_wrap=True)
    if fix:
        write_utterances(fix, (entry.utterance for entry in report.accepted))
        console.print(f"{fix}: {len(report.accepted):,} utterances", soft_wrap=True)
        if report.rejected:
            console.print(f"left out: {', '.join(report.rejected)}", soft_wrap=True)
    raise typer.Exit(0 if report.ok else 3)


def frontend(name: str) -> "Transcriber":
    """The frontend of conf/text/NAME.yaml, reading the text even where the corpus gives phones."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from hmmtts.build.program import folder
    from hmmtts.data.dataset import Transcriber

    path = folder("conf") / "text" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in path.parent.glob("*.yaml")))
        raise ValueError(f"--text {name!r} must be one of {known}")
    return Transcriber(instantiate(OmegaConf.load(path)), corpus_phones=False)


def voice(path: Path) -> "tuple[Transcriber, SymbolTable]":
    """How a trained voice reads, and the symbols that it has learned."""
    from hmmtts.build import bundle, checkpoint, objects, program
    from hmmtts.build.facts import Facts
    from hmmtts.data.dataset import Transcriber

    stored = checkpoint.header(bundle.find(path))
    config = stored["config"]
    program.refuse_foreign_targets(config, program.targets())
    reads = Transcriber(objects.frontend(config), config["data"]["corpus_phones"])
    return reads, Facts.from_state(stored["facts"]).symbols
