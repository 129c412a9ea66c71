"""log p(x | text) with a gradient that costs only what the posterior says is worth it.

b utterances, t frames, n states, m mel bins, f hidden width of the output net, o = 2m + 1, c pairs of frame and state.

With gamma(t, n) = p(state n at frame t | x) and the expected uses xi of the arcs, Fisher's identity says

    grad log p(x) = sum gamma(t, n) grad log b_t(n) + sum xi(t, n) grad log a_t(n).

So the emissions of all pairs are computed without a graph, forward-backward gives gamma and xi, and the output net
is differentiated in those pairs alone whose gamma exceeds a threshold: a few per cent of them. What is left out is at
most the threshold's share of the frames. A threshold of 0 gives the exact gradient.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hmmtts import hmm
from hmmtts.nn.neural_hmm.outputs import exact, law, log_density

# Hidden activations of one pass, in bytes: on a CPU they are to stay in its cache, a GPU wants large products.
PASS = {"cpu": 2**22, "cuda": 2**28}


class Pairs(NamedTuple):
    """Pairs of frame and state, as rows of tensors [b t ...] and [b n ...] seen as matrices, and of [b t n]."""

    frame: Int[Tensor, "c"]
    cell: Int[Tensor, "c"]
    place: Int[Tensor, "c"]


def pairs(chosen: Bool[Tensor, "b t n"]) -> Pairs:
    _, t, n = chosen.shape
    place = chosen.flatten().nonzero()[:, 0]
    frame = place // n
    return Pairs(frame, frame // t * n + place % n, place)


class Net(NamedTuple):
    """The output net's halves of the first layer, its last layer, and the frames to be explained."""

    of_frames: Float[Tensor, "b t f"]
    of_cells: Float[Tensor, "b n f"]
    weight: Float[Tensor, "o f"]
    bias: Float[Tensor, "o"]
    x: Float[Tensor, "b t m"]

    def at(self, dtype: torch.dtype) -> "Net":
        """With its products in this precision; the frames keep theirs."""
        return Net._make([*(part.to(dtype).contiguous() for part in self[:4]), self.x.contiguous()])

    def hidden(self, some: Pairs) -> Float[Tensor, "c f"]:
        f = self.weight.shape[1]
        h = self.of_frames.view(-1, f).index_select(0, some.frame)
        return h.add_(self.of_cells.view(-1, f).index_select(0, some.cell)).relu_()

    def out(self, hidden: Float[Tensor, "c f"]) -> Float[Tensor, "c o"]:
        return exact(torch.addmm(self.bias, hidden, self.weight.mT))

    def frames(self, some: Pairs) -> Float[Tensor, "c m"]:
        return self.x.view(-1, self.x.shape[2]).index_select(0, some.frame)


def reachable(net: Net, frames: Int[Tensor, "b"], states: Int[Tensor, "b"]) -> Bool[Tensor, "b t n"]:
    """Which state some path from the first to the last can be in at each frame; about half of all."""
    t = torch.arange(net.x.shape[1], device=frames.device)[None, :, None]
    n = torch.arange(net.of_cells.shape[1], device=frames.device)
    frames, states = frames[:, None, None], states[:, None, None]
    return (n <= t) & (n >= states - (frames - t)) & (t < frames) & (n < states)


