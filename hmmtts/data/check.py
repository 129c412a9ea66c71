"""The truth about a corpus before a training finds it out: every file decoded once, every problem said, nothing mended.

An utterance with an error is rejected, one with a warning is not. u frames of the aligner, n states.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import NamedTuple

from hmmtts.data import alignment
from hmmtts.data.alignment import Times
from hmmtts.data.corpus import Corpus
from hmmtts.data.dataset import Transcriber
from hmmtts.data.finding import Finding, Problem, error, rejects, warning
from hmmtts.data.folder import Entry
from hmmtts.data.guard import Casualty, guarded
from hmmtts.data.inspect import LIMITS, Inspection, Limits, Task, inspect_task
from hmmtts.data.manifest import Utterance
from hmmtts.data.sampler import buckets
from hmmtts.text import SILENCE, SymbolTable
from hmmtts.text.symbols import describe

TOLERANCE = 0.01  # seconds by which a manifest and the file may differ in length
FEWEST = 10  # utterances from which an outlier can be told
OUTLIER = 5.0  # median absolute deviations, as far as a normal law makes them standard deviations
FACTOR = 1.6  # and at least this many times faster or slower than the median
# Peak memory of a training step of the model that conf/ describes, measured on batches of 12 to 60 s with 15 to 300
# symbols: the sum is 3 % below to 19 % above it. The model itself and its optimiser come on top.
CELL_BYTES = 10  # of log_obs, its gradient and what the recursions keep
SECOND_BYTES = 4_200_000  # of what the networks keep for their backward pass, for a second of speech


class Options(NamedTuple):
    transcribe: Transcriber | None = None  # None: the corpus's own phones, else the characters of the text
    symbols: SymbolTable | None = None  # what a model knows; None: everything that is spoken
    sample_rate: int | None = None  # None: what most files have
    hop: float = 0.005  # seconds between frames of the aligner
    states_per_symbol: int = 5
    limits: Limits = LIMITS
    batch_seconds: float = 60.0
    batch_items: int = 32
    buckets: int = 20
    jobs: int = 1  # processes that decode; 0: this one
    patience: float = 60.0  # seconds after which a file is given up


class Judged(NamedTuple):
    """An utterance after its audio was decoded."""

    number: int  # of the entry
    utterance: Utterance
    symbols: int
    findings: list[Finding]

    def add(self, problems: Iterable[Problem], file: Path, folder: Path) -> None:
        self.findings.extend(problem.at(self.utterance.id, shown(file, folder)) for problem in problems)


class Batch(NamedTuple):
    """The biggest batch that training will meet, padded."""

    items: int
    seconds: float  # of the longest
    frames: int
    states: int

    @property
    def bytes(self) -> float:
        return self.items * (self.frames * self.states * CELL_BYTES + self.seconds * SECOND_BYTES)


class Report(NamedTuple):
    accepted: list[Judged]
    rejected: list[str]  # ids, and places of lines that give none
    findings: list[Finding]
    rate: int  # what most files have, or what was asked for; 0 if no file could be read
    biggest: Batch | None

    @property
    def ok(self) -> bool:
        """Whether no finding is an error, those that belong to no utterance included."""
        return not rejects(self.findings)


def check(corpus: Corpus, options: Options, tick: Callable[[], object] = lambda: None) -> Report:
    """`tick` is called once per entry."""
    judged: list[Judged] = []
    unusable: list[tuple[int, list[Finding]]] = []
    for number, result in _judge_all(corpus, options):
        if isinstance(result, Judged):
            judged.append(result)
        else:
            unusable.append((number, result))
        tick()
    judged.sort(key=lambda entry: entry.number)
    rate = options.sample_rate or _usual_rate(judged)
    for entry in judged:
        entry.add(_rate_problems(entry.utterance, rate, options), entry.utterance.audio, corpus.folder)
    paces = _usual_paces(judged)
    for entry in judged:
        entry.add(_pace_problems(entry, paces), entry.utterance.audio, corpus.folder)
    listed = [*unusable, *((entry.number, entry.findings) for entry in judged)]
    found = [findings for _, findings in sorted(listed, key=itemgetter(0))]
    accepted = [entry for entry in judged if not rejects(entry.findings)]
    return Report(
        accepted,
        [_name(findings) for findings in found if rejects(findings)],
        [*corpus.findings, *(finding for findings in found for finding in findings)],
        rate,
        _biggest(accepted, options),
    )


def _name(findings: list[Finding]) -> str:
    """Whose findings these are."""
    first = findings[0]
    return first.id or f"{first.file}:{first.line}"


def _judge_all(corpus: Corpus, options: Options) -> Iterator[tuple[int, Judged | list[Finding]]]:
    """Every entry by its number, as it gets done: judged, or what is wrong with it where it gives no utterance."""
    waiting: dict[int, Entry] = {}
    unusable: list[tuple[int, list[Finding]]] = []

    def tasks() -> Iterator[Task]:
        for number, entry in enumerate(corpus.entries):
            if entry.utterance is None:
                unusable.append((number, entry.findings))
                continue
            waiting[number] = entry
            heard = entry.utterance
            yield Task(number, heard.audio, heard.start, heard.duration or None, options.limits)

    for task, inspection in guarded(inspect_task, tasks(), options.jobs, options.patience):
        entry = waiting.pop(task.number)
        assert entry.utterance is not None
        yield (
            task.number,
            _judge(task.number, entry.utterance, entry.findings, inspection, corpus.folder, options),
        )
    yield from unusable


def _judge(
    number: int,
    utterance: Utterance,
    listed: list[Finding],
    seen: Inspection | Casualty,
    folder: Path,
    options: Options,
) -> Judged:
    audio = shown(utterance.audio, folder)
    if isinstance(seen, Casualty):
        problem = error("unreadable", f"damaged so that decoding fails: {seen.reason}")
        return Judged(number, utterance, 0, [*listed, problem.at(utterance.id, audio)])
    heard = [problem.at(utterance.id, audio) for problem in [*seen.problems, *_stale(utterance, seen)]]
    utterance = utterance._replace(rate=seen.rate, duration=seen.duration, audio_duration=seen.audio_duration)
    symbols, problems = _symbols(utterance, options)
    if not rejects(seen.problems):  # else what is said of its length would be misleading
        problems += _time_problems(utterance, len(symbols), options)
    origin = shown(utterance.file, folder) if utterance.file else None
    read = [problem.at(utterance.id, origin, utterance.line) for problem in problems]
    return Judged(number, utterance, len(symbols), [*listed, *heard, *read])


def _stale(utterance: Utterance, seen: Inspection) -> Iterator[Problem]:
    """Where a manifest and the file have parted."""
    if not seen.rate or not utterance.rate or rejects(seen.problems):
        return
    if utterance.rate != seen.rate:
        yield error(
            "stale",
            f"the manifest says {utterance.rate} Hz, the file has {seen.rate}; prepare the corpus again",
        )
    elif abs(utterance.audio_duration - seen.audio_duration) > TOLERANCE:
        said = f"the manifest says {utterance.audio_duration:.3f} s, the file has {seen.audio_duration:.3f}"
        yield error("stale", f"{said}; prepare the corpus again")


def _symbols(utterance: Utterance, options: Options) -> tuple[list[str], list[Problem]]:
    """What the model will be asked to speak, and why it cannot."""
    if options.transcribe is None:
        spelt = [item.symbol for item in utterance.phone_times or []] or utterance.phones
        symbols = spelt or [character for character in utterance.text if not character.isspace()]
    else:
        try:
            symbols = options.transcribe(utterance).symbols
        except (ValueError, RuntimeError) as failure:  # RuntimeError: espeak-ng itself refuses the text
            return [], [error("text", str(failure).removeprefix(f"{utterance.where}: "))]
        if not symbols and utterance.text.strip():
            return [], [error("empty-text", "nothing in the text is spoken")]
    if options.symbols is None:
        return symbols, []
    unknown = Counter(symbol for symbol in symbols if symbol not in options.symbols)
    listing = ", ".join(f"{describe(symbol)} x{count}" for symbol, count in sorted(unknown.items()))
    return symbols, [error("unknown-symbol", f"unknown symbols: {listing}")] if unknown else []


def _time_problems(utterance: Utterance, symbols: int, options: Options) -> Iterator[Problem]:
    frames, states = frames_of(utterance, options), symbols * options.states_per_symbol
    if frames < states:
        mend = f"shorten the hop (now {1000 * options.hop:g} ms) or leave it out"
        yield error("impossible", f"{frames} frames < {states} states, so that no alignment exists; {mend}")
    yield from alignment.problems(Times(utterance.phone_times, utterance.word_times), utterance.duration)
    if utterance.phones and utterance.phone_times:
        timed = [item.symbol for item in utterance.phone_times if item.symbol != SILENCE]
        if timed != [phone for phone in utterance.phones if phone != SILENCE]:
            yield warning("alignment", "the phones of the alignment are not those of the transcript")


def frames_of(utterance: Utterance, options: Options) -> int:
    hop = max(1, round(options.hop * utterance.rate))
    return 1 + round(utterance.duration * utterance.rate) // hop


def _usual_rate(judged: Iterable[Judged]) -> int:
    rates = Counter(entry.utterance.rate for entry in judged if entry.utterance.rate)
    return max(rates, key=lambda rate: (rates[rate], rate), default=0)


def _rate_problems(utterance: Utterance, rate: int, options: Options) -> Iterator[Problem]:
    if utterance.rate not in (0, rate):
        whose = "--sample-rate asks for" if options.sample_rate else "most of the corpus has"
        yield error(
            "sample-rate", f"{utterance.rate} Hz, {whose} {rate}; resample it (`sox IN -r {rate} OUT`)"
        )


def _usual_paces(judged: Iterable[Judged]) -> dict[str | None, tuple[float, float]]:
    """Median and spread of the log of symbols a second, by language, over what can be used."""
    paces: dict[str | None, list[float]] = defaultdict(list)
    for entry in judged:
        if entry.symbols and not rejects(entry.findings):
            paces[entry.utterance.language].append(math.log(entry.symbols / entry.utterance.duration))
    usual = {}
    for language, logs in paces.items():
        if len(logs) >= FEWEST:
            middle = median(logs)
            usual[language] = middle, 1.4826 * median(abs(value - middle) for value in logs)
    return usual


def _pace_problems(entry: Judged, usual: dict[str | None, tuple[float, float]]) -> Iterator[Problem]:
    if not entry.symbols or rejects(entry.findings) or entry.utterance.language not in usual:
        return
    pace = entry.symbols / entry.utterance.duration
    middle, spread = usual[entry.utterance.language]
    if abs(math.log(pace) - middle) > max(OUTLIER * spread, math.log(FACTOR)):
        usually = f"{pace:.1f} symbols a second, the median is {math.exp(middle):.1f}"
        yield warning("speaking-rate", f"{usually}; does the text belong to the audio?")


def _biggest(accepted: list[Judged], options: Options) -> Batch | None:
    """The batch that takes most memory of those that the sampler can draw: it fills each bucket as it likes."""
    if not accepted:
        return None
    lengths = [entry.utterance.duration for entry in accepted]
    most = max(options.batch_seconds, *lengths)
    batches = []
    for bucket in buckets(lengths, most, options.batch_items, options.buckets):
        members = [accepted[index] for index in bucket.members]
        seconds = max(entry.utterance.duration for entry in members)
        frames = max(frames_of(entry.utterance, options) for entry in members)
        states = max(entry.symbols for entry in members) * options.states_per_symbol
        batches.append(Batch(min(bucket.size, len(members)), seconds, frames, states))
    return max(batches, key=lambda batch: batch.bytes)


def shown(path: Path, folder: Path) -> str:
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
