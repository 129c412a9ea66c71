"""The LightningModule: named losses times the weights of the same names, and the figures of a validation."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hmmtts import __version__
from hmmtts.batch import Batch
from hmmtts.build.bundle import Bundle, made_otherwise
from hmmtts.build.checkpoint import FORMAT
from hmmtts.nn.lengths import Mean
from hmmtts.training.joining import Tally, joined
from hmmtts.training.judge import Judge
from hmmtts.training.out_of_memory import stopping

log = logging.getLogger(__name__)

OptimizerFactory = Callable[[list[dict]], Optimizer]


class Task(LightningModule):
    """`model` gives `means(batch) -> {name: Mean}`; a weight of 0 only logs the term, a name without one is an error.

    `pace` multiplies the learning rate of parts of the model, by name. `bundle` is the voice in training, for callbacks
    that let it speak, and what a checkpoint carries besides tensors.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Mapping[str, float],
        optimizer: OptimizerFactory,
        schedule: Callable[[int], float],
        judge: Judge | None = None,
        bundle: Bundle | None = None,
        pace: Mapping[str, float] | None = None,
        mend: str = "take smaller batches",
    ):
        super().__init__()
        self.model = model
        self.weights = dict(weights)
        self.optimizer = optimizer
        self.schedule = schedule
        self.judge = judge
        self.bundle = bundle
        self.pace = dict(pace or {})
        self.health: list[str] = []  # the last verdict on the alignment
        self.batch: Batch  # being trained on
        self.impossible: set[str] = set()  # utterances without an alignment that were met
        self.mend = mend  # what to do when memory runs out
        self.validated: Tally | None = None  # the losses of the validation under way

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.batch = batch
        with stopping("the batch", batch, self.mend):
            return self.logged(self.means(batch), batch)

    def backward(self, loss: Tensor, *args: object, **kwargs: object) -> None:
        with stopping("the batch", self.batch, self.mend):
            loss.backward()

    def logged(self, means: dict[str, Mean], batch: Batch) -> Tensor:
        """The loss as of one process that saw the batches of all ranks; the logged figures are too."""
        self.name_impossible(means, batch)
        joint = joined(means)
        each = {f"train/{name}": value for name, value in joint.whole.items()}
        self.log_dict({**each, "train/loss": self.weighted(joint.whole)}, batch_size=len(batch.names))
        return self.weighted(joint.mine)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        means = self.means(batch)
        self.name_impossible(means, batch)
        self.validated = self.validated or Tally(means)
        self.validated.add(means)
        once = batch.take(batch.counted)
        if self.judge is not None and self.bundle is not None and once.names:
            self.judge.update(self.bundle.model, once)

    def on_validation_epoch_end(self) -> None:
        if self.validated is not None:
            losses = {name: mean.value for name, mean in self.validated.compute(self.device).items()}
            self.log("valid/loss", self.weighted(losses))
            self.log_dict({f"valid/{name}": value for name, value in losses.items()})
            self.validated = None
        if self.judge is not None:
            self.log_dict({f"valid/{name}": value for name, value in self.judge.compute(self.device).items()})
            self.judge.reset()

    def name_impossible(self, means: dict[str, Mean], batch: Batch) -> None:
        """Utterances that the model left out for having fewer frames than states: each is told once."""
        if "impossible" not in means or not int(means["impossible"].total):
            return
        possible = self.model.possible(batch).tolist()  # type: ignore[operator]
        names = {name for name, can in zip(batch.names, possible, strict=True) if name and not can}
        if new := sorted(names - self.impossible):
            self.impossible |= names
            log.warning(
                "%s: fewer frames than states, left out of every loss (%d such utterances so far); shorten "
                "features.acoustic.hop, or take fewer aligner.states_per_symbol", ", ".join(new), len(self.impossible),
            )  # fmt: skip

    def means(self, batch: Batch) -> dict[str, Mean]:
        means = self.model.means(batch)  # type: ignore[operator]
        unknown = means.keys() - self.weights.keys()
        if unknown:
            raise ValueError(
                f"the model has losses without a weight: {', '.join(sorted(unknown))}; "
                f"give each one in loss.weights (now {', '.join(sorted(self.weights))}), 0 to log it only"
            )
        return means

    def weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        """No product by a weight of 0: such a term may be infinite without spoiling the sum."""
        total = sum(self.weights[name] * value for name, value in losses.items() if self.weights[name])
        assert isinstance(total, Tensor), "every loss has weight 0"
        return total

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = self.optimizer(self._groups())
        for group in optimizer.param_groups:
            group["lr"] *= group["pace"]
        schedule = LambdaLR(optimizer, self.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _groups(self) -> list[dict]:
        """The parameters by part of the model, with the multiple of the learning rate that the part takes."""
        parts = dict(self.model.named_children())
        unknown = self.pace.keys() - parts.keys()
        if unknown:
            raise ValueError(
                f"optim.pace names {', '.join(sorted(unknown))}, which the model does not have; "
                f"its parts are {', '.join(parts)}"
            )
        paced: dict[float, list[nn.Parameter]] = {1.0: []}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                paced.setdefault(self.pace.get(name.split(".")[0], 1.0), []).append(parameter)
        return [{"params": params, "pace": pace} for pace, params in paced.items() if params]

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        # Lightning's counters are set from the position (callbacks/position.py), never from their saved states.
        del checkpoint["loops"]
        header = checkpoint.setdefault("hmmtts", {})  # callbacks have added to it already
        header.update(format=FORMAT, version=__version__, step=self.trainer.global_step)
        if self.bundle is not None:
            header.update(config=self.bundle.config, facts=self.bundle.facts.state())

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Lightning loads the weights after this, but would not say whose code they are of: the config of a resumed run is
        the same, the code that builds the model of it may not be.
        """
        try:
            self.load_state_dict(checkpoint["state_dict"])
        except RuntimeError as error:
            raise made_otherwise(Path(str(self.trainer.ckpt_path)), checkpoint["hmmtts"], error) from error

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.log("train/learning_rate", torch.tensor(optimizer.param_groups[0]["lr"]))
