"""`hmmtts bench hmm`: our HMM kernels beside what else computes the same, in one process and in turns.

The bars are ratios that the kernels were built to reach on two CPU cores (docs/performance.md). A work is named by what
is computed and its sizes: b utterances, t frames, s states in order, k states of a dense model.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from hmmtts.bench import growth
from hmmtts.bench.batches import (
    Answer,
    Batch,
    dense_batch,
    gradient,
    in_float64,
    left_to_right_batch,
    true_best_scores,
    true_gradient,
)
from hmmtts.bench.batches import first as first_utterances
from hmmtts.bench.peers import alignment_search, dense_libraries, jax_scans, own, torch_loops
from hmmtts.bench.race import Contender, Effort, race
from hmmtts.bench.record import Record
from hmmtts.bench.timing import threads
from hmmtts.bench.work import Work, chosen
from hmmtts.hmm import posteriors, viterbi


def run(
    quick: bool, patterns: list[str], announce: Callable[[str], None] = lambda name: None
) -> Iterator[Record]:
    """Measure the works whose name begins with one of the patterns (all, if there is none), on one thread."""
    for work in chosen(works(quick), patterns, "--works"):
        announce(work.name)
        with threads(1):
            # The bars are meant for the full sizes.
            yield from (record._replace(bar=None) if quick else record for record in work.measure())


def works(quick: bool) -> list[Work]:
    effort = Effort(seconds=1, rounds=3) if quick else Effort(seconds=25, rounds=100)
    if quick:
        ltr, dense, many, long = [(2, 20, 5)], (2, 20), [3], (2, 40, 5)
        axes = {"b": [(1, 20, 5), (2, 20, 5)], "t": [(1, 20, 5), (1, 60, 5)], "s": [(1, 60, 5), (1, 60, 10)]}
        spreads, accurate = [1.0, 100.0], (2, 40, 5)
    else:
        ltr, dense, many, long = [(16, 600, 100), (16, 1000, 200)], (16, 500), [10, 50, 200], (16, 4000, 200)
        axes = {
            "b": [(b, 600, 100) for b in (1, 4, 16, 64)],
            "t": [(1, t, 100) for t in (200, 1000, 10_000, 100_000)],
            "s": [(4, 2000, n) for n in (25, 50, 100, 200, 400)],
        }
        spreads, accurate = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0], (4, 600, 150)
    b, t = dense
    middle = many[len(many) // 2]
    return [
        *(Work(f"ltr_grad_{_sizes(*shape)}", partial(_ltr_gradient, shape, effort)) for shape in ltr),
        *(Work(f"ltr_viterbi_{_sizes(*shape)}", partial(_ltr_viterbi, shape, effort)) for shape in ltr),
        *(Work(f"dense_grad_b{b}_t{t}_k{k}", partial(_dense_gradient, (b, t, k), effort)) for k in many),
        Work(
            f"dense_posteriors_b{b}_t{t}_k{middle}",
            partial(_dense_posteriors, (b, t, middle), effort),
        ),
        *(Work(f"growth_{axis}", partial(growth.growth, axis, axes[axis], effort)) for axis in axes),
        Work("memory", partial(growth.memory, *long)),
        *(
            Work(f"two_threads_{_sizes(2 * b, t, n)}", partial(growth.two_threads, 2 * b, t, n, effort))
            for b, t, n in ltr
        ),
        Work("accuracy", partial(growth.accuracy, *accurate, spreads)),
    ]


def _sizes(b: int, t: int, n: int) -> str:
    return f"b{b}_t{t}_s{n}"


def _ltr_gradient(shape: tuple[int, int, int], effort: Effort) -> list[Record]:
    batch = left_to_right_batch(*shape)
    contenders = [
        Contender("ours", own.chosen(gradient)),
        Contender("reference", own.reference(gradient)),
        Contender("gpu", own.gpu(gradient), clock="wall"),
        Contender("ctc_forward_sum", torch_loops.ctc_forward_sum, bar=25),
        Contender("torch_loop", torch_loops.left_to_right, bar=60),
        Contender("jax_banded", jax_scans.banded, bar=4, clock="alone"),
    ]
    return race(f"ltr_grad_{_sizes(*shape)}", batch, contenders, _against(true_gradient(batch)), effort)


def _ltr_viterbi(shape: tuple[int, int, int], effort: Effort) -> list[Record]:
    batch = left_to_right_batch(*shape)
    best = true_best_scores(batch)
    contenders = [
        Contender("ours", own.chosen(_path)),
        Contender("reference", own.reference(_path)),
        Contender("gpu", own.gpu(_path), clock="wall"),
        Contender("monotonic_align", alignment_search.monotonic_align, bar=6),
        Contender("monotonic_alignment_search", alignment_search.monotonic_alignment_search, bar=10),
        Contender("nemo_style", alignment_search.nemo_style, bar=12),
    ]
    return race(
        f"ltr_viterbi_{_sizes(*shape)}", batch, contenders, lambda path: _lost(batch, best, path), effort
    )


def _dense_gradient(shape: tuple[int, int, int], effort: Effort) -> list[Record]:
    batch = dense_batch(*shape)
    task = partial(gradient, by_arcs=True)
    contenders = [
        Contender("ours", own.chosen(task)),
        Contender("reference", own.reference(task)),
        Contender("gpu", own.gpu(task), clock="wall"),
        Contender(
            "dynamax", jax_scans.dynamax_gradient, bar={10: 2, 50: 1.5, 200: 1.2}.get(shape[2]), clock="alone"
        ),
        Contender("torch_loop", torch_loops.dense, bar=4),
        Contender("torch_scaled_loop", torch_loops.dense_scaled, bar=4),
        Contender("pytorch_crf", dense_libraries.pytorch_crf, bar=25),
    ]
    b, t, k = shape
    return race(f"dense_grad_b{b}_t{t}_k{k}", batch, contenders, _against(true_gradient(batch)), effort)


def _dense_posteriors(shape: tuple[int, int, int], effort: Effort) -> list[Record]:
    batch = dense_batch(*shape)
    contenders = [
        Contender("ours", own.chosen(_posteriors)),
        Contender("reference", own.reference(_posteriors)),
        Contender("gpu", own.gpu(_posteriors), clock="wall"),
        Contender("hmmlearn_scaling", dense_libraries.hmmlearn_scaling, bar=9),
        Contender("pomegranate", dense_libraries.pomegranate, bar=40),
        Contender("dynamax", jax_scans.dynamax_posteriors, clock="alone"),
    ]
    b, t, k = shape
    return race(f"dense_posteriors_b{b}_t{t}_k{k}", batch, contenders, _against(true_gradient(batch)), effort)


def _posteriors(batch: Batch) -> Tensor:
    return posteriors(*batch)


def _path(batch: Batch) -> Tensor:
    return viterbi(*batch).path


def _against(truth: Answer) -> Callable[[Answer | Tensor], float]:
    """The largest error of a posterior, which is the gradient by the emissions."""

    def error(answer: Answer | Tensor) -> float:
        posterior = answer.posterior if isinstance(answer, Answer) else answer
        return float((posterior[: len(truth.posterior)].double() - truth.posterior).abs().max())

    return error


def _lost(batch: Batch, best: Tensor, path: Tensor) -> float:
    """How far a path's own score is below the best, relative."""
    one = in_float64(first_utterances(batch, len(best)))
    steps = path[: len(best), :, None].clamp(min=0)
    scores = one.log_obs.gather(2, steps)[:, :, 0]
    real = torch.arange(scores.shape[1]) < one.frames[:, None]
    return float(((scores * real).sum(1) - best).abs().div(best.abs()).max())
