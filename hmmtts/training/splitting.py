"""A batch that does not fit is taken in parts: memory.out_of_memory=split.

The gradient stays that of the whole batch on all ranks. Gradients are found apart from the parameters and averaged over
the ranks at the end of the backward pass, not while it runs: a rank that fell out of it would leave the others waiting.
"""

import logging

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from hmmtts.batch import Batch
from hmmtts.nn.lengths import Mean
from hmmtts.training.faults import EnvironmentFault
from hmmtts.training.joining import gather, shares
from hmmtts.training.out_of_memory import average, described, fits
from hmmtts.training.task import Task
from hmmtts.training.trial import split

log = logging.getLogger(__name__)


class SplittingTask(Task):
    root: Tensor | None = None  # of the graph; held by nobody else, so that it can be given up
    leaf: Tensor  # the loss as the trainer sees it

    def on_train_start(self) -> None:
        model = self.trainer.strategy.model
        if isinstance(model, DistributedDataParallel):
            model.require_backward_grad_sync = False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.batch, found = batch, []

        def forward() -> None:
            found.append(self.means(batch))

        if fits(forward):
            self.root = self.logged(found.pop(), batch)
            self.leaf = self.root.detach().requires_grad_()
        else:
            self.root, self.leaf = None, torch.zeros((), device=self.device, requires_grad=True)
        return self.leaf

    def backward(self, loss: Tensor, *args: object, **kwargs: object) -> None:
        """`loss` is the leaf times whatever accumulation and loss scaling make of it."""
        (factor,) = torch.autograd.grad(loss, self.leaf)
        root, self.root = self.root, None
        gradients: list[Tensor] = []

        def whole() -> None:
            assert root is not None
            gradients.extend(self._gradients(root * factor))

        if root is None or not fits(whole):
            root = None
            gradients = self._in_parts(factor)
        for parameter, gradient in zip(self._trained(), average(gradients), strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    def _in_parts(self, factor: Tensor) -> list[Tensor]:
        """In two, four, ... parts, as many as it takes on the rank that has least room."""
        # This batch is counted already.
        counters = {name: value.clone() for name, value in self.named_buffers()}
        described_everywhere, parts = gather((described(self.batch), len(self.batch.names))), 1
        words = "; ".join(f"rank {rank}: {what}" for rank, (what, _) in enumerate(described_everywhere))
        while parts < max(size for _, size in described_everywhere):
            parts *= 2
            log.warning(
                "step %d: memory ran out: the batch is taken in %d parts: %s", self.trainer.global_step + 1, parts, words
            )  # fmt: skip
            gradients = self._of(split(self.batch, parts), factor)
            if gradients:
                with torch.no_grad():
                    for name, value in self.named_buffers():
                        value.copy_(counters[name])
                return gradients
        raise EnvironmentFault(f"memory runs out even with one utterance at a time: {words}: {self.mend}")

    def _of(self, parts: list[Batch], factor: Tensor) -> list[Tensor]:
        """Nothing where it did not fit. The parts are counted first: each is a share of what all ranks have."""
        precision = self.trainer.precision_plugin
        found: list[dict[str, Mean]] = []
        gradients: list[Tensor] = []

        def count() -> None:
            with torch.no_grad(), precision.forward_context():
                found.extend(self.means(part) for part in parts)

        def differentiate() -> None:
            for part in parts:
                with precision.forward_context():
                    mine = {
                        name: (mean.total * share[name]).float() for name, mean in self.means(part).items()
                    }
                    value = self.weighted(mine) * factor
                added = self._gradients(value)
                gradients[:] = [a + b for a, b in zip(gradients, added, strict=True)] if gradients else added

        if not fits(count):
            return []
        together = {name: added([means[name] for means in found]) for name in found[0]}
        share = shares(together)
        return gradients if fits(differentiate) else []

    def _trained(self) -> list[Tensor]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def _gradients(self, value: Tensor) -> list[Tensor]:
        trained = self._trained()
        found = torch.autograd.grad(value, trained, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(trained, found, strict=True)]


def added(means: list[Mean]) -> Mean:
    return Mean(
        torch.stack([mean.total for mean in means]).sum(), torch.stack([mean.number for mean in means]).sum()
    )
