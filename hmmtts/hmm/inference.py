"""The five questions one asks a hidden Markov model, for any topology, any device and variable lengths.

Letters: b utterances, t frames, n states. `frames` and `states` say what is real; the rest of `log_obs` is padding,
may hold anything, and gets zeros (posteriors) or -1 (paths). Everything is computed in float32 or float64, also
under autocast; half-precision input is widened first.
"""

from operator import ge
from typing import Any, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmmtts.hmm import semi_markov
from hmmtts.hmm.backends import choose
from hmmtts.hmm.backends.contract import Backend, Problem, Viterbi, check_arcs
from hmmtts.hmm.topology import SHARED, LeftToRight, SemiMarkov, Topology

EXACT = (torch.float32, torch.float64)
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def log_likelihood(
    log_obs: Float[Tensor, "b t n"],
    topology: Topology,
    frames: Int[Tensor, "b"],
    states: Int[Tensor, "b"] | None = None,
) -> Float[Tensor, "b"]:
    """log p(observations) in nats, float64, differentiable by emissions and arcs.

    Twice differentiable on the `reference` backend only. An utterance whose every path has weight zero gives -inf
    and zero gradients.
    """
    problem, backend = prepare(log_obs, topology, frames, states)
    if backend.name == "reference":
        return backend.log_likelihood(problem)
    arcs = [arc for arc in problem.topology if arc is not None]
    if torch.is_grad_enabled() and any(x.requires_grad for x in (problem.log_obs, *arcs)):
        return _LogLikelihood.apply(backend, problem, problem.log_obs, *arcs)
    return backend.log_likelihood(problem)


def posteriors(
    log_obs: Float[Tensor, "b t n"],
    topology: Topology,
    frames: Int[Tensor, "b"],
    states: Int[Tensor, "b"] | None = None,
) -> Float[Tensor, "b t n"]:
    """The probability of every state at every frame, given the whole utterance; not differentiable."""
    problem, backend = prepare(log_obs, topology, frames, states, detach=True)
    posterior = backend.forward_backward(problem, counts=False).posterior
    assert posterior is not None
    return posterior


def expected_counts(
    log_obs: Float[Tensor, "b t n"],
    topology: Topology,
    frames: Int[Tensor, "b"],
    states: Int[Tensor, "b"] | None = None,
) -> Topology:
    """How often each arc is taken, on average over the paths: a topology of counts, per utterance.

    A left-to-right arc [b n] gets its sum over the frames, an arc [b t n] its share of every frame; the arcs of a
    dense model, shared by the utterances, get an axis b in front. Counts of durations tell how often a segment lasted
    so long: of a state in a left-to-right model, the posterior of its duration.
    """
    problem, backend = prepare(log_obs, topology, frames, states, detach=True)
    counts = backend.forward_backward(problem, counts=True).counts
    assert counts is not None
    return counts


def viterbi(
    log_obs: Float[Tensor, "b t n"],
    topology: Topology,
    frames: Int[Tensor, "b"],
    states: Int[Tensor, "b"] | None = None,
) -> Viterbi:
    """The best path [b t] and its score [b] (float64). Padding is -1; a tie takes the lower state."""
    problem, backend = prepare(log_obs, topology, frames, states, detach=True)
    return backend.viterbi(problem)


def soft_durations(posterior: Float[Tensor, "b t n"]) -> Float[Tensor, "b n"]:
    """Expected frames in each state."""
    return posterior.sum(1)


def hard_durations(path: Int[Tensor, "b t"], states: int) -> Int[Tensor, "b n"]:
    """Frames of the path in each of `states` states; padding counts nowhere."""
    durations = path.new_zeros(path.shape[0], states + 1)
    durations.scatter_add_(1, torch.where(path < 0, states, path).long(), torch.ones_like(path))
    return durations[:, :states]


class _LogLikelihood(torch.autograd.Function):
    """The one analytic gradient: d log Z / d emission is the posterior, d log Z / d arc the expected count."""

    @staticmethod
    def forward(ctx, backend: Backend, problem: Problem, log_obs, *arcs):
        """The tensors of `problem` are those that follow it, where autograd sees them."""
        result = backend.forward_backward(problem, counts=any(ctx.needs_input_grad[3:]))
        counts = [count for count in result.counts or () if count is not None]
        ctx.save_for_backward(result.posterior, *counts)
        ctx.shared, ctx.arcs = isinstance(problem.topology, SHARED), len(arcs)
        return result.log_likelihood

    @staticmethod
    def backward(ctx, grad: Float[Tensor, "b"]):
        # Only with create_graph is there a second derivative to be refused, which takes time.
        return (_refusing_a_second if torch.is_grad_enabled() else _gradients)(ctx, grad)


def _gradients(ctx, grad: Float[Tensor, "b"]) -> tuple[Tensor | None, ...]:
    posterior, *counts = ctx.saved_tensors
    by_emission = _weighted(posterior, grad) if ctx.needs_input_grad[2] else None
    by_arcs: list[Tensor | None] = [None] * ctx.arcs
    for i, count in enumerate(counts):
        weighted = _weighted(count, grad)
        by_arcs[i] = weighted.sum(0) if ctx.shared else weighted
    return None, None, by_emission, *by_arcs


_refusing_a_second = torch.autograd.function.once_differentiable(_gradients)


