"""What the panel of listeners agrees on, as times of phones and words with a confidence for each phone."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hmmtts.align.aligner import Aligner, Answer, Track, answers, confidence
from hmmtts.align.script import Script, settled
from hmmtts.align.training import Panel, Spoken, track
from hmmtts.text import NO_WORD


class Phone(NamedTuple):
    label: str
    start: float  # seconds
    end: float
    confidence: (
        float  # mean posterior probability of the phone between its boundaries, over frames and listeners
    )


class Word(NamedTuple):
    label: str
    start: float
    end: float


class Aligned(NamedTuple):
    id: str
    duration: float
    words: list[Word]  # pauses left out
    phones: list[Phone]  # from 0 to duration without gaps, a pause is `sil`
    score: (
        float  # nats per frame of the best path; far below that of other utterances: another text is spoken
    )

    @property
    def confidence(self) -> float:
        return float(np.mean([phone.confidence for phone in self.phones]))


class Refused(NamedTuple):
    """An utterance that cannot be aligned, and why."""

    id: str
    reason: str


def align(panel: Panel, corpus: Sequence[Spoken]) -> list[Aligned | Refused]:
    """In the order given."""
    heard = [track(panel.scout, spoken) for spoken in corpus]
    fitting = [i for i, item in enumerate(heard) if panel.scout.fits(item)]
    found: list[Aligned | Refused] = [_too_short(spoken) for spoken in corpus]
    if not fitting:
        return found
    first = answers(panel.scout, [heard[i] for i in fitting])
    chosen = [settled(heard[i].script, answer.edges) for i, answer in zip(fitting, first, strict=True)]
    scripts = [item.script for item in chosen]
    spoken = [corpus[i] for i in fitting]
    heard_by = [_ask(listener, spoken, scripts) for listener in (*panel.coarse, *panel.fine)]
    for n, i in enumerate(fitting):
        votes = [vote for votes in heard_by if (vote := votes[n])]
        if votes:
            found[i] = _combined(spoken[n], scripts[n], votes)
        elif not any(heard[i].script.open_pauses):
            found[i] = _combined(spoken[n], scripts[n], [(panel.scout, first[n])])
    return found


def _too_short(spoken: Spoken) -> Refused:
    symbols = sum(1 for is_open in spoken.script.open_pauses if not is_open)
    return Refused(
        spoken.id,
        f"{spoken.seconds:.2f} s of sound for {symbols} symbols, which need at least {symbols * 0.01:.2f} s: "
        "is this the text of another recording?",
    )


def _ask(
    listener: Aligner, corpus: Sequence[Spoken], scripts: Sequence[Script]
) -> list[tuple[Aligner, Answer] | None]:
    tracks: list[Track] = [track(listener, *pair) for pair in zip(corpus, scripts, strict=True)]
    fitting = [i for i, item in enumerate(tracks) if listener.fits(item)]
    found: list[tuple[Aligner, Answer] | None] = [None] * len(tracks)
    for i, answer in zip(fitting, answers(listener, [tracks[i] for i in fitting]), strict=True):
        found[i] = (listener, answer)
    return found


def _combined(spoken: Spoken, script: Script, members: list[tuple[Aligner, Answer]]) -> Aligned:
    """Boundaries: the median of what the listeners say, which keeps their order."""
    edges = np.median([answer.edges for _, answer in members], axis=0)
    sure = np.mean([confidence(listener, answer.belief, edges) for listener, answer in members], axis=0)
    phones = [
        Phone(symbol, float(start), float(end), float(min(1.0, certainty)))
        for symbol, start, end, certainty in zip(script.symbols, edges[:-1], edges[1:], sure, strict=True)
    ]
    score = float(np.mean([answer.score for _, answer in members]))
    return Aligned(spoken.id, spoken.seconds, _words(script, phones), phones, score)


def _words(script: Script, phones: Sequence[Phone]) -> list[Word]:
    spans: dict[int, list[Phone]] = {}
    for phone, word in zip(phones, script.word_of, strict=True):
        if word != NO_WORD:
            spans.setdefault(word, []).append(phone)
    return [Word(script.words[word], span[0].start, span[-1].end) for word, span in spans.items()]
