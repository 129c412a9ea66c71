"""`hmmtts select SOUNDS`: how many states, and how many Gaussians in each, an HMM of these sounds should have."""

from pathlib import Path
from typing import Annotated

import typer


def run(
    sounds: Annotated[Path, typer.Argument(help="A folder of sound files.")],
    states: Annotated[str, typer.Option(help="Numbers of states to try, with commas.")] = "2,4,8,16",
    components: Annotated[str, typer.Option(help="Numbers of Gaussians per state, with commas.")] = "1,2,4",
    files: Annotated[int, typer.Option(help="Use that many files, spread over the folder.", min=2)] = 50,
    folds: Annotated[int, typer.Option(help="Parts of the files, each held out once.", min=2)] = 5,
    topology: Annotated[
        str, typer.Option(help="dense: any state after any; left_to_right: all in order.")
    ] = "dense",
    jobs: Annotated[int | None, typer.Option(help="Threads; else as many as torch has.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of the folds and the starts.")] = 0,
    preset: Annotated[str, typer.Option("--features", help="A preset of conf/features.")] = "default",
    picture: Annotated[Path | None, typer.Option(help="Draw the criteria into this .png.")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Train every combination on the acoustic features and judge it by files that it has not heard, by AIC and by BIC.

    hmmtts select corpus/wavs --states 4,8,16 --components 1,2,4 --picture selection.png
    """
    from json import dumps

    import torch
    from rich.console import Console

    from hmmtts.hmm import select
    from hmmtts.metrics.report import selection

    if topology not in ("dense", "left_to_right"):
        raise ValueError(f"--topology must be dense or left_to_right, got {topology!r}")
    candidates = _numbers("--states", states), _numbers("--components", components)
    observed = _observed(sounds, files, preset)
    console = Console()
    console.print(f"{len(observed.frames)} files, {int(observed.frames.sum())} frames")
    training = select.Training(topology=topology)  # type: ignore[arg-type]  # one of the two, as checked above
    judged = select.judge(
        observed,
        *candidates,
        folds=folds,
        training=training,
        workers=jobs or torch.get_num_threads(),
        seed=seed,
    )
    console.print(selection.table(judged))
    if picture is not None:
        selection.draw(judged, picture)
    if json is not None:
        rows = [{**each._asdict(), "candidate": each.candidate._asdict()} for each in judged]
        json.write_text(dumps(rows, indent=1) + "\n", encoding="utf-8")


def _numbers(option: str, text: str) -> list[int]:
    numbers = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in numbers):
        raise ValueError(f"{option} must be whole numbers, at least 1, with commas, got {text!r}")
    return sorted({int(word) for word in numbers})


def _observed(folder: Path, files: int, preset: str):
    """Acoustic features, brought to mean 0 and variance 1 over all files."""
    import torch
    from hydra import compose, initialize_config_dir
    from torch.nn.utils.rnn import pad_sequence

    from hmmtts.audio.features import extract
    from hmmtts.audio.io import read, resample
    from hmmtts.build import objects, program
    from hmmtts.data.inspect import SUFFIXES
    from hmmtts.hmm.em import Observed

    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(paths) < 2:
        raise ValueError(
            f"{folder} must hold at least two sound files ({', '.join(SUFFIXES)}), found {len(paths)}"
        )
    with initialize_config_dir(str(program.folder("conf")), version_base="1.3"):
        acoustic = objects.features(compose(overrides=[f"+features={preset}"])).acoustic  # type: ignore[arg-type]
    tracks = []
    for path in paths[:: -(-len(paths) // files)]:
        wave = resample(*read(path), acoustic.sample_rate)
        tracks.append(torch.from_numpy(extract(acoustic, torch.from_numpy(wave)[None])))
    deviation, mean = torch.std_mean(torch.cat(tracks), 0)
    x = pad_sequence([(track - mean) / deviation.clamp(min=1e-3) for track in tracks], batch_first=True)
    return Observed(x, torch.tensor([len(track) for track in tracks]))
