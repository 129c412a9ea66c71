"""`hmmtts evaluate`: how close synthesised speech, an alignment or a trained voice comes to a reference."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Compare speech, alignments or a trained voice with a reference.", no_args_is_help=True
)

Ref = Annotated[Path, typer.Option(help="Folder of the reference; a corpus folder will do.")]
Hyp = Annotated[Path, typer.Option(help="Folder of what is judged; files carry the reference's names.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write everything to this file.")]
Csv = Annotated[Path | None, typer.Option("--csv", help="Write one line per utterance to this file.")]
Picture = Annotated[Path | None, typer.Option(help="Draw to this file: .png, .svg or .pdf.")]


@app.command()
def speech(
    ref: Ref,
    hyp: Hyp,
    json: Json = None,
    csv: Csv = None,
    picture: Picture = None,
    fmax: Annotated[
        float, typer.Option(help="Upper limit in Hz: audio is resampled to twice this.")
    ] = 8000.0,
    anchors: Annotated[
        bool, typer.Option(help="Also natural speech and the mean mel through Griffin-Lim.")
    ] = True,
    asr: Annotated[
        bool, typer.Option("--asr", help="Also word error rates (extra `asr`, US English).")
    ] = False,
    text: Annotated[
        Path | None, typer.Option(help="ID|text lines for --asr; default: metadata.csv of the reference.")
    ] = None,
) -> None:
    """Synthesised speech against the recordings: MCD, F0, voicing, spectral distortion, durations.

    Durations are compared where both folders hold TextGrids. Example:

    hmmtts evaluate speech --ref data/voice --hyp runs/voice/audio --json speech.json --picture speech.png
    """
    from rich.console import Console

    from hmmtts.metrics.definitions import DTW
    from hmmtts.metrics.report import pictures, recognise, tables
    from hmmtts.metrics.report.speech import evaluate_speech

    _check_outputs(json, csv, picture)
    texts = recognise.read_texts(text or _metadata(ref)) if asr else None
    console = Console()
    with _Progress("comparing") as progress:
        report = evaluate_speech(ref, hyp, fmax, anchors, texts, progress.seen)

    title = f"{hyp} against {ref}, {len(report.utterances)} utterances, at {2 * report.fmax:.0f} Hz, {DTW}"
    console.print(tables.figures_table(title, report.figures, report.intervals, report.anchors))
    tables.print_definitions(console, report.figures, report.anchors)
    _print_ids(console, "not in the hypothesis, so not judged", report.missing)
    _print_ids(console, "not in the reference, so not judged", report.unexpected)
    _print_ids(console, "with other phones, so without durations", report.other_phones)
    if json:
        content = report._asdict() | {
            "pairing": DTW,
            "definitions": tables.definitions(report.figures, report.anchors),
        }
        tables.write_json(json, content)
    if csv:
        tables.write_csv(csv, report.utterances)
    if picture:
        pictures.draw_speech(report, picture)


@app.command()
def alignment(ref: Ref, hyp: Hyp, json: Json = None, csv: Csv = None, picture: Picture = None) -> None:
    """TextGrids against TextGrids: boundary errors, frame accuracy, durations, by class of phone.

    The tier is called `phones`. A boundary is a phone's start, or its end before a pause. Example:

    hmmtts evaluate alignment --ref data/voice --hyp aligned --json alignment.json --picture alignment.png
    """
    from rich.console import Console

    from hmmtts.metrics.report import pictures, tables
    from hmmtts.metrics.report.alignment import evaluate_alignment

    _check_outputs(json, csv, picture)
    console = Console()
    with _Progress("reading") as progress:
        report = evaluate_alignment(ref, hyp, progress.seen)

    anchors = {"uniform": report.uniform}
    title = f"{hyp} against {ref}, {len(report.utterances)} utterances"
    console.print(tables.figures_table(title, report.figures, report.intervals, anchors))
    console.print(tables.classes_table(report.classes))
    tables.print_definitions(console, report.figures, anchors)
    _print_ids(console, "failed", [f"{name}: {reason}" for name, reason in report.failed.items()])
    _print_ids(console, "not in the reference, so not judged", report.unexpected)
    if json:
        content = report._asdict() | {"definitions": tables.definitions(report.figures, anchors)}
        tables.write_json(json, {key: item for key, item in content.items() if not key.endswith("errors")})
    if csv:
        tables.write_csv(csv, report.utterances)
    if picture:
        pictures.draw_alignment(report, picture)


@app.command()
def model(
    bundle: Annotated[Path, typer.Argument(help="A run folder (its best checkpoint) or a checkpoint file.")],
    corpus: Annotated[
        list[str] | None,
        typer.Argument(
            help="recipe=NAME [data_dir=DIR ...]; default: the corpus that the voice was trained on."
        ),
    ] = None,
    json: Json = None,
    csv: Csv = None,
    picture: Picture = None,
    asr: Annotated[
        bool, typer.Option("--asr", help="Also word error rates (extra `asr`, US English).")
    ] = False,
) -> None:
    """A trained voice on the test sentences of a corpus: the figures that training reports, with their intervals.

    The corpus lies in, or is made in, data/ of the working directory, as in training. Example:

    hmmtts evaluate model runs/demo/first recipe=demo --json model.json --csv model.csv --picture model.png
    """
    from rich.console import Console

    from hmmtts.build import load
    from hmmtts.metrics.report import pictures, recognise, tables
    from hmmtts.training.evaluate import CEILING, CONSTANT, FLOOR, FREE, GIVEN, UNIFORM
    from hmmtts.training.sentences import evaluate_bundle, unseen_sentences

    _check_outputs(json, csv, picture)
    recogniser = recognise.Recogniser() if asr else None
    console = Console()
    voice = load(bundle)
    with _Progress("judging") as progress:
        report = evaluate_bundle(voice, unseen_sentences(voice, corpus or []), progress.seen, recogniser)

    by_condition: dict[str, dict[str, float]] = {}
    for key, value in report.figures.items():
        condition, name = key.split("/")
        by_condition.setdefault(condition, {})[name] = value
    shown = {
        FREE: {
            name: by_condition[name] for name in (FLOOR, CEILING, CONSTANT, UNIFORM) if name in by_condition
        },
        GIVEN: {},
    }
    for condition, anchors in shown.items():
        if condition in by_condition:
            prefix = f"{condition}/"
            intervals = {
                key.removeprefix(prefix): interval
                for key, interval in report.intervals.items()
                if key.startswith(prefix)
            }
            title = f"{condition}: {bundle}, step {voice.step}, {len(report.utterances)} utterances"
            console.print(tables.figures_table(title, by_condition[condition], intervals, anchors))
    tables.print_definitions(console, by_condition[FREE], by_condition)
    if json:
        tables.write_json(json, {"bundle": str(bundle), "step": voice.step, **report._asdict()})
    if csv:
        tables.write_csv(csv, report.utterances)
    if picture:
        rows = {
            name: {key.removeprefix(f"{FREE}/"): value for key, value in row.items()}
            for name, row in report.utterances.items()
        }
        pictures.draw_voice(rows, by_condition[FREE], {**shown[FREE]}, picture)


class _Progress:
    """A bar on stderr that is told of each utterance."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

        self.bar = Progress(
            *Progress.get_default_columns()[:2],
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.bar.add_task(title, total=None)

    def __enter__(self) -> "_Progress":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def seen(self, name: str, total: int) -> None:
        self.bar.update(self.task, total=total, advance=1)


def _check_outputs(*paths: Path | None) -> None:
    """Before hours of work, not after."""
    for path in paths:
        if path is not None and not path.absolute().parent.is_dir():
            raise ValueError(f"{path}: its folder does not exist; make it first")
    picture = paths[-1]
    if picture is not None and picture.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--picture must end in .png, .svg or .pdf, got {picture}")


def _metadata(ref: Path) -> Path:
    """Beside the audio or, where REF is a corpus's `wavs`, one level up."""
    return next(
        (path for path in (ref / "metadata.csv", ref.parent / "metadata.csv") if path.is_file()),
        ref / "metadata.csv",
    )


def _print_ids(console, title: str, lines: list[str], most: int = 10) -> None:
    if lines:
        console.print(f"[bold]{len(lines)} {title}[/bold]")
        for line in lines[:most]:
            console.print(f"  {line}", highlight=False, markup=False)
        if len(lines) > most:
            console.print(f"  and {len(lines) - most} more: see --json")
