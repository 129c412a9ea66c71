"""Phones with their times while they are spoken: the text is known, the sound comes in pieces.

    for phone in follow_by(listener, script, pieces, rate=16_000):
        print(phone.label, phone.start, phone.end)

A phone is given out when the best path has left it and `lag` seconds more have been heard, or before where no later sound can
change it: 2 to 5 s give the offline path, 0.3 s nearly so. What a path decides it keeps, so the phones always make the
whole text. c coefficients, n states of the text, s symbols, u frames.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.align import mixtures
from hmmtts.align.aligner import Aligner, symbol_of_place
from hmmtts.align.listening import EMPHASIS, RATE, cepstra, edges
from hmmtts.align.mixtures import Batch
from hmmtts.align.script import BETWEEN, Script
from hmmtts.audio import streaming as sounds
from hmmtts.audio.cepstra import Cepstra
from hmmtts.audio.io import Wave
from hmmtts.audio.mel import LogMel
from hmmtts.hmm import streaming

LAG = 2.0  # seconds
BLOCK = 4  # frames that are computed at once: more are cheaper, and later


class Phone(NamedTuple):
    label: str
    start: float  # seconds
    end: float


class Text(NamedTuple):
    """What is known before any sound comes."""

    model: streaming.Model  # of one stream
    log_obs: Callable[[Float[Tensor, "u c"]], Float[Tensor, "u n"]]
    symbols: list[str]
    owners: list[int]  # the symbol of each state
    edge: Callable[[int], float]  # seconds at which a frame begins


class Place(NamedTuple):
    """How far the sound has come in the text."""

    decoder: streaming.Decoder
    symbol: int  # that is being spoken
    since: float


def begin(text: Text, lag: int) -> Place:
    """`lag` in frames."""
    return Place(streaming.viterbi_start(text.model, lag), text.owners[0], 0.0)


def advance(
    text: Text, place: Place, features: Float[Tensor, "u c"], ended: bool = False
) -> tuple[Place, list[Phone]]:
    """The phones that these frames complete; the last one with the end."""
    blocks = [text.log_obs(block) for block in features.split(BLOCK) if len(block)]
    n = text.model.start.shape[1]
    log_obs = torch.cat(blocks) if blocks else torch.zeros(0, n)
    decoder, found = streaming.viterbi_step(
        text.model, place.decoder, log_obs[None], ended=torch.tensor([ended])
    )
    _, symbol, since = place
    phones = []
    for frame, state in enumerate(found.path[0, : found.frames[0]].tolist(), int(found.first[0])):
        if state < 0:
            raise ValueError(
                f"the sound ends in {text.symbols[symbol]!r}, symbol {symbol + 1} of {len(text.symbols)}: is this its text?"
            )
        if text.owners[state] != symbol:
            phones.append(Phone(text.symbols[symbol], since, text.edge(frame)))
            symbol, since = text.owners[state], text.edge(frame)
    if ended:
        phones.append(Phone(text.symbols[symbol], since, text.edge(int(decoder.frames[0]))))
    return Place(decoder, symbol, since), phones


def follow(
    text: Text,
    extractor: LogMel | Cepstra,
    normalise: Callable[[Float[Tensor, "u c"]], Float[Tensor, "u c"]],
    pieces: Iterable[Wave],
    lag: float,
    close: Callable[[Phone], list[Phone]],
) -> Iterator[Phone]:
    """Sound at the extractor's rate; every phone as soon as it is known. `close` gives the last its end."""
    ears, place = sounds.begin(extractor), begin(text, round(lag / extractor.hop_seconds))
    for piece, ended in with_end(pieces):
        ears, frames = sounds.hear(extractor, ears, piece, ended, BLOCK)
        place, phones = advance(text, place, normalise(frames) if len(frames) else frames, ended)
        yield from phones[:-1] + close(phones[-1]) if ended else phones


def with_end(pieces: Iterable[Wave]) -> Iterator[tuple[Wave, bool]]:
    """That it has ended is known once no piece comes any more."""
    for piece in pieces:
        yield piece, False
    yield np.zeros(0, np.float32), True


def steady(listener: Aligner) -> Aligner:
    """The same listener, who does not centre on the utterance's own mean: that is known only at its end."""
    centring = listener.centring
    return listener._replace(centring=centring._replace(between=np.zeros_like(centring.between)))


def follow_by(
    listener: Aligner, script: Script, pieces: Iterable[Wave], rate: int, lag: float = LAG
) -> Iterator[Phone]:
    """By one listener of a trained panel: what `steady(listener)` says of the whole. Pauses that are not there are left out."""
    listener, samples = steady(listener), 0

    def counted() -> Iterator[Wave]:
        nonlocal samples
        for piece in pieces:
            samples += len(piece)
            yield piece

    def normalise(frames: Float[Tensor, "u c"]) -> Float[Tensor, "u c"]:
        return torch.from_numpy(listener.centring(frames.numpy()))

    extractor = cepstra(listener.listening)
    sound = _prepared(sounds.resampled(counted(), rate, RATE), round(listener.phase * RATE))
    return follow(
        text_of(listener, script),
        extractor,
        normalise,
        sound,
        lag,
        lambda last: [last._replace(end=samples / rate)],
    )


def text_of(listener: Aligner, script: Script) -> Text:
    chain, owners = listener.chain(script), symbol_of_place(listener, script)
    skippable = torch.tensor([[float(script.open_pauses[owner] == BETWEEN) for owner in owners]])
    ids, states = torch.tensor([chain]), torch.tensor([len(chain)])

    def batch(features: Float[Tensor, "u c"]) -> Batch:
        return Batch(features[None], torch.tensor([len(features)]), ids, states, skippable)

    def log_obs(features: Float[Tensor, "u c"]) -> Float[Tensor, "u n"]:
        return mixtures.log_densities(mixtures.component_scores(listener.model, batch(features)))[0]

    def edge(frame: int) -> float:
        return float(edges(np.array([frame]), listener.listening, listener.phase)[0])

    nothing = torch.zeros(0, listener.model.mean.shape[-1])
    model = streaming.prepare(mixtures.chain(listener.model, batch(nothing)))
    return Text(model, log_obs, script.symbols, owners, edge)


def _prepared(pieces: Iterable[Wave], late: int) -> Iterator[Wave]:
    """With emphasis, from sample `late` on: hmmtts.align.listening."""
    before, drop = np.zeros(0, np.float32), late
    for piece in pieces:
        known = np.append(before, piece)
        heard = np.append(known[:1], known[1:] - EMPHASIS * known[:-1]).astype(np.float32)[len(before) :]
        before = known[-1:]
        yield heard[drop:]
        drop = max(0, drop - len(heard))
