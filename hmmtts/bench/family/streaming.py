"""A chunk of a live stream: 16 streams of a dense model, one frame each, as a recogniser meets them every 10 ms.

A chunk is the smoother at a lag of 20 frames, which contains the filter, and the path at a lag of 50. The value is the 99th percentile over chunks after the lags have filled. Processor time is the measure on a machine that
others use too; `ours_wall` is what a listener waits.
"""

import time
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch

from hmmtts.bench.batches import Batch, dense_batch, first, forced, in_float64
from hmmtts.bench.record import Record
from hmmtts.bench.work import Work
from hmmtts.hmm import posteriors, streaming

STREAMS = 16
BAR = 1.0  # ms
SMOOTHER_LAG, PATH_LAG = 20, 50
CHECKED = 60  # frames whose posteriors are compared with float64


class Percentile(NamedTuple):
    """Milliseconds that 99 of 100 chunks do not exceed."""

    cpu: float
    wall: float


def works(quick: bool) -> list[Work]:
    states, chunks = ([4, 3], 100) if quick else ([50, 8], 3000)
    return [Work("stream_16_p99", partial(measure, states, chunks, None if quick else BAR))]


def measure(states: list[int], chunks: int, bar: float | None) -> Iterator[Record]:
    """`ours` is the first model, the largest; the second has the eight states that the founding documents name."""
    batches = [dense_batch(STREAMS, chunks, k) for k in states]
    ours, smaller = (percentile(batch, chunks) for batch in batches)
    with forced("reference"):
        plain = percentile(batches[0], PATH_LAG + 10)
    of_ours, of_smaller = (error(batch) for batch in batches)
    record = partial(Record, "stream_16_p99")
    yield record("ours", ours.cpu, "ms cpu", 1.0, of_ours, bar)
    yield record("ours_wall", ours.wall, "ms wall", ours.wall / ours.cpu, of_ours)
    yield record(f"ours_k{states[1]}", smaller.cpu, "ms cpu", smaller.cpu / ours.cpu, of_smaller)
    yield record("reference", plain.cpu, "ms cpu", plain.cpu / ours.cpu)


def percentile(batch: Batch, chunks: int) -> Percentile:
    model = streaming.prepare(batch.topology, STREAMS)
    state = (
        streaming.smoother_start(model, SMOOTHER_LAG),
        streaming.viterbi_start(model, PATH_LAG),
    )
    cpu, wall = [], []
    for t in range(chunks):
        frame = batch.log_obs[:, t : t + 1]
        began, busy = time.perf_counter(), time.process_time()
        state = (
            streaming.smoother_step(model, state[0], frame)[0],
            streaming.viterbi_step(model, state[1], frame)[0],
        )
        cpu.append(time.process_time() - busy)
        wall.append(time.perf_counter() - began)
    return Percentile(*(1e3 * torch.tensor(times[PATH_LAG:]).quantile(0.99).item() for times in (cpu, wall)))


def error(batch: Batch) -> float:
    """Of the smoothed posteriors where the lag covers a stream, against the whole in float64."""
    short = first(batch._replace(log_obs=batch.log_obs[:, :CHECKED], frames=batch.frames.clamp(max=CHECKED)))
    with forced("reference"):
        truth = posteriors(*in_float64(short))
    model = streaming.prepare(batch.topology, len(short.frames))
    state = streaming.smoother_start(model, CHECKED)
    over = torch.ones(len(short.frames), dtype=torch.bool)
    _, found = streaming.smoother_step(model, state, short.log_obs, ended=over)
    return float((found.posterior.double() - truth).abs().max())
