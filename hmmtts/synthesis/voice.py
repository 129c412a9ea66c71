"""A loaded bundle that speaks and aligns. b utterances, s symbols, t samples.

    text -> markup -> chunks of a sentence or so -> symbols -> model -> mel, durations -> vocoder -> sound with times
    sound, text -> model -> times with a confidence

A long text is spoken chunk by chunk, whether it is streamed or not: both are the same sound.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from hmmtts.align.following import LAG, Phone
from hmmtts.audio.io import Wave, read
from hmmtts.audio.onnx_vocoder import OnnxVocoder
from hmmtts.audio.vocoder import GriffinLim, Vocoder
from hmmtts.batch import Prediction
from hmmtts.build import bundle as bundles
from hmmtts.build.bundle import Bundle
from hmmtts.data.alignment import Times
from hmmtts.synthesis import following, listening, manner, timed
from hmmtts.synthesis.markup import FASTEST, chunks, symbol_rates, units
from hmmtts.synthesis.result import Alignment, Interval, Speech, joined, later, words_of
from hmmtts.text import Mark, Transcript, marks

TOGETHER = 16  # chunks in a batch: memory and speed rise with it, the sound stays the same
SLACK = 0.05  # seconds by which a given duration may be missed by the frames of the decoder


def load(path: str | Path) -> "Voice":
    """BUNDLE is a run folder, whose best checkpoint it is, or a checkpoint file."""
    return Voice(bundles.load(path))


class Chunk(NamedTuple):
    """What is spoken at once."""

    transcript: Transcript
    rates: list[float]  # of every symbol


def plain(transcript: Transcript) -> Chunk:
    return Chunk(transcript, [1.0] * len(transcript.symbols))


class Speaker(NamedTuple):
    """Who speaks, in which language: numbers of the bundle, and what the frontend is told."""

    number: int
    language_number: int
    language: str | None


class Voice:
    """What is random is drawn from `seed` alone: the same call gives the same sound."""

    def __init__(self, bundle: Bundle, vocoder: Vocoder | None = None) -> None:
        self.bundle = bundle
        self.vocoder = bundle.vocoder if vocoder is None else vocoder
        self.sample_rate = bundle.features.sample_rate

    def varied(self, temperature: float | None = None, quantile: float | None = None) -> "Voice":
        """A copy that speaks in another manner: see hmmtts.synthesis.manner for which voices can."""
        model = manner.varied(self.bundle.model, temperature, quantile)
        return Voice(self.bundle._replace(model=model), self.vocoder)

    def with_vocoder(self, name: str | None) -> "Voice":
        """`griffinlim`, or the path of an .onnx file; None keeps the bundle's own."""
        if name is None:
            return self
        mel = self.bundle.features.mel
        if name == "griffinlim":
            return Voice(self.bundle, GriffinLim(mel))
        if not name.endswith(".onnx"):
            raise ValueError(f"vocoder must be griffinlim or the path of an .onnx file, got {name!r}")
        return Voice(self.bundle, OnnxVocoder(mel, Path(name)))

    def synthesize(
        self, text: str, seed: int = 0, speaker: str | None = None, language: str | None = None,
        rate: float = 1.0, duration: float | None = None,
    ) -> Speech:  # fmt: skip
        """`rate` 2 is twice as fast, `duration` is the whole in seconds; the text may hold rates: synthesis.markup."""
        who = self.who(speaker, language)
        chunks = list(self.spell(text, who))
        if duration is None:
            return next(self.speak([chunks], who, seed, rate))
        return self.fitted(chunks, who, seed, duration)

    def stream(
        self, text: str, seed: int = 0, who: Speaker | None = None, rate: float = 1.0
    ) -> Iterator[Speech]:
        """The sound of `synthesize`, each chunk as soon as it is known, with its times in the whole."""
        _check_rate(rate)
        who, start = who or self.who(), 0.0
        for chunk in self.spell(text, who):
            part = self._parts([chunk], self._predict([chunk], who, seed, rate))[0]
            yield later(part, start)
            start += part.seconds

    def timed(
        self, times: Times, text: str | None = None, seed: int = 0, who: Speaker | None = None
    ) -> Speech:
        """Speech with given times of the phones, or of the words where the phones are not known."""
        who = who or self.who()
        read = None if text is None else self.read(text, who)
        if times.phones:
            given = timed.from_phones(times.phones, times.words)
            if read is not None:
                timed.check_phones(read, given)
        else:
            words = times.words or []
            read = read or self.read(" ".join(word.symbol for word in words), who)
            natural = self._predict([plain(read)], who, seed, 1.0).durations[0].tolist()
            given = timed.from_words(read, natural, words)
        chunk = plain(given.transcript)
        made = self._predict([chunk], who, seed, 1.0, [given.seconds])
        return self._exactly(self._parts([chunk], made)[0], sum(given.seconds))

    def align(
        self, wav: str | Path, text: str, speaker: str | None = None, language: str | None = None
    ) -> Alignment:
        """When every phone and word of the text is spoken in a recording, whatever its sample rate."""
        who = self.who(speaker, language)
        wave, rate = read(wav)
        sound = listening.Recording(
            str(wav), wave, rate, self.read(text, who), who.number, who.language_number
        )
        found = listening.align(self.bundle, [sound])[0]
        if isinstance(found, str):
            raise ValueError(f"{wav}: {found}")
        return found

    def follow(
        self, text: str, pieces: Iterable[Wave], rate: int, lag: float = LAG, who: Speaker | None = None
    ) -> Iterator[Phone]:
        """Phones with their times while the text is being spoken: every one as soon as it is known, at most `lag` seconds
        after it has ended. `pieces`: the samples as they come in."""
        who = who or self.who()
        known = following.text_of(self.bundle, self.read(text, who), who.number, who.language_number)
        return following.follow(self.bundle, known, pieces, rate, lag)

    # -- text ----------------------------------------------------------------------------------------------------------

    def who(self, speaker: str | None = None, language: str | None = None) -> Speaker:
        """By name; the first where none is asked for."""
        facts = self.bundle.facts
        for kind, name, known in (
            ("speaker", speaker, facts.speakers),
            ("language", language, facts.languages),
        ):
            if name is not None and name not in known:
                raise ValueError(
                    f"{kind} must be one that the voice has learnt, {_listed(known)}, got {name!r}"
                )
        numbers = (
            0 if speaker is None else facts.speakers.index(speaker),
            0 if language is None else facts.languages.index(language),
        )
        return Speaker(*numbers, facts.languages[numbers[1]] or None)

    def read(self, text: str, who: Speaker) -> Transcript:
        """As the frontend of the training spells it; never empty."""
        transcript = self._transcribe(text, who)
        if not transcript.words:
            raise ValueError(f"text must hold something to speak, got {text!r}")
        self.bundle.facts.symbols.encode(transcript.symbols)
        return transcript

    def _transcribe(self, text: str, who: Speaker) -> Transcript:
        try:
            return self.bundle.frontend(text, who.language)
        except RuntimeError as failure:  # espeak-ng itself refuses
            raise ValueError(str(failure)) from failure

    def spell(self, text: str, who: Speaker) -> Iterator[Chunk]:
        """The text, chunk by chunk: nothing of a later chunk is looked at before it is asked for."""
        empty = True
        for chunk in chunks(units(text)):
            transcript = self._transcribe(" ".join(unit.text for unit in chunk), who)
            if not transcript.words:
                continue
            empty = False
            self.bundle.facts.symbols.encode(transcript.symbols)
            yield Chunk(transcript, symbol_rates(chunk, transcript, lambda text: self._transcribe(text, who)))
        if empty:
            raise ValueError(f"text must hold something to speak, got {text!r}")

    # -- sound ---------------------------------------------------------------------------------------------------------

    def speak(
        self, texts: Iterable[Iterable[Chunk]], who: Speaker, seed: int = 0, rate: float = 1.0
    ) -> Iterator[Speech]:
        """One Speech for each text, in order; chunks of several texts share a batch."""
        _check_rate(rate)
        jobs = ((number, chunk) for number, text in enumerate(texts) for chunk in text)
        for _, spoken in groupby(self._spoken(jobs, who, seed, rate), key=lambda job: job[0]):
            yield joined([part for _, part in spoken])

    def _spoken(
        self, jobs: Iterator[tuple[int, Chunk]], who: Speaker, seed: int, rate: float
    ) -> Iterator[tuple[int, Speech]]:
        while batch := list(islice(jobs, TOGETHER)):
            spoken = [chunk for _, chunk in batch]
            parts = self._parts(spoken, self._predict(spoken, who, seed, rate))
            yield from zip([number for number, _ in batch], parts, strict=True)

    def fitted(self, text: Sequence[Chunk], who: Speaker, seed: int, duration: float) -> Speech:
        """The whole in `duration` seconds, everything in it stretched alike."""
        batches = [text[i : i + TOGETHER] for i in range(0, len(text), TOGETHER)]
        natural = [
            row for batch in batches for row in self._seconds(batch, self._predict(batch, who, seed, 1.0))
        ]
        own = sum(map(sum, natural))
        if not own / FASTEST <= duration <= own * FASTEST:
            raise ValueError(
                f"duration must lie between {own / FASTEST:.2f} and {own * FASTEST:.2f} seconds for this text, "
                f"which takes {own:.2f} by itself, got {duration:g}"
            )
        given = iter([[seconds * duration / own for seconds in row] for row in natural])
        parts = [
            part
            for batch in batches
            for part in self._parts(
                batch, self._predict(batch, who, seed, 1.0, list(islice(given, len(batch))))
            )
        ]
        return self._exactly(joined(parts), duration)

    def _exactly(self, speech: Speech, seconds: float) -> Speech:
        """The sound as long as it was asked to be; a voice of whole frames misses that by a part of one."""
        if abs(speech.seconds - seconds) > SLACK:
            raise ValueError(
                f"this voice cannot speak the text in {seconds:.2f} seconds, {speech.seconds:.2f} is the nearest: "
                "each state takes one frame at least"
            )
        samples = round(seconds * speech.sample_rate)
        audio = np.pad(speech.audio[:samples], (0, max(0, samples - len(speech.audio))))
        end = samples / speech.sample_rate

        def cut(spans: Sequence[Interval]) -> list[Interval]:
            return [span._replace(start=min(span.start, end), end=min(span.end, end)) for span in spans]

        return speech._replace(audio=audio, phones=cut(speech.phones), words=cut(speech.words))

    @torch.inference_mode()
    def _predict(
        self,
        text: Sequence[Chunk],
        who: Speaker,
        seed: int,
        rate: float,
        seconds: list[list[float]] | None = None,
    ) -> Prediction:
        _check_rate(rate)
        table = self.bundle.facts.symbols

        def padded(rows: Iterable[Sequence[float]], value: float) -> Float[Tensor, "b s"]:
            return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)

        b = len(text)
        return self.bundle.model.synthesize(
            padded((table.encode(chunk.transcript.symbols) for chunk in text), 0).long(),
            torch.tensor([len(chunk.rates) for chunk in text]),
            padded((marks(chunk.transcript) for chunk in text), Mark.PAUSE).long(),
            torch.full((b,), who.number),
            torch.full((b,), who.language_number),
            rate=padded((chunk.rates for chunk in text), 1.0) * rate,
            generator=torch.Generator().manual_seed(seed),
            durations=None if seconds is None else padded(seconds, 0.0),
        )

    def _seconds(self, text: Sequence[Chunk], made: Prediction) -> list[list[float]]:
        return [row[: len(chunk.rates)].tolist() for chunk, row in zip(text, made.durations, strict=True)]

    @torch.inference_mode()
    def _parts(self, text: Sequence[Chunk], made: Prediction) -> list[Speech]:
        """The sound of each chunk, exactly as long as its symbols together."""
        parts = []
        for index, (chunk, seconds) in enumerate(zip(text, self._seconds(text, made), strict=True)):
            mel = self.bundle.facts.mel.inverse(made.mel[index, : made.frames[index]])
            audio = self.vocoder(mel)
            samples = round(sum(seconds) * self.sample_rate)
            audio = pad(audio[:samples], (0, max(0, samples - len(audio))))
            end = samples / self.sample_rate
            edges = [*np.minimum(np.cumsum([0.0, *seconds[:-1]]), end).tolist(), end]
            phones = [
                Interval(symbol, start, end, 1.0)
                for symbol, start, end in zip(chunk.transcript.symbols, edges, edges[1:], strict=False)
            ]
            parts.append(
                Speech(audio.float().numpy(), self.sample_rate, phones, words_of(chunk.transcript, phones))
            )
        return parts


def _check_rate(rate: float) -> None:
    if not 1 / FASTEST <= rate <= FASTEST:
        raise ValueError(f"rate must lie between {1 / FASTEST:g} and {FASTEST:g}, got {rate:g}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
