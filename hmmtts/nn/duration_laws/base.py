"""What every law promises, and what follows from it. n states, p free parameters, d durations from shortest to longest."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

STEPS, HALVINGS = 25, 12  # of Newton's method
LONGEST_STEP = 1.0  # in any parameter: all are logarithms, where no law is quadratic far away


class Law(ABC):
    """A family of distributions over whole numbers of frames.

    `free` are real numbers without any constraint, so that every optimiser and every network may set them.
    """

    @abstractmethod
    def start(self, mean: float, d: Float[Tensor, "d"]) -> Float[Tensor, "p"]:
        """Free parameters of a broad distribution that lasts about `mean` frames."""

    @abstractmethod
    def log_weights(self, free: Float[Tensor, "*n p"], d: Float[Tensor, "d"]) -> Float[Tensor, "*n d"]:
        """The logarithm of the density or mass at each d, up to a constant of each state."""

    def fit(
        self, free: Float[Tensor, "*n p"], counts: Float[Tensor, "*n d"], d: Float[Tensor, "d"]
    ) -> Float[Tensor, "*n p"]:
        """The M step of EM: likelier parameters for durations observed so often; states without counts stay."""
        return newton(self, free, counts, d)


def range_of(shortest: int, longest: int) -> Float[Tensor, "d"]:
    if not 1 <= shortest <= longest:
        raise ValueError(
            f"durations must satisfy 1 <= shortest <= longest, got shortest {shortest}, longest {longest}"
        )
    return torch.arange(shortest, longest + 1, dtype=torch.float32)


def log_probabilities(
    law: Law, free: Float[Tensor, "*n p"], shortest: int, longest: int
) -> Float[Tensor, "*n d"]:
    """Normalised over shortest to longest; column i is a duration of i + 1 frames, -inf below the shortest."""
    d = range_of(shortest, longest).to(free)
    inside = law.log_weights(free, d).log_softmax(-1)
    return torch.nn.functional.pad(inside, (shortest - 1, 0), value=float("-inf"))


def maximise(
    law: Law, free: Float[Tensor, "*n p"], counts: Float[Tensor, "*n d"], shortest: int
) -> Float[Tensor, "*n p"]:
    """The law's M step, for counts whose column i is a duration of i + 1 frames."""
    d = range_of(shortest, counts.shape[-1]).to(free.device, torch.float64)
    fitted = law.fit(free.detach().double(), counts[..., shortest - 1 :].detach().double(), d)
    return fitted.to(free.dtype)


def newton(
    law: Law, free: Float[Tensor, "*n p"], counts: Float[Tensor, "*n d"], d: Float[Tensor, "d"]
) -> Float[Tensor, "*n p"]:
    """Newton's steps, each halved until it makes its state's counts likelier, so that EM never loses."""

    def value(free: Tensor) -> Tensor:
        return (counts * law.log_weights(free, d).log_softmax(-1)).sum(-1)

    best = value(free)
    for _ in range(STEPS):
        slope, curvature = _derivatives(value, free)
        eigenvalues, axes = torch.linalg.eigh(-curvature)
        # Uphill whatever the curvature; flat directions are not followed far.
        stiffness = eigenvalues.abs().clamp(min=1e-9)[..., None]
        step = (axes @ ((axes.mT @ slope[..., None]) / stiffness))[..., 0].clamp(-LONGEST_STEP, LONGEST_STEP)
        moved, gained = free, torch.zeros_like(best, dtype=torch.bool)
        for _ in range(HALVINGS):
            trial = value(free + step)
            better = (trial > best) & ~gained
            moved = torch.where(better[..., None], free + step, moved)
            best = torch.where(better, trial, best)
            gained |= better
            step = torch.where(gained[..., None], step, step / 2)
        if torch.equal(moved, free):
            break
        close = bool(((moved - free).abs().amax(-1) < 1e-7).all())
        free = moved
        if close:
            break
    return free


def _derivatives(value, free: Float[Tensor, "*n p"]) -> tuple[Float[Tensor, "*n p"], Float[Tensor, "*n p p"]]:
    """Of each state by its own parameters."""
    with torch.enable_grad():
        leaf = free.detach().requires_grad_()
        (slope,) = torch.autograd.grad(value(leaf).sum(), leaf, create_graph=True)
        rows = [torch.autograd.grad(part.sum(), leaf, retain_graph=True)[0] for part in slope.unbind(-1)]
    return slope.detach(), torch.stack(rows, -2)


def expected(log_probability: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
    """The mean duration, in frames."""
    d = torch.arange(1, log_probability.shape[-1] + 1, device=log_probability.device)
    return (log_probability.exp() * d).sum(-1)


def quantile(
    log_probability: Float[Tensor, "*n d"], share: Float[Tensor, "*n"] | float
) -> Float[Tensor, "*n"]:
    """The smallest duration with P(D <= d) >= share, in frames."""
    below = log_probability.exp().cumsum(-1)
    share = torch.as_tensor(share, dtype=below.dtype, device=below.device)
    # A share of 1 less a rounding error must not lie beyond the longest duration.
    reached = below >= torch.minimum(share[..., None], below[..., -1:])
    return 1 + reached.to(torch.int8).argmax(-1).to(below.dtype)
