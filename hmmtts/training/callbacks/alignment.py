"""Alignment health: figures that need no reference, and after every validation a verdict in plain words."""

import logging

from lightning.pytorch import Callback, LightningModule, Trainer

from hmmtts.training.health import verdict
from hmmtts.training.logger import EventLogger
from hmmtts.training.task import Task

log = logging.getLogger(__name__)


class AlignmentHealth(Callback):
    """The figures themselves are logged by the task's judge as valid/..."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Task)
        if trainer.sanity_checking or pl_module.judge is None:
            return
        words = verdict(pl_module.judge.health, pl_module.judge.flat_nats, trainer.global_step)
        pl_module.health = [words]
        if trainer.is_global_zero:
            log.info(words)
            if isinstance(trainer.logger, EventLogger):
                trainer.logger.text("alignment", words, trainer.global_step)
