"""When a batch does not fit: the run stops with advice (exit code 6), or takes the batch in halves, as conf/memory says."""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed

from hmmtts.batch import Batch
from hmmtts.data.loader import Loading
from hmmtts.training.faults import EnvironmentFault
from hmmtts.training.joining import world_size

log = logging.getLogger(__name__)


def advice(loading: Loading) -> str:
    return (
        f"lower data.max_seconds (now {loading.max_seconds:g}) or data.max_items (now {loading.max_items}), or choose "
        "memory=checkpointing or trainer.precision=bf16-mixed"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA has a class for it; the allocator of the CPU only says so."""
    words = ("can't allocate memory", "out of memory", "not enough memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    )


def described(batch: Batch) -> str:
    frames, symbols = int(batch.frames.max()), int(batch.symbols.max())
    return f"[{', '.join(batch.names)}] (T={frames} frames, S={symbols} symbols)"


@contextmanager
def stopping(what: str, batch: Batch, mend: str) -> Iterator[None]:
    """Memory that runs out inside ends the run, by name."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise EnvironmentFault(f"{what} {described(batch)} does not fit in memory: {mend}") from error


def fits(work: Callable[[], None]) -> bool:
    """Whether it fitted on every rank; collective. What it allocated is gone where it did not."""
    fitted = True
    try:
        work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        fitted = False
    if not fitted:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    if world_size() > 1:
        flag = torch.tensor(float(fitted), device=_device())
        distributed.all_reduce(flag, distributed.ReduceOp.MIN)
        return bool(flag)
    return fitted


def average(gradients: list[Tensor]) -> list[Tensor]:
    """Over all ranks; collective."""
    if world_size() == 1:
        return gradients
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    parts = (flat / world_size()).split([gradient.numel() for gradient in gradients])
    return [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)]


def _device() -> torch.device:
    """Where collective operations take place."""
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
