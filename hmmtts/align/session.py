"""One run of `hmmtts align`: train, align, write, and continue where an earlier run was interrupted.

In OUT/.align lie the trained panel and a journal with a line for every utterance whose files are written. Both bear
the key of what they depend on: the texts as symbols, size and time of every audio file, and what aligns them. Under
another key they are ignored, so that a changed corpus is aligned anew.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from hmmtts.align import output
from hmmtts.align.corpus import TRAINING_SECONDS, Line, Reading, hear, training_order
from hmmtts.align.panel import Aligned, Refused, align
from hmmtts.align.storage import load_panel, save_panel
from hmmtts.align.training import STEPS, Panel, Spoken, train

TOGETHER = 64  # utterances in memory at a time
VERSION = 1  # of the method: files of another are not continued
Progress = Callable[[str, int, int], None]  # what is done, how much of it, of how much


class Note(NamedTuple):
    """What the journal keeps of an utterance."""

    id: str
    confidence: float
    weakest: str  # phone
    at: float  # seconds
    weakest_confidence: float
    score: float


class Aligner(Protocol):
    """It has learnt already, so that a session has nothing to train: a text-to-speech model, for one."""

    key: str  # files of another are not continued

    def __call__(self, lines: Sequence[Line]) -> list[Aligned | Refused]: ...


class Session:
    """With `aligner`, or with a panel that learns from this very corpus."""

    def __init__(
        self,
        out: Path,
        formats: Sequence[str],
        reading: Reading,
        seed: int = 0,
        aligner: Aligner | None = None,
    ) -> None:
        self.out, self.formats, self.lines, self.seed = out, formats, reading.lines, seed
        self.aligner = aligner
        self.refused = list(reading.refused)
        if not self.lines:
            reasons = "".join(f"\n  {item.id}: {item.reason}" for item in self.refused[:5])
            raise ValueError(f"the corpus holds no utterance that can be aligned{reasons}")
        self.key = self._key()
        self.state = out / ".align"
        self.notes: dict[str, Note] = {}
        self.continued = 0

    def run(self, progress: Progress = lambda *_: None) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        self.notes = self._finished()
        self.continued = len(self.notes)
        waiting = [line for line in self.lines if line.id not in self.notes]
        if waiting:
            self._align(self.aligner or self._panel(progress), waiting, progress)

    def _panel(self, progress: Progress) -> Callable[[Sequence[Line]], list[Aligned | Refused]]:
        panel = load_panel(self.state / "panel.pt", self.key) or self._train(progress)

        def answer(lines: Sequence[Line]) -> list[Aligned | Refused]:
            heard = [hear(line) for line in lines]
            unheard: list[Aligned | Refused] = [item for item in heard if isinstance(item, Refused)]
            return unheard + align(panel, [item for item in heard if isinstance(item, Spoken)])

        return answer

    def _train(self, progress: Progress) -> Panel:
        chosen: list[Spoken] = []
        seconds = 0.0
        for line in training_order(self.lines, self.seed):
            progress("reading", len(chosen), len(self.lines))
            spoken = hear(line)
            if isinstance(spoken, Spoken):
                chosen.append(spoken)
                seconds += spoken.seconds
            if seconds > TRAINING_SECONDS:
                break
        if not chosen:
            reason = hear(self.lines[0])
            raise ValueError(f"no audio can be read; {reason.reason if isinstance(reason, Refused) else ''}")
        done = iter(range(1, STEPS + 1))
        panel = train(chosen, lambda: progress("learning", next(done), STEPS))
        save_panel(panel, self.state / "panel.pt", self.key)
        return panel

    def _align(
        self,
        answer: Callable[[Sequence[Line]], list[Aligned | Refused]],
        waiting: Sequence[Line],
        progress: Progress,
    ) -> None:
        path = self.state / "journal.jsonl"
        torn = path.is_file() and not path.read_bytes().endswith(b"\n")
        with path.open("a", encoding="utf-8") as journal:
            if torn:
                journal.write("\n")
            for begin in range(0, len(waiting), TOGETHER):
                progress("aligning", begin, len(waiting))
                for result in answer(waiting[begin : begin + TOGETHER]):
                    if isinstance(result, Refused):
                        self.refused.append(result)
                        continue
                    output.write(result, self.out, self.formats)
                    note = _note(result)
                    self.notes[note.id] = note
                    journal.write(json.dumps({"key": self.key, **note._asdict()}, ensure_ascii=False) + "\n")
                journal.flush()

    def summary(self, show: int) -> Iterator[str]:
        """What was done, what could not be, and where to look first."""
        continued = f", {self.continued} of them by an earlier run" if self.continued else ""
        yield f"{len(self.notes)} of {len(self.notes) + len(self.refused)} utterances aligned in {self.out}{continued}"
        for item in self.refused:
            yield f"not aligned: {item.id}: {item.reason}"
        doubtful = sorted(self.notes.values(), key=lambda note: (note.confidence, note.id))[:show]
        if doubtful:
            yield "look first at (mean confidence; the phone of least confidence, when, how sure):"
        for note in doubtful:
            yield (
                f"  {note.id}  {note.confidence:.3f}  {note.weakest} at {note.at:.2f} s, {note.weakest_confidence:.2f}"
            )

    def _key(self) -> str:
        by = self.aligner.key if self.aligner else self.seed
        digest = hashlib.sha256(json.dumps([VERSION, by]).encode())
        for line in sorted(self.lines, key=lambda line: line.id):
            utterance = line.utterance
            try:
                stat = utterance.audio.stat()
                file = [stat.st_size, stat.st_mtime_ns]
            except OSError:
                file = []
            said = [line.id, utterance.start, utterance.duration, file, *line.script]
            digest.update(json.dumps(said, ensure_ascii=False).encode())
        return digest.hexdigest()

    def _finished(self) -> dict[str, Note]:
        """Utterances of the journal under this key whose files all exist; a torn last line is nothing."""
        path = self.state / "journal.jsonl"
        wanted = {line.id for line in self.lines}
        found: dict[str, Note] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            try:
                entry = json.loads(line)
                if entry.pop("key") != self.key:
                    continue
                note = Note(**entry)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            files = output.paths(self.out, note.id, self.formats)
            if note.id in wanted and all(file.is_file() for file in files):
                found[note.id] = note
        return found


def _note(aligned: Aligned) -> Note:
    weakest = min(aligned.phones, key=lambda phone: phone.confidence)
    return Note(
        aligned.id,
        round(aligned.confidence, 4),
        weakest.label,
        round(weakest.start, 3),
        round(weakest.confidence, 4),
        round(aligned.score, 3),
    )
