"""Hidden Markov models as pure functions on log-probabilities: no parameters, no state, nothing but mathematics."""

from hmmtts.hmm.backends.contract import Viterbi
from hmmtts.hmm.inference import (
    expected_counts,
    hard_durations,
    log_likelihood,
    posteriors,
    soft_durations,
    viterbi,
)
from hmmtts.hmm.sampling import sample
from hmmtts.hmm.topology import (
    Dense,
    LeftToRight,
    dense,
    left_to_right,
    left_to_right_from_logits,
    unweighted,
)

__all__ = [
    "Dense",
    "LeftToRight",
    "Viterbi",
    "dense",
    "expected_counts",
    "hard_durations",
    "left_to_right",
    "left_to_right_from_logits",
    "log_likelihood",
    "posteriors",
    "sample",
    "soft_durations",
    "unweighted",
    "viterbi",
]
