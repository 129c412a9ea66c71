"""Settings of the trainer that do not go together, said before any data is touched."""

import logging

from hmmtts.training.faults import ConfigError

log = logging.getLogger(__name__)

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
STRATEGY = "lightning.pytorch.strategies.DDPStrategy"


def check_trainer(config: dict) -> None:
    trainer = config["trainer"]
    if trainer["precision"] not in PRECISIONS:
        raise ConfigError(
            f"trainer.precision must be one of {', '.join(PRECISIONS)}, got {trainer['precision']!r}: weights, the HMM and "
            "its sums stay in float32 in all of them"
        )
    strategy = trainer["strategy"]
    if not isinstance(strategy, dict) or strategy.get("_target_") != STRATEGY:
        raise ConfigError(
            f"trainer.strategy must stay {STRATEGY}, got {strategy!r}: checkpoints, averages and the check for NaN want the "
            "whole model on every rank; trainer.devices chooses how many (one needs no strategy)"
        )
    clip = trainer["gradient_clip_val"]
    if clip is not None and clip < 0:
        raise ConfigError(f"trainer.gradient_clip_val must be at least 0, which clips nothing, got {clip}")
    half = trainer["precision"] == "16-mixed"
    if half and clip and config["optim"]["optimizer"].get("fused"):
        raise ConfigError(
            "optim.optimizer.fused=true unscales gradients by itself, so that trainer.precision=16-mixed cannot clip them: "
            "take fused=false, trainer.gradient_clip_val=0 or trainer.precision=bf16-mixed"
        )
    if half and on_cpu(trainer["accelerator"]):
        log.warning(
            "trainer.precision=16-mixed: float16 needs a GPU; on a CPU this is bfloat16, as trainer.precision=bf16-mixed"
        )


def on_cpu(accelerator: str) -> bool:
    if accelerator != "auto":
        return accelerator == "cpu"
    import torch  # heavy

    return not torch.cuda.is_available() and not torch.backends.mps.is_available()
