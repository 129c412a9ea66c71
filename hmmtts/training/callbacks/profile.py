"""Where the time of a training step goes: a Chrome trace of a few steps, on one flag."""

import logging
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.profiler import ProfilerActivity

log = logging.getLogger(__name__)


class Profile(Callback):
    """After `warm_up` batches, `steps` are recorded: trace-rank=0.json, for chrome://tracing or ui.perfetto.dev."""

    def __init__(self, steps: int = 0, warm_up: int = 5, memory: bool = False):
        if steps < 0 or warm_up < 1:
            raise ValueError(
                f"steps must be at least 0 and warm_up at least 1, got {steps} and {warm_up}: the first batches compile "
                "and allocate"
            )
        self.steps, self.warm_up, self.memory = steps, warm_up, memory
        self._profiler: torch.profiler.profile | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.steps:
            return
        path = Path(trainer.default_root_dir) / f"trace-rank={trainer.global_rank}.json"

        def save(profiler: torch.profiler.profile) -> None:
            profiler.export_chrome_trace(str(path))
            totals = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=12)
            log.info("%s: %d steps, for chrome://tracing or ui.perfetto.dev\n%s", path, self.steps, totals)

        cuda = [ProfilerActivity.CUDA] if pl_module.device.type == "cuda" else []
        self._profiler = torch.profiler.profile(
            activities=[ProfilerActivity.CPU, *cuda],
            schedule=torch.profiler.schedule(wait=self.warm_up - 1, warmup=1, active=self.steps, repeat=1),
            on_trace_ready=save,
            profile_memory=self.memory,
        )
        self._profiler.start()

    def on_train_batch_end(self, *_: object) -> None:
        if self._profiler is not None:
            self._profiler.step()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._profiler is not None:
            self._profiler.stop()
            self._profiler = None
