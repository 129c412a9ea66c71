"""A training step of the neural HMM beside the per-frame loop of its public implementations; then how fast it speaks.

A step is forward, backward and Adam, of the HMM at its published size; the text's encoder, the same for all, is left
out. Every contender runs on one thread in a process of its own, whose peak memory is counted whole. Seconds are of the
processor: on a busy machine they say what a free one would take. b utterances, t frames, n states.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hmmtts.bench import neural_hmm_speech
from hmmtts.bench.neural_hmm_sizes import BINS, PUBLISHED, TINY, Work, apart
from hmmtts.bench.peers import neural_hmm_loop
from hmmtts.bench.record import Record
from hmmtts.nn.neural_hmm import NeuralHMM

THRESHOLDS = (0.0, 1e-4, 1e-3, 1e-2)
FASTER, SMALLER = 15, 4  # the bars: times the loop's step and peak


class Contender(NamedTuple):
    name: str
    threshold: float = 1e-6
    loop: bool = False
    bf16: bool = False
    flat: bool = (
        False  # the start of a training, where posteriors are wide: a third of the pairs count, not a tenth
    )
    repeats: int = 3


class Measured(NamedTuple):
    seconds: float
    peak_mib: float
    log_likelihood: float


OURS = Contender("ours")
LOOP = Contender("loop_checkpointed", loop=True, repeats=1)
FLAT = Contender("ours", flat=True)
VARIANTS = tuple(Contender(f"ours_threshold_{threshold:g}", threshold) for threshold in THRESHOLDS)


def run(quick: bool, loop: bool, progress: Callable[[str], None]) -> Iterator[Record]:
    work = TINY if quick else PUBLISHED
    contenders = [OURS, LOOP] if loop else [OURS]
    contenders += [*VARIANTS, *([Contender("ours_bf16", bf16=True)] if has_bf16() else [])]
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for contender in contenders:
            progress(f"a step of {contender.name}")
            found[contender] = apart(measure, contender, work, str(gradients_of(folder, contender)))
        errors = {contender: error(folder, contender) for contender in contenders}
    for unit, name, bar in (
        ("s", f"neural_hmm_step_{work.name}", FASTER),
        ("MiB", f"neural_hmm_step_{work.name}_peak_mib", SMALLER),
    ):
        column = "seconds" if unit == "s" else "peak_mib"
        ours = getattr(found[OURS], column)
        for contender, measured in found.items():
            value = getattr(measured, column)
            yield Record(
                name, contender.name, value, unit, value / ours, errors[contender],
                bar=bar if contender.loop and not quick else None,
            )  # fmt: skip
    progress("a step of ours from a flat start")
    flat = apart(measure, FLAT, work, "")
    yield Record(f"neural_hmm_step_flat_start_{work.name}", "ours", flat.seconds, "s", 1.0)
    progress("speech")
    yield from neural_hmm_speech.run(work, quick)


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself; elsewhere it is emulated, slower than fp32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def gradients_of(folder: str, contender: Contender) -> Path:
    return Path(folder, f"{contender.name}.pt")


def error(folder: str, contender: Contender) -> float:
    """Of the gradient, relative (L2), against ours at threshold 0, which is exact."""
    exact = next(variant for variant in VARIANTS if variant.threshold == 0)
    theirs, truth = (
        torch.load(gradients_of(folder, one), weights_only=True).double() for one in (contender, exact)
    )
    return float((theirs - truth).norm() / truth.norm())


def model_of(work: Work, flat: bool = False, threshold: float = 1e-6) -> NeuralHMM:
    """With a last layer that is not zero the posteriors are narrow, as they are through nearly all of a training."""
    torch.manual_seed(0)
    model = NeuralHMM(
        BINS, work.cell, work.prenet, work.memory, work.hidden, dropout=0.0, threshold=threshold
    )
    if not flat:
        nn.init.normal_(model.outputs.last.weight, std=0.02)
    return model


def batch_of(work: Work) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cells, mels that follow the states at their own pace, and lengths down to 70 % of the longest."""
    generator = torch.Generator().manual_seed(0)
    states = torch.linspace(0.7 * work.n, work.n, work.b).long()
    frames = torch.linspace(0.7 * work.t, work.t, work.b).long()
    cells = torch.randn(work.b, work.n, work.cell, generator=generator)
    sounds = torch.randn(work.b, work.n, BINS, generator=generator)
    place = (torch.arange(work.t) * states[:, None] // frames[:, None]).clamp(max=work.n - 1)
    noise = torch.randn(work.b, work.t, BINS, generator=generator)
    x = 0.7 * (sounds.gather(1, place[..., None].expand(-1, -1, BINS)) + noise)
    return cells, x, frames, states


def measure(contender: Contender, work: Work, gradients: str) -> Measured:
    torch.set_num_threads(1)
    model, given = model_of(work, contender.flat, contender.threshold), batch_of(work)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.0)  # every repeat the same step
    log_likelihood = neural_hmm_loop.log_likelihood if contender.loop else NeuralHMM.log_likelihood
    log_likelihood(model, *(part[:1] for part in _short(given)))  # compiles
    taken = []
    for _ in range(contender.repeats):
        start = time.process_time()
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=contender.bf16):
            total = log_likelihood(model, *given)
        (-total.sum() / given[2].sum()).backward()
        optimiser.step()
        taken.append(time.process_time() - start)
    if gradients:
        torch.save(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]), gradients)  # type: ignore[union-attr]
    return Measured(min(taken), peak_mib(), float(total.detach().sum()))


def _short(given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    cells, x, _, _ = given
    ones = torch.ones(len(x), dtype=torch.long)
    return cells[:, :2], x[:, :4], 4 * ones, 2 * ones


def peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
