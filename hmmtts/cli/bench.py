"""`hmmtts bench WHAT`: how fast it is, beside what else could do it, measured on this machine."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)


def _check_folder(json: Path | None) -> None:
    """Before minutes of measuring, not after."""
    if json is not None and not json.absolute().parent.is_dir():
        raise ValueError(f"{json}: its folder does not exist; make it first")


@app.command()
def features(
    folder: Annotated[Path, typer.Argument(help="A folder of sound files.")],
    files: Annotated[int, typer.Option(help="Use that many of them.", min=1)] = 60,
    rounds: Annotated[int, typer.Option(help="Rounds in which the rivals take turns.", min=1)] = 5,
    processes: Annotated[int, typer.Option(help="Extract in 1 to this many processes.", min=1)] = 2,
    steps: Annotated[int, typer.Option(help="Training steps to feed.", min=1)] = 100,
    preset: Annotated[str, typer.Option("--features", help="A preset of conf/features.")] = "default",
    json: Annotated[Path | None, typer.Option(help="Write the figures to this file.")] = None,
) -> None:
    """Log-mel beside a plain librosa loop, pitch, the cache, and whether the loader keeps up with training."""
    from json import dumps

    from hydra import compose, initialize_config_dir
    from rich.console import Console
    from rich.table import Table

    from hmmtts.bench.features import loader_wait, process_rates, rates, utterances_of
    from hmmtts.build import objects, program

    with initialize_config_dir(str(program.folder("conf")), version_base="1.3"):
        extractors = objects.features(compose(overrides=[f"+features={preset}"]))  # type: ignore[arg-type]
    utterances = utterances_of(folder, files)
    one = rates(utterances, extractors, rounds)
    several = process_rates(utterances, extractors, processes, rounds)
    loaders = [loader_wait(utterances, extractors, workers, steps) for workers in (0, 1, 2)]

    table = Table("one process", "times real time", "against librosa")
    table.add_row("log-mel", f"{one.log_mel:.0f}", f"{one.log_mel / one.librosa:.2f}")
    table.add_row("log-mel by librosa", f"{one.librosa:.0f}", "1")
    table.add_row("file to log-mel", f"{one.read_log_mel:.0f}", f"{one.read_log_mel / one.read_librosa:.2f}")
    table.add_row("file to log-mel by librosa", f"{one.read_librosa:.0f}", "1")
    table.add_row("cepstra of the aligner", f"{one.acoustic:.0f}", "")
    table.add_row("pitch", f"{one.f0:.0f}", "")
    table.add_row("all of them from the cache", f"{one.cached:.0f}", "")
    for count, rate in enumerate(several, 1):
        table.add_row(f"file to log-mel, {count} processes", f"{rate:.0f}", "")
    waits = Table("workers", "step of training, ms", "share of the time spent waiting")
    for loader in loaders:
        waits.add_row(str(loader.workers), f"{loader.step_ms:.1f}", f"{loader.wait_share:.2%}")
    Console().print(table, waits)
    if json is not None:
        figures = {**one._asdict(), "processes": several, "loaders": [loader._asdict() for loader in loaders]}
        json.write_text(dumps(figures, indent=1) + "\n")


@app.command()
def hmm(
    json: Annotated[Path | None, typer.Option("--json", help="Write the records to this file.")] = None,
    works: Annotated[
        list[str] | None,
        typer.Option(help="Only works whose name begins so (ltr_grad, dense*k50); repeatable."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes, seconds: does everything run?")] = False,
) -> None:
    """The HMM kernels beside other libraries (extra `bench`), in turns on one thread, with errors against float64.

    A ratio is the contender's value over ours, so more is better for us; a bar is what we want to reach.
    `make bench` installs the others and runs it. About ten minutes.
    """
    from rich.console import Console

    from hmmtts.bench.hmm import run
    from hmmtts.bench.record import table, write_json

    _check_folder(json)
    stderr = Console(stderr=True)
    records = list(run(quick, works or [], lambda name: stderr.print(f"measuring {name}", highlight=False)))
    Console(width=140).print(table(records, "HMM kernels: ratio = contender / ours"))
    if json is not None:
        write_json(json, records)


@app.command("neural-hmm")
def neural_hmm(
    json: Annotated[Path | None, typer.Option("--json", help="Write the records to this file.")] = None,
    loop: Annotated[
        bool, typer.Option(help="Also the per-frame loop: 3 to 6 minutes and 5 GiB of memory.")
    ] = True,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes, seconds: does everything run?")] = False,
) -> None:
    """A training step of the neural HMM beside the per-frame loop of its public implementations; its speech.

    Seconds of one core. `error`: of the gradient, relative, against the exact one.
    """
    from rich.console import Console

    from hmmtts.bench.neural_hmm import run
    from hmmtts.bench.record import table, write_json

    _check_folder(json)
    stderr = Console(stderr=True)
    records = list(run(quick, loop, lambda name: stderr.print(f"measuring {name}", highlight=False)))
    Console(width=140).print(table(records, "Neural HMM: ratio = contender / ours"))
    if json is not None:
        write_json(json, records)


@app.command()
def family(
    json: Annotated[Path | None, typer.Option("--json", help="Write the records to this file.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only works whose name begins so (gmm, stream_16_p99); repeatable."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes, seconds: does everything run?")] = False,
) -> None:
    """Mixtures, semi-Markov models, streams and warping beside other libraries (extra `bench`), on one thread.

    A ratio is the contender's value over ours, so more is better for us; who could not be run has none, and a reason.
    """
    from rich.console import Console
    from rich.progress import track

    from hmmtts.bench.family import works
    from hmmtts.bench.record import table, write_json
    from hmmtts.bench.timing import threads
    from hmmtts.bench.work import chosen

    _check_folder(json)
    wanted = chosen(works(quick), only or [], "--only")
    with threads(1):
        turns = track(wanted, "measuring", console=Console(stderr=True))
        records = [record for work in turns for record in work.measure()]
    if quick:  # the bars are meant for the full sizes
        records = [record._replace(bar=None) for record in records]
    Console(width=140).print(table(records, "The family of HMMs: ratio = contender / ours"))
    if json is not None:
        write_json(json, records)


@app.command()
def batch(
    overrides: Annotated[list[str], typer.Argument(help="As for `hmmtts train`: recipe=NAME any.value=...")],
    memory: Annotated[
        float, typer.Option(help="GiB that each process may take; 0: what is free on this machine.", min=0)
    ] = 0.0,
) -> None:
    """The largest data.max_seconds that fits: forward, backward and optimiser on the corpus's worst batches.

    Example: hmmtts bench batch recipe=demo
    """
    import logging

    import torch

    from hmmtts.training.compose import config_of
    from hmmtts.training.find_batch import Tried, advice, available, find

    config = config_of(overrides)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if config["threads"]:
        torch.set_num_threads(config["threads"])
    limit = int(memory * 2**30) or available(config)
    tries: list[Tried] = []
    print(f"a training may take {limit / 2**30:.1f} GiB here; --memory sets another limit")
    for found in find(config, limit):
        if not tries:
            print("data.max_seconds  utterances  s of a step  GiB of the process")
        print(
            f"{found.max_seconds:16.1f}  {found.utterances:10}  {found.seconds:11.2f}  {found.peak / 2**30:18.2f}"
            f"{'' if found.fitted else '  too much'}",
            flush=True,
        )
        tries.append(found)
    print(advice(tries, config["data"]["max_seconds"], config["data"]["max_items"]))
