"""A corpus aligned by a trained voice, for hmmtts.align.session."""

from collections.abc import Sequence
from pathlib import Path

from hmmtts.align.corpus import Line, Spelling
from hmmtts.align.panel import Aligned, Refused
from hmmtts.audio.io import read
from hmmtts.build import bundle as bundles
from hmmtts.build import objects
from hmmtts.data.manifest import Utterance
from hmmtts.synthesis import listening
from hmmtts.synthesis.result import as_aligned
from hmmtts.text import Transcript

TOGETHER = 8  # recordings in a batch


class Listener:
    """Speakers and languages are those of the voice, by name. Where a corpus names none, or the voice has learnt but
    one, it listens as to its first.
    """

    def __init__(self, path: str | Path) -> None:
        file = bundles.find(path)
        self.bundle = bundles.load(file)
        stat = file.stat()
        self.key = f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns}"
        self.transcribe = objects.loading(self.bundle.config).transcriber(self.bundle.frontend)

    def spell(self, utterance: Utterance) -> Spelling:
        """As in training; unknown symbols, speakers and languages are refused here, by the utterance's name."""
        transcript = self.transcribe(utterance)
        self.bundle.facts.symbols.encode(transcript.symbols)
        self._numbers(utterance)
        return Spelling(transcript, own=True)

    def __call__(self, lines: Sequence[Line]) -> list[Aligned | Refused]:
        return [item for i in range(0, len(lines), TOGETHER) for item in self._batch(lines[i : i + TOGETHER])]

    def _batch(self, lines: Sequence[Line]) -> list[Aligned | Refused]:
        results: list[Aligned | Refused] = []
        recordings: list[listening.Recording] = []
        for line in lines:
            utterance = line.utterance
            try:
                wave, rate = read(utterance.audio, utterance.start, utterance.duration or None)
            except (OSError, ValueError) as failure:
                results.append(Refused(line.id, f"{utterance.where}: {failure}"))
                continue
            said = Transcript(line.script.symbols, line.script.words, line.script.word_of)
            recordings.append(listening.Recording(line.id, wave, rate, said, *self._numbers(utterance)))
        for recording, found in zip(recordings, listening.align(self.bundle, recordings), strict=True):
            if isinstance(found, str):
                results.append(Refused(recording.name, found))
            else:
                results.append(
                    as_aligned(recording.name, found.seconds, found.phones, found.words, found.score)
                )
        return results

    def _numbers(self, utterance: Utterance) -> tuple[int, int]:
        facts = self.bundle.facts
        return (
            _number("speaker", utterance.speaker, facts.speakers),
            _number("language", utterance.language or "", facts.languages),
        )


def _number(kind: str, name: str, known: Sequence[str]) -> int:
    if name in known:
        return known.index(name)
    if name and len(known) > 1:
        raise ValueError(f"{kind} must be one that the voice has learnt, {', '.join(known)}, got {name!r}")
    return 0
