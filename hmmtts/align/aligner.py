"""One listener: a listening at one phase, its states, and what it says about utterances.

Letters: b utterances, u frames, n places of a chain, s symbols of a script.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.align import mixtures
from hmmtts.align.centring import Centring
from hmmtts.align.context import Variant, variants
from hmmtts.align.listening import Listening, edges, frames_at
from hmmtts.align.mixtures import Batch, Mixtures
from hmmtts.align.script import BETWEEN, Inventory, Script
from hmmtts.hmm import posteriors, viterbi

CELLS = 3_000_000  # frames times places times components of a batch: 12 MB an array


class Track(NamedTuple):
    """The features of one utterance and what it says."""

    features: Float[np.ndarray, "u c"]  # centred
    script: Script
    end: float  # seconds


class Aligner(NamedTuple):
    listening: Listening
    phase: float  # seconds by which its frames are late
    inventory: Inventory
    centring: Centring
    model: Mixtures
    numbers: dict[Variant, int]  # of the model's states that know their neighbours; empty: none does
    kinds: Int[Tensor, "m"]

    def chain(self, script: Script) -> list[int]:
        """The state of the model at each place."""
        return [self.numbers.get(variant, variant[0]) for variant in variants(self.inventory, script)]

    def fits(self, track: Track) -> bool:
        """Whether there are frames enough: pauses between words may be left out, but a path must exist."""
        needed = sum(
            len(self.inventory.states(symbol))
            for symbol, is_open in zip(track.script.symbols, track.script.open_pauses, strict=True)
            if is_open != BETWEEN
        )
        return len(track.features) >= needed


class Answer(NamedTuple):
    """What a listener says about one utterance."""

    edges: Float[np.ndarray, "s+1"]  # seconds: the start of every symbol, and the end
    belief: Float[np.ndarray, "u s"]  # probability of every symbol at every frame
    score: float  # nats per frame of the best path


def batches(aligner: Aligner, tracks: Sequence[Track]) -> Iterator[tuple[list[int], Batch]]:
    """Utterances of similar length together; the indices say which."""
    chains = [aligner.chain(track.script) for track in tracks]
    order = sorted(range(len(tracks)), key=lambda i: (len(tracks[i].features), i))
    group: list[int] = []
    places = 0
    for i in order:
        places = max(places, len(chains[i]))
        size = (len(group) + 1) * len(tracks[i].features) * places * aligner.model.mean.shape[1]
        if group and size > CELLS:
            yield group, _padded(aligner, [tracks[j] for j in group], [chains[j] for j in group])
            group, places = [], len(chains[i])
        group.append(i)
    if group:
        yield group, _padded(aligner, [tracks[j] for j in group], [chains[j] for j in group])


def _padded(aligner: Aligner, tracks: list[Track], chains: list[list[int]]) -> Batch:
    frames = torch.tensor([len(track.features) for track in tracks])
    states = torch.tensor([len(chain) for chain in chains])
    features = torch.zeros(len(tracks), int(frames.max()), tracks[0].features.shape[1])
    ids = torch.zeros(len(tracks), int(states.max()), dtype=torch.long)
    skippable = torch.zeros(ids.shape)
    for i, (track, chain) in enumerate(zip(tracks, chains, strict=True)):
        features[i, : len(track.features)] = torch.from_numpy(track.features)
        ids[i, : len(chain)] = torch.tensor(chain)
        owners = symbol_of_place(aligner, track.script)
        skippable[i, : len(chain)] = torch.tensor(
            [float(track.script.open_pauses[owner] == BETWEEN) for owner in owners]
        )
    return Batch(features, frames, ids, states, skippable)


def symbol_of_place(aligner: Aligner, script: Script) -> list[int]:
    return [i for i, symbol in enumerate(script.symbols) for _ in aligner.inventory.states(symbol)]


def answers(aligner: Aligner, tracks: Sequence[Track]) -> list[Answer]:
    """The best path and the posterior of every utterance, in the order given."""
    found: dict[int, Answer] = {}
    for group, batch in batches(aligner, tracks):
        log_obs = mixtures.log_densities(mixtures.component_scores(aligner.model, batch))
        arcs = mixtures.chain(aligner.model, batch)
        best = viterbi(log_obs, arcs, batch.frames, batch.states)
        posterior = posteriors(log_obs, arcs, batch.frames, batch.states)
        for row, i in enumerate(group):
            owners = np.array(symbol_of_place(aligner, tracks[i].script))
            u = int(batch.frames[row])
            found[i] = Answer(
                _edges(aligner, tracks[i], owners[best.path[row, :u].numpy()]),
                _by_symbol(posterior[row, :u, : len(owners)].numpy(), owners),
                float(best.score[row]) / u,
            )
    return [found[i] for i in range(len(tracks))]


def _edges(aligner: Aligner, track: Track, symbol_at: np.ndarray) -> Float[np.ndarray, "s+1"]:
    """The start of a symbol is that of its first frame; one that is left out has no length."""
    firsts = np.searchsorted(symbol_at, np.arange(len(track.script.symbols)))
    starts = edges(firsts, aligner.listening, aligner.phase)
    starts[0] = 0.0
    return np.append(np.clip(starts, 0.0, track.end), track.end)


def _by_symbol(posterior: Float[np.ndarray, "u n"], owners: np.ndarray) -> Float[np.ndarray, "u s"]:
    firsts = np.searchsorted(owners, np.arange(owners[-1] + 1))
    return np.add.reduceat(posterior, firsts, axis=1)


def confidence(
    aligner: Aligner, belief: Float[np.ndarray, "u s"], times: Float[np.ndarray, "s+1"]
) -> Float[np.ndarray, "s"]:
    """The mean probability that the frames between these times belong to their symbol."""
    total = np.concatenate([np.zeros((1, belief.shape[1])), belief.cumsum(0)])
    at = np.clip(np.round(frames_at(times, aligner.listening, aligner.phase)), 0, len(belief)).astype(int)
    at[0], at[-1] = 0, len(belief)
    symbols = np.arange(belief.shape[1])
    first = np.minimum(
        at[:-1], len(belief) - 1
    )  # a symbol shorter than a frame is judged by the frame it falls in
    last = np.maximum(at[1:], first + 1)
    return (total[last, symbols] - total[first, symbols]) / (last - first)
