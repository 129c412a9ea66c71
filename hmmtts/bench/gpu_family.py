"""The models of the family on a GPU, at the shapes that speech toolkits quote: log p of observations with 80 features.

b utterances, t frames, k states, m components, d durations. Wall time, the answer waited for; `cpu` is the same on the host.
What has no kernels for a GPU is a record with a reason.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hmmtts.bench.batches import dense_batch, forced
from hmmtts.bench.neural_hmm import batch_of, model_of
from hmmtts.bench.neural_hmm_sizes import PUBLISHED, Work
from hmmtts.bench.neural_hmm_sizes import TINY as TINY_NEURAL
from hmmtts.bench.record import Record
from hmmtts.bench.timing import interleave
from hmmtts.hmm import streaming
from hmmtts.nn import MixtureHMM, SemiMarkovHMM

FEATURES = 80
NO_SEGMENTS = "semi-Markov models have no kernels for a GPU: plain torch would go frame by frame"
NO_STREAMS = (
    "streams have no kernels for a GPU, where a call costs more than a chunk: they are computed on the host"
)
HOST = torch.device("cpu")
Call = Callable[[], object]


class Shapes(NamedTuple):
    mixture: tuple[int, int, int, int]  # b, t, k, m
    segments: list[tuple[int, int, int, int]]  # b, t, k, d
    stream: tuple[int, int, int]  # b, t, k
    neural: Work
    rounds: int


REAL = Shapes(
    mixture=(32, 1000, 10, 3),
    segments=[(32, 1000, 10, 50), (24, 800, 10, 50)],
    stream=(16, 500, 8),
    neural=PUBLISHED._replace(b=16, t=1000),
    rounds=20,
)
TINY = Shapes((2, 8, 3, 2), [(2, 8, 3, 4)], (2, 8, 3), TINY_NEURAL, 1)


def run(shapes: Shapes, device: torch.device) -> Iterator[Record]:
    """`device` is a GPU, or the CPU under Triton's interpreter."""
    b, t, k, m = shapes.mixture
    mixture = partial(_scored, MixtureHMM(k, FEATURES, m), b, t)
    yield from _time(f"mixture_hmm_b{b}_t{t}_k{k}_m{m}", shapes.rounds, mixture, device)
    yield from _time(
        f"neural_hmm_{shapes.neural.name}", shapes.rounds, partial(_neural, shapes.neural), device
    )
    for b, t, k, d in shapes.segments:
        call = _scored(SemiMarkovHMM(k, FEATURES, d), b, t, HOST)
        yield from _host_only(f"semi_markov_b{b}_t{t}_k{k}_d{d}", shapes.rounds, call, NO_SEGMENTS)
    b, t, k = shapes.stream
    yield from _host_only(f"stream_b{b}_t{t}_k{k}", shapes.rounds, _streamed(b, t, k), NO_STREAMS)


def _scored(model: nn.Module, b: int, t: int, device: torch.device) -> Call:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(b, t, FEATURES, generator=generator).to(device)
    model, frames = model.to(device), torch.full((b,), t)

    @torch.no_grad()
    def call() -> Tensor:
        return model(x, frames)

    return call


def _neural(work: Work, device: torch.device) -> Call:
    model = model_of(work).to(device)
    given = [part.to(device) for part in batch_of(work)]

    @torch.no_grad()
    def call() -> Tensor:
        return model.log_likelihood(*given)

    return call


def _streamed(b: int, t: int, k: int, chunk: int = 10) -> Call:
    """The path at a lag of 50 frames, in chunks of 10."""
    batch = dense_batch(b, t, k)
    model = streaming.prepare(batch.topology, b)

    def call() -> None:
        state = streaming.viterbi_start(model, 50)
        for first in range(0, t, chunk):
            state, _ = streaming.viterbi_step(model, state, batch.log_obs[:, first : first + chunk])

    return call


def _time(
    work: str, rounds: int, prepare: Callable[[torch.device], Call], device: torch.device
) -> Iterator[Record]:
    """One place after the other: both use one model, which is moved."""
    taken = {}
    for name, backend, place in (("ours", "gpu", device), ("cpu", "cpu", HOST)):
        call = prepare(place)

        def waited(call: Call = call) -> None:
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()

        with forced(backend):
            waited()  # also compiles
            taken[name] = interleave({name: waited}, seconds=10, rounds=rounds)[name].wall
    for name, value in taken.items():
        yield Record(work, name, value, "ms wall", value / taken["ours"])


def _host_only(work: str, rounds: int, call: Call, reason: str) -> Iterator[Record]:
    call()
    value = interleave({"cpu": call}, seconds=10, rounds=rounds)["cpu"].wall
    yield Record(work, "ours", None, "ms wall", None, reason=reason)
    yield Record(work, "cpu", value, "ms wall", None)
