"""All ranks begin the same run: config, data and checkpoint are compared before the first step."""

import hashlib
import json
from collections.abc import Iterable

from lightning.pytorch import Callback, LightningModule, Trainer

from hmmtts.training.faults import EnvironmentFault
from hmmtts.training.joining import gather

# What makes the model and its steps; paths may differ from node to node.
ALIKE = (
    "seed",
    "text",
    "features",
    "model",
    "encoder",
    "aligner",
    "duration",
    "pitch",
    "decoder",
    "loss",
    "optim",
)


class Agreement(Callback):
    """Nodes that see different files would train different models, or wait for each other for ever."""

    def __init__(self, config: dict, step: int, utterances: Iterable[str]) -> None:
        same = {key: config.get(key) for key in ALIKE}
        self.facts = {
            "the step to go on from": str(step),
            "the config": digest(json.dumps(same, sort_keys=True, default=str)),
            "the utterances": digest("\n".join(utterances)),
        }

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        everywhere = gather(self.facts)
        differ = [what for what in self.facts if len({facts[what] for facts in everywhere}) > 1]
        if differ:
            each = "; ".join(
                f"rank {rank}: {', '.join(facts[what] for what in differ)}"
                for rank, facts in enumerate(everywhere)
            )
            raise EnvironmentFault(
                f"the ranks differ in {' and '.join(differ)} ({each}): every node must see the same run folder and the same "
                "prepared corpus; put runs/ and data/ on a file system that all nodes share"
            )


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:8]
