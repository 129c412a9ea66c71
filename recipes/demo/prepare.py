"""The embedded corpus: English sentences written for hmmtts, spoken on the spot by espeak-ng, every phone time exact.

python recipes/demo/prepare.py [--out data/demo] [--profile full|tiny] [--data-dir FOLDER]
"""

import argparse
import logging
import sys
from pathlib import Path

from hmmtts.data import prepared, spoken
from hmmtts.data.adopt import adopt
from hmmtts.data.manifest import SPLITS, write_utterances
from hmmtts.text import espeak, espeak_speech, words
from hmmtts.text.espeak_library import release

SENTENCES = Path(__file__).parent / "sentences"
PROFILES = sorted(folder.name for folder in SENTENCES.iterdir())
LANGUAGE = "en-us"
WORDS_PER_MINUTE = 175  # espeak-ng's own
CODE = [
    Path(module.__file__ or "") for module in (spoken, espeak, espeak_speech, words)
]  # what the corpus depends on
log = logging.getLogger(__name__)


def sentences(profile: str, split: str) -> dict[str, str]:
    """Id -> sentence."""
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {profile!r}")
    lines = (SENTENCES / profile / f"{split}.txt").read_text(encoding="utf-8").splitlines()
    return {f"{split}-{number:04d}": line for number, line in enumerate(lines, start=1)}


def prepare(out: Path, data_dir: Path | None = None, profile: str = "full") -> None:
    """Write out/cuts_{train,valid,test}.jsonl.gz and the audio; do nothing if they are there already.

    `data_dir`: a folder of speech with known times, in place of the sentences.
    """
    if data_dir is not None:
        adopt(data_dir, out)
    else:
        speak(out, profile)


def speak(out: Path, profile: str) -> None:
    splits = {split: sentences(profile, split) for split in SPLITS}
    key = prepared.key(repr(splits), LANGUAGE, str(WORDS_PER_MINUTE), release(), *CODE)
    if prepared.is_done(out, key):
        log.info("%s is prepared already", out)
        return
    prepared.begin(out)
    everything = {name: text for texts in splits.values() for name, text in texts.items()}
    utterances = spoken.speak_corpus(everything, out / "wavs", LANGUAGE, WORDS_PER_MINUTE)
    manifests = {split: out / f"cuts_{split}.jsonl.gz" for split in SPLITS}
    for split, path in manifests.items():
        count = write_utterances(
            path, [utterance for utterance in utterances if utterance.id in splits[split]]
        )
        log.info("%s: %d utterances", path, count)
    prepared.finish(out, key, [*manifests.values(), *(utterance.audio for utterance in utterances)])
    log.info("%.1f minutes of speech", sum(utterance.duration for utterance in utterances) / 60)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("data/demo"))
    parser.add_argument("--profile", choices=PROFILES, default="full")
    parser.add_argument(
        "--data-dir", type=Path, help="an existing corpus to use instead, such as espeak_en_us"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        prepare(arguments.out, arguments.data_dir, arguments.profile)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"{error}")
