"""Hours of frames in bounded memory: exact forward-backward and Viterbi of one utterance, piece by piece.

The forward pass keeps alpha at the end of every piece only; the backward pass takes the pieces from the last to the
first and computes the alphas of each once more. Memory: a piece, and one row of states per piece. Emissions are given
as a function of a stretch of frames, so that those of an hour need never exist at once; it is called twice for each
piece. Everything is float64 and the same bits for any size of a piece. t frames, c frames of a piece, n states.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.hmm.backends.contract import Viterbi
from hmmtts.hmm.backends.cpu import long as kernels
from hmmtts.hmm.streaming.contract import NEVER, prepare
from hmmtts.hmm.topology import Dense, LeftToRight

PIECE = 1024  # frames; the least memory for an hour is at 600
Emissions = Float[Tensor, "t n"] | Callable[[int, int], Float[Tensor, "c n"]]


class Piece(NamedTuple):
    first: int  # frame
    posterior: Float[Tensor, "c n"]


class Counted(NamedTuple):
    """The counts have the shapes of hmmtts.hmm.expected_counts, for one utterance."""

    log_likelihood: float
    counts: LeftToRight | Dense


def log_likelihood(
    emissions: Emissions, topology: LeftToRight | Dense, frames: int | None = None, piece: int = PIECE
) -> float:
    """log p(observations) in nats. `frames` is needed where emissions are a function of (first, last), last excluded."""
    return _Long(emissions, topology, frames, piece).forward()


def posteriors(
    emissions: Emissions, topology: LeftToRight | Dense, frames: int | None = None, piece: int = PIECE
) -> Iterator[Piece]:
    """The probability of every state at every frame, given all; the LAST piece first."""
    long = _Long(emissions, topology, frames, piece)
    if long.forward() == NEVER:
        yield from long.impossible()
    else:
        yield from long.backward()


def expected_counts(
    emissions: Emissions,
    topology: LeftToRight | Dense,
    frames: int | None = None,
    piece: int = PIECE,
    visit: Callable[[Piece], None] = lambda piece: None,
) -> Counted:
    """How often each arc is taken. `visit` is given the posteriors on the way, last piece first: one sweep for all."""
    long = _Long(emissions, topology, frames, piece)
    log_z = long.forward()
    for found in long.impossible() if log_z == NEVER else long.backward():
        visit(found)
    return Counted(log_z, long.counts())


def viterbi(
    emissions: Emissions, topology: LeftToRight | Dense, frames: int | None = None, piece: int = PIECE
) -> Viterbi:
    """The best path [1 t] and its score [1]."""
    return _Long(emissions, topology, frames, piece).best()


class _Long:
    """One utterance and what has been found of it."""

    def __init__(
        self, emissions: Emissions, topology: LeftToRight | Dense, frames: int | None, piece: int
    ) -> None:
        if piece < 1:
            raise ValueError(f"piece must be at least 1 frame, got {piece}")
        if isinstance(emissions, Tensor):
            given = emissions
            if frames is not None and frames > len(given):
                raise ValueError(
                    f"frames must be at most {len(given)}, the length of emissions, got {frames}"
                )
            self.of, frames = (lambda first, last: given[first:last]), frames or len(given)
        elif frames is None:
            raise ValueError("frames must be given where emissions are a function of them, got None")
        else:
            self.of = emissions
        if frames < 1:
            raise ValueError(f"frames must be at least 1, got {frames}")
        kernels.make_ready()
        self.topology, self.frames, self.piece = topology, frames, piece
        self.laws = _laws(topology)
        self.n = n = len(self.laws.start)
        self.starts = range(0, frames, piece)
        self.checkpoints = np.full((len(self.starts) + 1, n), NEVER)
        self.counted = kernels.Counts(np.zeros((n, n)), np.zeros((n, n)), np.zeros((3, n)))
        self.at_start, self.at_end = np.zeros(n), np.zeros(n)

    def forward(self) -> float:
        """log Z, and alpha at the end of every piece."""
        log_z = 0.0
        for number, first in enumerate(self.starts):
            taken, alphas = self._alphas(number, self._emissions(first))
            log_z += taken
            self.checkpoints[number + 1] = alphas[-1]
        return log_z + float(np.logaddexp.reduce(self.checkpoints[-1] + self.laws.end))

    def backward(self) -> Iterator[Piece]:
        beta = self.laws.end.copy()
        for number in reversed(range(len(self.starts))):
            first = self.starts[number]
            x = self._emissions(first)
            _, alphas = self._alphas(number, x)
            posterior = np.empty_like(x)
            kernels.backward(*self.laws, x, alphas, first == 0, beta, *self.counted, posterior)
            if number == len(self.starts) - 1:
                self.at_end = posterior[-1].copy()
            self.at_start = posterior[0].copy()
            yield Piece(first, torch.from_numpy(posterior))

    def impossible(self) -> Iterator[Piece]:
        for first in reversed(self.starts):
            last = min(first + self.piece, self.frames)
            yield Piece(first, torch.zeros(last - first, self.n, dtype=torch.float64))

    def counts(self) -> LeftToRight | Dense:
        shares, direct, steps = self.counted
        if isinstance(self.topology, LeftToRight):
            steps = steps.copy()
            steps[1] += self.at_end  # every path leaves the last state once, after the last frame
            found = [torch.from_numpy(row)[None] for row in steps]
            return LeftToRight(found[0], found[1], None if self.topology.skip is None else found[2])
        arcs = torch.from_numpy(shares * self.laws.weights + direct)[None]
        start, end = (torch.from_numpy(row)[None] for row in (self.at_start, self.at_end))
        return Dense(start, arcs, None if self.topology.final is None else end)

    def best(self) -> Viterbi:
        path, score = self._path()
        return Viterbi(path[None], torch.tensor([score], dtype=torch.float64))

    def _path(self) -> tuple[Int[Tensor, "t"], float]:
        delta, score = np.full(self.n, NEVER), 0.0
        unused = np.empty((self.piece, self.n), np.int16)
        for number, first in enumerate(self.starts):
            self.checkpoints[number] = delta
            x = self._emissions(first)
            taken, bad = kernels.best(*self.laws, x, first, delta, unused)
            self._check(x, first, bad)
            score += taken
        ends = delta + self.laws.end
        state = int(ends.argmax())
        score += float(ends[state])
        path = np.full(self.frames, -1)
        if score == NEVER:
            return torch.from_numpy(path), score
        for number in reversed(range(len(self.starts))):
            first = self.starts[number]
            x = self._emissions(first)
            before = np.zeros(x.shape, np.int16)
            kernels.best(*self.laws, x, first, self.checkpoints[number].copy(), before)
            for t in range(len(x) - 1, -1, -1):
                path[first + t] = state
                state = before[t, state]
        return torch.from_numpy(path), score

    def _emissions(self, first: int) -> np.ndarray:
        last = min(first + self.piece, self.frames)
        x = self.of(first, last)
        if x.shape != (last - first, self.n):
            raise ValueError(
                f"emissions of frames {first} to {last} must have the shape {[last - first, self.n]}, got {list(x.shape)}"
            )
        return x.detach().to("cpu", torch.float64).contiguous().numpy()

    def _alphas(self, number: int, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Of the frame before the piece and of all of its own; the log weight taken out of them."""
        alphas = np.empty((len(x) + 1, self.n))
        alphas[0] = self.checkpoints[number]
        taken, bad = kernels.forward(*self.laws, x, self.starts[number], alphas)
        self._check(x, self.starts[number], bad)
        return taken, alphas

    def _check(self, x: np.ndarray, first: int, bad: int) -> None:
        if bad >= 0:
            state = int(np.flatnonzero(~(x[bad] < np.inf))[0])
            raise ValueError(
                f"emissions hold {x[bad, state]} in frame {first + bad}, state {state}; they are log-probabilities, "
                "finite or -inf"
            )


def _laws(topology: LeftToRight | Dense) -> kernels.Laws:
    model = prepare(topology, 1)
    start, end = _row(model.start), _row(model.end)
    if isinstance(model.arcs, LeftToRight):
        steps = np.stack([_row(arc) for arc in model.arcs if arc is not None])
        return kernels.Laws(start, end, False, steps, np.empty((0, 0)), 0.0)
    scores, weights, top = model.arcs
    return kernels.Laws(start, end, True, scores.cpu().numpy(), weights.cpu().numpy(), top)


def _row(rows: Float[Tensor, "1 n"]) -> np.ndarray:
    return rows[0].cpu().contiguous().numpy()
