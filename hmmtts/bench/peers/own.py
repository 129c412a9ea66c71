"""Our own backends: the one that is chosen by itself, plain torch, and the GPU's where there is one."""

from collections.abc import Callable
from typing import Any

import torch

from hmmtts.bench.batches import Batch, forced
from hmmtts.bench.race import Run

Task = Callable[[Batch], Any]


def chosen(task: Task) -> Callable[[Batch], Run]:
    return lambda batch: Run(lambda: task(batch), lambda answer: answer)


def reference(task: Task) -> Callable[[Batch], Run]:
    def prepare(batch: Batch) -> Run:
        def call() -> Any:
            with forced("reference"):
                return task(batch)

        return Run(call, lambda answer: answer)

    return prepare


def gpu(task: Task) -> Callable[[Batch], Run]:
    """With the batch on the device and the answer waited for."""

    def prepare(batch: Batch) -> Run:
        if not torch.cuda.is_available():
            raise ImportError("no CUDA device")
        topology = type(batch.topology)._make(arc if arc is None else arc.cuda() for arc in batch.topology)
        there = batch._replace(log_obs=batch.log_obs.cuda(), topology=topology)

        def call() -> Any:
            answer = task(there)
            torch.cuda.synchronize()
            return answer

        return Run(call, _to_cpu)

    return prepare


def _to_cpu(answer: Any) -> Any:
    return answer.cpu() if isinstance(answer, torch.Tensor) else type(answer)(*(x.cpu() for x in answer))
