"""A left-to-right HMM as a layer of a network. b utterances, s symbols, n states, d width, u frames, c features."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hmmtts import hmm
from hmmtts.batch import Alignment
from hmmtts.hmm import LeftToRight, SemiMarkovLeftToRight
from hmmtts.nn.duration_laws import Predicted
from hmmtts.nn.emissions import Emission
from hmmtts.nn.recompute import called
from hmmtts.nn.states import States
from hmmtts.nn.transitions import Transitions


class Trellis(NamedTuple):
    """All that the algorithms of hmmtts.hmm need, and the cells that it was made of."""

    cells: Float[Tensor, "b n d"]
    log_obs: Float[Tensor, "b u n"]
    topology: LeftToRight | SemiMarkovLeftToRight
    frames: Int[Tensor, "b"]
    states: Int[Tensor, "b"]

    @property
    def feasible(self) -> Bool[Tensor, "b"]:
        """Where there are frames enough for the states; the functions below take no other utterances."""
        return self.topology.feasible(self.frames, self.states)

    def log_likelihood(self) -> Float[Tensor, "b"]:
        """log p(sound | symbols) in nats, with its exact gradient."""
        return hmm.log_likelihood(self.log_obs, self.topology, self.frames, self.states)

    def posterior(self) -> Float[Tensor, "b u n"]:
        return hmm.posteriors(self.log_obs, self.topology, self.frames, self.states)

    def path(self) -> Int[Tensor, "b u"]:
        return hmm.viterbi(self.log_obs, self.topology, self.frames, self.states).path


class HMMLayer(nn.Module):
    """Encoded symbols and the sound they were spoken as -> the trellis between them.

    It computes in float32 whatever the autocast around it does: a sum of thousands of log-probabilities in half
    precision would be off by whole frames.
    """

    recompute = False  # the emissions' activations: hmmtts.training.memory

    def __init__(self, states: States, emission: Emission, transitions: Transitions | Predicted) -> None:
        super().__init__()
        self.states, self.emission, self.transitions = states, emission, transitions

    def forward(
        self,
        h: Float[Tensor, "b s d"],
        symbols: Int[Tensor, "b"],
        acoustic: Float[Tensor, "b u c"],
        frames: Int[Tensor, "b"],
    ) -> Trellis:
        with torch.autocast(h.device.type, enabled=False):
            cells = self.states(h.float())
            log_obs = called(self.emission, cells, acoustic.float(), recompute=self.recompute)
            return Trellis(cells, log_obs, self.transitions(cells), frames, symbols * self.states.count)

    def align(self, trellis: Trellis) -> Alignment:
        """Posteriors and the best path, of feasible utterances."""
        with torch.no_grad():
            path = trellis.path()
            durations = hmm.hard_durations(path, trellis.log_obs.shape[2])
            return Alignment(
                trellis.log_likelihood(), trellis.posterior(), path, durations.to(trellis.log_obs.dtype)
            )


def spread(posterior: Float[Tensor, "b u n"], cells: Float[Tensor, "b n d"]) -> Float[Tensor, "b u d"]:
    """The aligned features: every frame gets the expectation of its state's vector."""
    return posterior @ cells
