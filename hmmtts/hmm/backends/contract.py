"""What a backend is given and what it returns."""

from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.hmm.topology import Topology


class Problem(NamedTuple):
    """A checked batch: float32 or float64 throughout, on one device, every utterance with frames enough.

    Padding (beyond `frames` and `states`) may hold anything and must not be read.
    """

    log_obs: Float[Tensor, "b t n"]
    topology: Topology
    frames: Int[Tensor, "b"]
    states: Int[Tensor, "b"]


class ForwardBackward(NamedTuple):
    """The likelihood and its gradients: by the emissions the posterior, by the arcs the expected counts.

    Counts have the shape of the arcs, with an axis b in front where the model is shared by the utterances. What was
    not asked for is None.
    """

    log_likelihood: Float[Tensor, "b"]
    posterior: Float[Tensor, "b t n"] | None
    counts: Topology | None


class Viterbi(NamedTuple):
    """The best path and its score. Padding is -1, and so is a path of weight zero; a tie takes the lower state."""

    path: Int[Tensor, "b t"]
    score: Float[Tensor, "b"]


class Backend(Protocol):
    """Results are on the device of the problem; log-likelihoods and scores are float64."""

    name: str

    def log_likelihood(self, problem: Problem) -> Float[Tensor, "b"]: ...

    def forward_backward(self, problem: Problem, counts: bool) -> ForwardBackward: ...

    def viterbi(self, problem: Problem) -> Viterbi: ...


def check_observations(problem: Problem) -> None:
    """NaN or +inf in a real cell is an error that says where; in the padding it is nothing."""
    log_obs, _, frames, states = problem
    bad = ~(log_obs < float("inf"))
    if not bool(bad.any()):
        return
    t = torch.arange(log_obs.shape[1], device=log_obs.device) < frames.to(log_obs.device)[:, None]
    n = torch.arange(log_obs.shape[2], device=log_obs.device) < states.to(log_obs.device)[:, None]
    bad &= t[:, :, None] & n[:, None]
    if bool(bad.any()):
        utterance, frame, state = bad.nonzero()[0].tolist()
        value = float(log_obs.detach()[utterance, frame, state])
        raise ValueError(
            f"log_obs holds {value} in utterance {utterance}, frame {frame}, state {state}; "
            "emissions are log-probabilities, finite or -inf: look for a division by zero or an overflow before them"
        )