def passes(net: Net, chosen: Pairs) -> Iterator[slice]:
    """A few pairs at a time."""
    budget = PASS.get(net.x.device.type, PASS["cpu"])
    size = max(1, budget // (net.weight.shape[1] * net.weight.element_size()))
    for start in range(0, len(chosen.place), size):
        yield slice(start, start + size)


def scores(
    net: Net, chosen: Bool[Tensor, "b t n"], floor: float
) -> tuple[Float[Tensor, "b t n"], Float[Tensor, "b t n"]]:
    """log b_t(n) and the logit of leaving, of the chosen pairs; zeros elsewhere, where no path reads them."""
    log_obs = net.x.new_zeros(chosen.numel())
    leave = torch.zeros_like(log_obs)
    every = pairs(chosen)
    for part in passes(net, every):
        some = Pairs(*(index[part] for index in every))
        found = law(net.out(net.hidden(some)), floor)
        log_obs[some.place] = log_density(net.frames(some), found)
        leave[some.place] = found.leave
    return log_obs.view(chosen.shape), leave.view(chosen.shape)


def log_likelihood(
    net: Net, frames: Int[Tensor, "b"], states: Int[Tensor, "b"], floor: float, threshold: float
) -> Float[Tensor, "b"]:
    """Under autocast the products run in its precision; densities, recursion and sums of gradients stay exact."""
    device = net.x.device.type
    autocast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if autocast else net.of_frames.dtype
    with torch.autocast(device, enabled=False):
        if torch.is_grad_enabled():
            return _LogLikelihood.apply(
                *(exact(part) for part in net), frames, states, floor, threshold, dtype
            )
        log_obs, leave = scores(net.at(dtype), reachable(net, frames, states), floor)
        return hmm.log_likelihood(log_obs, hmm.left_to_right_from_logits(leave), frames, states)


class _LogLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(ctx, of_frames, of_cells, weight, bias, x, frames, states, floor, threshold, dtype):
        net = Net(of_frames, of_cells, weight, bias, x).at(dtype)
        chosen = reachable(net, frames, states)
        log_obs, leave = scores(net, chosen, floor)
        with torch.enable_grad():
            log_obs, leave = log_obs.requires_grad_(), leave.requires_grad_()
            result = hmm.log_likelihood(log_obs, hmm.left_to_right_from_logits(leave), frames, states)
            gamma, by_leave = torch.autograd.grad(result.sum(), (log_obs, leave))
        worth = pairs(chosen & (gamma > threshold))  # |by_leave| is at most gamma
        ctx.save_for_backward(*net, gamma.flatten()[worth.place], by_leave.flatten()[worth.place], *worth)
        ctx.floor = floor
        return result.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Float[Tensor, "b"]):
        *parts, gamma, by_leave, frame, cell, place = ctx.saved_tensors
        net, worth = Net(*parts), Pairs(frame, cell, place)
        share = grad.to(gamma.dtype).repeat_interleave(net.x.shape[1])[frame]
        gamma, by_leave = gamma * share, by_leave * share
        into = Net(*(torch.zeros_like(part, dtype=net.x.dtype) for part in net))
        f, bins = net.weight.shape[1], net.x.shape[2]
        for part in passes(net, worth):
            some = Pairs(*(index[part] for index in worth))
            hidden = net.hidden(some)
            out = net.out(hidden)
            by_out = _by_out(out, net.frames(some), gamma[part, None], by_leave[part], ctx.floor)
            into.x.view(-1, bins).index_add_(0, some.frame, by_out[:, :bins], alpha=-1)
            into.bias.add_(by_out.sum(0))
            by_out = by_out.to(hidden.dtype)
            into.weight.add_(by_out.mT @ hidden)
            by_hidden = (by_out @ net.weight).mul_(hidden > 0).to(net.x.dtype)
            into.of_frames.view(-1, f).index_add_(0, some.frame, by_hidden)
            into.of_cells.view(-1, f).index_add_(0, some.cell, by_hidden)
        return *into, None, None, None, None, None


def _by_out(
    out: Float[Tensor, "c o"], x: Float[Tensor, "c m"], gamma: Float[Tensor, "c 1"],
    by_leave: Float[Tensor, "c"], floor: float,
) -> Float[Tensor, "c o"]:  # fmt: skip
    """The gradient of sum gamma log b + sum xi log a by the output of the net."""
    bins = x.shape[1]
    mean, deviation, _ = law(out, floor)
    z = (x - mean) / deviation
    scale = gamma / deviation
    by_mean = scale * z
    by_raw = scale * (z.square() - 1) * torch.sigmoid(out[:, bins : 2 * bins])
    return torch.cat([by_mean, by_raw, by_leave[:, None]], 1)
