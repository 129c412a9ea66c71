"""Streams: frames come in chunks of any size, and what is known so far goes out. b streams, c frames, n states.

    model = prepare(topology, streams=16)
    state = viterbi_start(model, lag=30)
    while ...:
        state, decided = viterbi_step(model, state, log_obs)    # [16, c, n], c = 0 and c = 1 too

Nothing depends on where a chunk begins or ends. Once a stream has ended, smoother and path are those of the whole
(hmmtts.hmm.posteriors and viterbi) as far as the lag reaches: all of it, where the lag covers the stream.
"""

from hmmtts.hmm.streaming.contract import (
    Decoded,
    Decoder,
    Filter,
    Filtered,
    Model,
    Smoothed,
    Smoother,
    join,
    prepare,
    take,
)
from hmmtts.hmm.streaming.inference import (
    filter_start,
    filter_step,
    smoother_start,
    smoother_step,
    viterbi_start,
    viterbi_step,
    with_lag,
)

__all__ = [
    "Decoded",
    "Decoder",
    "Filter",
    "Filtered",
    "Model",
    "Smoothed",
    "Smoother",
    "filter_start",
    "filter_step",
    "join",
    "prepare",
    "smoother_start",
    "smoother_step",
    "take",
    "viterbi_start",
    "viterbi_step",
    "with_lag",
]
