"""What a race does not show: growth of time and memory with the input, two threads, and exactness.

All on the backend that is chosen for CPU tensors.
"""

import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from hmmtts.bench.batches import (
    Answer,
    Batch,
    first,
    forced,
    gradient,
    in_float64,
    left_to_right_batch,
    spread_batch,
    true_gradient,
)
from hmmtts.bench.peers import torch_loops
from hmmtts.bench.race import Effort
from hmmtts.bench.record import Record
from hmmtts.bench.timing import Times, interleave, threads
from hmmtts.hmm import log_likelihood, posteriors, unweighted

# Time per cell of the largest size over the least: leaving the caches costs something, growing faster than the input
# would cost ten times and more.
LINEAR = 2.0
POSTERIOR_BAR, LOG_Z_BAR = 1e-5, 1e-8


def growth(axis: str, shapes: list[tuple[int, int, int]], effort: Effort) -> list[Record]:
    """Time of a gradient along one axis of [b t n], then the time per cell of the largest size over the least one.

    A cell is a state and frame that lies on some path. Small sizes are dearer per cell, by what a call costs.
    """
    batches = {shape: _full(*shape) for shape in shapes}
    times: dict[tuple[int, int, int], Times] = {}
    for shape, batch in batches.items():

        def call(batch: Batch = batch) -> Answer:
            return gradient(batch)

        call()
        times[shape] = interleave({"ours": call}, effort.seconds, effort.rounds)["ours"]
    records, per_cell = [], []
    for (b, t, n), batch in batches.items():
        value = times[b, t, n].cpu
        per_cell.append(value / (b * n * (t - n + 1)))
        work = f"growth_{axis}_at_b{b}_t{t}_s{n}"
        records.append(Record(work, "ours", value, "ms cpu", 1.0, _log_z_error(batch)))
    low, high = shapes[0], shapes[-1]
    span = f"{low[_AXES[axis]]}_to_{high[_AXES[axis]]}"
    return [
        *records,
        Record(f"growth_{axis}_{span}", "ours", per_cell[-1] / min(per_cell), "x per cell", 1.0, bar=LINEAR),
    ]


_AXES = {"b": 0, "t": 1, "s": 2}


def _full(b: int, t: int, n: int) -> Batch:
    """No lengths: every utterance is as long as the axis."""
    batch = left_to_right_batch(b, t, n)
    return batch._replace(frames=torch.full((b,), t), states=torch.full((b,), n))


def _log_z_error(batch: Batch) -> float:
    one = first(batch, 1)
    found = log_likelihood(*one)
    with torch.no_grad(), forced("reference"):
        truth = log_likelihood(*in_float64(one))
    return relative(found, truth)


def memory(b: int, t: int, n: int) -> list[Record]:
    """Memory of a gradient beyond log_obs, in sizes of log_obs, as a fresh process sees it."""
    work = f"ltr_grad_memory_b{b}_t{t}_s{n}"
    if not sys.platform.startswith("linux"):
        return [Record(work, "ours", None, "x", None, bar=3, reason="read from /proc, which only Linux has")]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        value = pool.apply(_extra_memory, (b, t, n))
    return [Record(work, "ours", value, "x log_obs", 1.0, bar=3)]


def _extra_memory(b: int, t: int, n: int) -> float:
    torch.set_num_threads(1)
    gradient(left_to_right_batch(2, 20, 5))
    log_obs = torch.empty(b, t, n).normal_()
    batch = Batch(log_obs, unweighted(log_obs), torch.full((b,), t), torch.full((b,), n))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark starts anew
    before = _status("VmRSS")
    answer = gradient(batch)
    return (_status("VmHWM") - before) / answer.posterior.nbytes


def _status(field: str) -> int:
    """Bytes, of this process alone: getrusage also remembers the process that started it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def two_threads(b: int, t: int, n: int, effort: Effort) -> list[Record]:
    """The same batch on two threads (ours) and on one; wall time, so the machine must be idle."""
    batch = left_to_right_batch(b, t, n)

    def on(count: int) -> Callable[[], object]:
        def call() -> object:
            if torch.get_num_threads() != count:  # once in a turn: it takes long, and no training does it
                torch.set_num_threads(count)
            return gradient(batch)

        return call

    calls = {"ours": on(2), "ours_one_thread": on(1)}
    with threads(2):  # restored at the end
        for call in calls.values():
            call()
        # A core that idled through the other's turn needs milliseconds to come back to its clock.
        times = interleave(calls, effort.seconds, effort.rounds, turn=100.0)
    ratio = times["ours_one_thread"].wall / times["ours"].wall
    work = f"ltr_grad_two_threads_b{b}_t{t}_s{n}"
    return [
        Record(work, "ours", times["ours"].wall, "ms wall", 1.0),
        Record(work, "ours_one_thread", times["ours_one_thread"].wall, "ms wall", ratio, bar=1.7),
    ]


def accuracy(b: int, t: int, n: int, spreads: list[float]) -> list[Record]:
    """Worst errors against float64 on the same float32 input, beside a loop of torch in float32."""
    records = []
    for spread in spreads:
        batch = spread_batch(b, t, n, spread)
        truth = true_gradient(batch)
        answers = {
            "ours": Answer(log_likelihood(*batch), posteriors(*batch)),
            "torch_loop": torch_loops.left_to_right(batch).call(),
        }
        for quantity, unit, bar, error in (
            ("posterior", "max abs", POSTERIOR_BAR, posterior_error),
            ("log_z", "relative", LOG_Z_BAR, log_z_error),
        ):
            errors = {name: error(answer, truth) for name, answer in answers.items()}
            work = f"ltr_{quantity}_error_spread{spread:g}"
            records.append(Record(work, "ours", errors["ours"], unit, 1.0, errors["ours"], bar))
            # An error of exactly zero on our side has no ratio.
            ratio = errors["torch_loop"] / errors["ours"] if errors["ours"] else None
            reason = None if errors["ours"] else "ours is exact"
            records.append(
                Record(
                    work, "torch_loop", errors["torch_loop"], unit, ratio, errors["torch_loop"], reason=reason
                )
            )
    return records


def posterior_error(answer: Answer, truth: Answer) -> float:
    return float((answer.posterior[: len(truth.posterior)].double() - truth.posterior).abs().max())


def log_z_error(answer: Answer, truth: Answer) -> float:
    return relative(answer.log_likelihood[: len(truth.log_likelihood)], truth.log_likelihood)


def relative(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float(((found.double() - truth) / truth).abs().max())
