"""What a backend is given and what it returns."""

from typing import NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hmmtts.hmm.topology import LeftToRight, Topology


class Problem(NamedTuple):
    """A batch of consistent shapes: float32 or float64 throughout, on one device, every utterance with frames enough.

    Padding (beyond `frames` and `states`) may hold anything and must not be read. That no other value is NaN or +inf,
    a backend checks by the functions below, or in passing, by its kernels.
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


def check_values(problem: Problem) -> None:
    check_arcs(problem)
    check_observations(problem)


def check_observations(problem: Problem) -> None:
    """NaN or +inf in a real cell is an error that says where; in the padding it is nothing."""
    log_obs = problem.log_obs.detach()
    bad = ~(log_obs < float("inf"))
    if not bool(bad.any()):
        return
    bad &= real(problem, log_obs)
    if bool(bad.any()):
        utterance, frame, state = where = bad.nonzero()[0].tolist()
        raise ValueError(
            f"log_obs holds {float(log_obs[tuple(where)])} in utterance {utterance}, frame {frame}, state {state}; "
            "emissions are log-probabilities, finite or -inf: look for a division by zero or an overflow before them"
        )


def check_arcs(problem: Problem) -> None:
    """The same of the arcs."""
    for name, arc in problem.topology._asdict().items():
        if arc is None or float(arc.detach().max()) < float("inf"):  # a maximum passes NaN on
            continue
        arc = arc.detach()
        bad = ~(arc < float("inf"))
        if isinstance(problem.topology, LeftToRight):
            bad &= real(problem, arc)
        if bool(bad.any()):
            where = bad.nonzero()[0].tolist()
            raise ValueError(
                f"{name} holds {float(arc[tuple(where)])} at {where}; arcs are log-probabilities, finite or -inf"
            )


def real(problem: Problem, x: Float[Tensor, "b *t n"]) -> Bool[Tensor, "b *t n"]:
    """Which cells of emissions or of arcs are no padding."""
    n = torch.arange(x.shape[-1], device=x.device) < problem.states.to(x.device)[:, None]
    if x.ndim == 2:
        return n
    t = torch.arange(x.shape[1], device=x.device) < problem.frames.to(x.device)[:, None]
    return t[:, :, None] & n[:, None]