def _weighted(x: Float[Tensor, "b ..."], grad: Float[Tensor, "b"]) -> Float[Tensor, "b ..."]:
    """A plain sum of log-likelihoods needs no copy; on a GPU it would be dearer to look than to multiply."""
    if grad.is_cpu and grad.tolist() == [1.0] * len(grad):
        return x
    return x * grad.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


class Prepared(NamedTuple):
    problem: Problem
    backend: Backend


def prepare(
    log_obs: Tensor, topology: Topology, frames: Tensor, states: Tensor | None, detach: bool = False
) -> Prepared:
    _must_be("log_obs", Tensor, log_obs)
    _must_be("topology", Topology, topology)
    if log_obs.ndim != 3 or 0 in log_obs.shape or not log_obs.is_floating_point():
        raise ValueError(
            "log_obs must be floating point [utterances, frames, states] with at least one of each, "
            f"got {log_obs.dtype} {list(log_obs.shape)}"
        )
    b, t, n = log_obs.shape
    frames = _lengths("frames", frames, b, t)
    states = _lengths("states", torch.full((b,), n) if states is None else states, b, n)
    dtype = log_obs.dtype if log_obs.dtype in EXACT else torch.float32
    arcs = []
    for name, arc, shape in zip(topology._fields, topology, _arc_shapes(topology, b, t, n), strict=True):
        if arc is not None or name not in topology._field_defaults:
            _must_be(name, Tensor, arc)
        if arc is not None and arc.shape not in shape:
            raise ValueError(
                f"{name} must have the shape {' or '.join(str(list(s)) for s in shape)}, got {list(arc.shape)}"
            )
        arcs.append(None if arc is None else _widen(arc, dtype, log_obs.device, detach))
    problem = Problem(
        _widen(log_obs, dtype, log_obs.device, detach), type(topology)._make(arcs), frames, states
    )
    if isinstance(topology, SemiMarkov):
        problem = semi_markov.checked(problem)
        return Prepared(problem, choose(problem))
    if isinstance(topology, LeftToRight):
        _check_lengths(problem, topology)
        if any(arc.ndim == 3 for arc in problem.topology if arc is not None):
            problem = problem._replace(topology=_per_frame(problem))
    elif bool((states < n).any()):
        absent = torch.arange(n, device=log_obs.device) >= states.to(log_obs.device)[:, None]
        problem = problem._replace(log_obs=problem.log_obs.masked_fill(absent[:, None], float("-inf")))
    return Prepared(problem, choose(problem))


def _must_be(name: str, kind: Any, x: object) -> None:
    if not isinstance(x, kind):
        kinds = " or ".join(cls.__name__ for cls in get_args(kind) or (kind,))
        raise TypeError(f"{name} must be a {kinds}, got {type(x).__name__}")


def _widen(x: Tensor, dtype: torch.dtype, device: torch.device, detach: bool) -> Tensor:
    x = x.detach() if detach else x
    return x if x.dtype == dtype and x.device == device else x.to(device=device, dtype=dtype)


def _lengths(name: str, lengths: Tensor, b: int, longest: int) -> Int[Tensor, "b"]:
    """Lengths as int64 on the CPU, where the kernels' loops are planned."""
    _must_be(name, Tensor, lengths)
    if lengths.shape != (b,) or lengths.dtype not in WHOLE:
        raise ValueError(
            f"{name} must be {b} integers, one per utterance, got {lengths.dtype} {list(lengths.shape)}"
        )
    if not (lengths.is_cpu and lengths.dtype == torch.int64):
        lengths = lengths.to("cpu", torch.int64)
    values = lengths.tolist()
    if min(values) < 1 or max(values) > longest:
        bad = int(((lengths < 1) | (lengths > longest)).nonzero()[0])
        raise ValueError(
            f"{name} must be between 1 and {longest} (the size of log_obs), got {values[bad]} for utterance {bad}"
        )
    return lengths


def _arc_shapes(topology: Topology, b: int, t: int, n: int) -> list[list[tuple[int, ...]]]:
    if isinstance(topology, LeftToRight):
        return [[(b, n), (b, t, n)]] * 3
    if isinstance(topology, SemiMarkov):
        return semi_markov.shapes(topology, b, n)
    return [[(n,)], [(n, n)], [(n,)]]


def _check_lengths(problem: Problem, topology: LeftToRight) -> None:
    frames, states = problem.frames, problem.states
    if topology.skip is None and all(map(ge, frames.tolist(), states.tolist())):
        return
    fewest = topology.fewest_frames(states).cpu()
    if bool((frames < fewest).any()):
        check_arcs(problem)
        bad = int((frames < fewest).nonzero()[0])
        raise ValueError(
            f"utterance {bad} has {int(frames[bad])} frames for {int(states[bad])} states, which need at least {int(fewest[bad])}: "
            "no path exists; leave it out by topology.feasible(frames, states), use fewer states per symbol or a shorter hop"
        )


def _per_frame(problem: Problem) -> LeftToRight:
    """Where one arc changes from frame to frame, all are given per frame."""
    frames = problem.log_obs.shape[1]
    return LeftToRight._make(
        arc if arc is None or arc.ndim == 3 else arc[:, None].expand(-1, frames, -1)
        for arc in problem.topology
    )
