"""`hmmtts synthesize BUNDLE TEXT -o out.wav`: a trained voice speaks."""

from pathlib import Path
from typing import Annotated

import typer

SUFFIXES = (".wav", ".flac", ".ogg")


def run(
    bundle: Annotated[Path, typer.Argument(help="A run folder (its best checkpoint) or a checkpoint file.")],
    text: Annotated[
        str | None,
        typer.Argument(
            help="What to say; {0.7: these words} are slower, {1 1 1 0.4: hello} has a rate a phone."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Sound file: .wav, .flac, .ogg; with --stream also -, raw 16-bit samples."
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Texts, one a line: TEXT or ID|TEXT; with --stream one text.")
    ] = None,
    out_dir: Annotated[Path | None, typer.Option(help="With --file: folder for ID.wav.")] = None,
    speaker: Annotated[str | None, typer.Option(help="By name; default: the voice's first.")] = None,
    language: Annotated[str | None, typer.Option(help="By name; default: the voice's first.")] = None,
    rate: Annotated[float, typer.Option(help="2: twice as fast.")] = 1.0,
    temperature: Annotated[
        float | None, typer.Option(help="Of a neural HMM. Higher: livelier and noisier.")
    ] = None,
    quantile: Annotated[
        float | None, typer.Option(help="Of the durations of an HMM, 0 to 1. Higher: slower.")
    ] = None,
    duration: Annotated[float | None, typer.Option(help="Seconds that each text is to take.")] = None,
    timing: Annotated[
        Path | None,
        typer.Option(help="Speak with the times of a .json, .TextGrid or .lab; TEXT may be left out."),
    ] = None,
    times: Annotated[
        str, typer.Option(help="Write times beside the sound: of textgrid, json, ctm and lab, with commas.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of what is random; the same seed, the same sound.")] = 0,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Write each sentence as soon as it is spoken; memory stays small."),
    ] = False,
    vocoder: Annotated[
        str | None, typer.Option(help="griffinlim, or PATH.onnx (extra `onnx`); default: the bundle's.")
    ] = None,
) -> None:
    """Speak with a trained voice: one text, a file of texts, or with given times. Examples:

    hmmtts synthesize runs/demo/first "The birds sing." -o birds.wav --times json,textgrid --duration 2.5

    hmmtts synthesize runs/demo/first --file lines.txt --out-dir spoken

    hmmtts synthesize runs/demo/first --file book.txt --stream -o - | aplay -t raw -f S16_LE -r 22050
    """
    _check_outputs(text, out, file, out_dir, stream, timing, times)
    _check_pace(duration, timing, rate, stream)
    from hmmtts.align.output import FORMATS

    formats = [name.strip().lower() for name in times.split(",") if name.strip()]
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ValueError(f"--times must be of {', '.join(FORMATS)}, got {', '.join(map(repr, unknown))}")

    import time

    from rich.console import Console

    from hmmtts.synthesis import load, speaking
    from hmmtts.synthesis.lines import Line, read_lines, read_text
    from hmmtts.synthesis.timed import read_timing

    console = Console(highlight=False, soft_wrap=True, stderr=out == speaking.STDOUT)
    voice = load(bundle).varied(temperature, quantile).with_vocoder(vocoder)
    who = voice.who(speaker, language)
    if stream:
        assert out is not None
        whole = read_text(file) if file else text or ""
        made = speaking.stream(voice, whole, out, formats, who, seed, rate)
        after = f"first audio after {made.first:.2f} s, real-time factor {made.factor:.3f}"
        console.print(f"{out}: {made.seconds:.2f} s of speech, {after}")
        return

    began, seconds = time.monotonic(), 0.0
    lines = list(read_lines(file)) if file else [Line("", text or "", "")]
    if timing:
        spoken = iter([voice.timed(read_timing(timing), text, seed, who)])
    else:
        texts = speaking.spelt(voice, lines, who)
        if duration is None:
            spoken = voice.speak(texts, who, seed, rate)
        else:
            spoken = (voice.fitted(chunks, who, seed, duration) for chunks in texts)
    for line, speech in zip(lines, spoken, strict=True):
        speaking.write(speech, out or out_dir / f"{line.name}.wav", formats)  # type: ignore[operator]
        seconds += speech.seconds
    took = time.monotonic() - began
    what = out or f"{len(lines)} texts in {out_dir}"
    console.print(f"{what}: {seconds:.2f} s of speech in {took:.2f} s, real-time factor {took / seconds:.3f}")


def _check_outputs(
    text: str | None,
    out: Path | None,
    file: Path | None,
    out_dir: Path | None,
    stream: bool,
    timing: Path | None,
    times: str,
) -> None:
    if (text is None) == (file is None) and not (timing and file is None):
        raise ValueError("give TEXT or --file, and not both")
    if timing and (file or stream):
        raise ValueError("--timing speaks one text: leave --file and --stream out")
    if file and not file.is_file():
        raise ValueError(f"--file {file}: there is no such file")
    if file and not stream:
        if out or not out_dir:
            raise ValueError("--file needs --out-dir, a folder for its sounds, and no --out")
        if out_dir.exists() and not out_dir.is_dir():
            raise ValueError(f"--out-dir must be a folder, and {out_dir} is a file")
    elif str(out) == "-":
        if not stream or times:
            raise ValueError("--out - is for --stream, and without --times")
    elif out_dir or not out:
        raise ValueError("one text needs --out (-o), a sound file, and no --out-dir")
    elif out.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--out must end in {', '.join(SUFFIXES)}, got {out}")
    elif out.is_dir():
        raise ValueError(f"--out must be a file, and {out} is a folder")


def _check_pace(duration: float | None, timing: Path | None, rate: float, stream: bool) -> None:
    given = {"--duration": duration is not None, "--timing": timing is not None, "--rate": rate != 1.0}
    both = [name for name, there in given.items() if there]
    if len(both) > 1:
        raise ValueError(f"{' and '.join(both)} contradict each other: give one of them")
    if stream and duration is not None:
        raise ValueError("--duration needs the whole text before its first sound: leave --stream out")
