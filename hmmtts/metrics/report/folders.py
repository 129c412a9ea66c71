"""Finding the files of a folder by utterance id, which is the file's name without its suffix."""

from pathlib import Path
from typing import NamedTuple

AUDIO = (".wav", ".flac", ".ogg", ".mp3")
TEXTGRID = (".TextGrid", ".textgrid")


def files_by_id(folder: Path, suffixes: tuple[str, ...], inside: str) -> dict[str, Path]:
    """Every such file below `folder`, or below its sub-folder `inside` where a corpus has one."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: not a folder; give one that holds *{suffixes[0]} files")
    within = folder / inside
    found: dict[str, Path] = {}
    for path in sorted((within if within.is_dir() else folder).rglob("*")):
        if path.suffix not in suffixes or not path.is_file():
            continue
        if path.stem in found:
            raise ValueError(
                f"{path} and {found[path.stem]} have one id, {path.stem}: give a folder that holds one of them"
            )
        found[path.stem] = path
    return found


class Common(NamedTuple):
    """Utterances of two folders, by id."""

    pairs: dict[str, tuple[Path, Path]]
    missing: list[str]  # only in the reference
    unexpected: list[str]  # only in the hypothesis


def common(ref: Path, hyp: Path, suffixes: tuple[str, ...], inside: str) -> Common:
    """The utterances that both folders hold. None at all is an error, which names an id of each side."""
    refs, hyps = files_by_id(ref, suffixes, inside), files_by_id(hyp, suffixes, inside)
    for folder, found in ((ref, refs), (hyp, hyps)):
        if not found:
            raise ValueError(f"{folder}: no file that ends in {', '.join(suffixes)}; is it the right folder?")
    pairs = {name: (path, hyps[name]) for name, path in refs.items() if name in hyps}
    if not pairs:
        raise ValueError(
            f"{ref} and {hyp} have no utterance in common: the first holds e.g. {next(iter(refs))}, "
            f"the second e.g. {next(iter(hyps))}; name the files alike"
        )
    return Common(pairs, sorted(refs.keys() - hyps.keys()), sorted(hyps.keys() - refs.keys()))
