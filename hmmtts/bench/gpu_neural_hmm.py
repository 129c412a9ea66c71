"""A training step of the neural HMM on a device, in bf16, beside the per-frame loop: time and peak memory.

For scripts/gpu_check.py. The step is that of hmmtts.bench.neural_hmm: forward, backward and Adam of the HMM at its
published size, without the text encoder. b utterances, t frames, n states.
"""

import gc
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch

from hmmtts.bench.neural_hmm import batch_of, model_of
from hmmtts.bench.neural_hmm_sizes import TINY, Work
from hmmtts.bench.peers import neural_hmm_loop
from hmmtts.bench.record import Record
from hmmtts.nn.neural_hmm import NeuralHMM

REAL = Work(32, 800, 260, 1024, 1024, 512, 256)
MIB = 2**20


class Contender(NamedTuple):
    name: str
    loop: bool = False
    bf16: bool = True
    repeats: int = 5


CONTENDERS = (
    Contender("ours"),
    Contender("ours_float32", bf16=False),
    Contender("loop_checkpointed", loop=True, repeats=1),
)


class Step(NamedTuple):
    seconds: float
    peak_mib: float | None  # of the allocator, where it counts
    log_likelihood: float


def run(device: torch.device, quick: bool) -> Iterator[Record]:
    """`error` is that of the log-likelihood, relative, against ours in float32."""
    work = TINY if quick else REAL
    found: dict[Contender, Step | str] = {
        contender: _attempt(contender, work, device) for contender in CONTENDERS
    }
    ours, exact = found[CONTENDERS[0]], found[CONTENDERS[1]]
    for field, unit in (("seconds", "s wall"), ("peak_mib", "MiB")):
        name = f"neural_hmm_step_bf16_{work.name}" + ("_peak_mib" if unit == "MiB" else "")
        for contender, step in found.items():
            if isinstance(step, str):
                yield Record(name, contender.name, None, unit, None, reason=step)
                continue
            value = getattr(step, field)
            if value is None:
                yield Record(
                    name, contender.name, None, unit, None, reason="memory is counted on CUDA devices"
                )
                continue
            ratio = None if isinstance(ours, str) else value / getattr(ours, field)
            error = None if isinstance(exact, str) else abs(step.log_likelihood / exact.log_likelihood - 1)
            yield Record(name, contender.name, value, unit, ratio, error)


def _attempt(contender: Contender, work: Work, device: torch.device) -> Step | str:
    try:
        return measure(contender, work, device)
    except torch.OutOfMemoryError:
        return "does not fit the device's memory"


def measure(contender: Contender, work: Work, device: torch.device) -> Step:
    model = model_of(work).to(device)
    given = tuple(part.to(device) for part in batch_of(work))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.0)  # every repeat the same step
    log_likelihood = neural_hmm_loop.log_likelihood if contender.loop else NeuralHMM.log_likelihood

    def step() -> float:
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=contender.bf16):
            total = log_likelihood(model, *given)
        (-total.sum() / given[2].sum()).backward()
        optimiser.step()
        return float(total.detach().double().sum())  # waits for the device

    if not contender.loop:
        step()  # compiles, and lets the libraries choose their kernels; the loop has nothing to gain that would count
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    taken, value = [], 0.0
    for _ in range(contender.repeats):
        start = time.perf_counter()
        value = step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated(device) / MIB if device.type == "cuda" else None
    return Step(min(taken), peak, value)
