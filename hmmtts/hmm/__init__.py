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
    SemiMarkovDense,
    SemiMarkovLeftToRight,
    dense,
    left_to_right,
    left_to_right_from_logits,
    right_censored,
    semi_markov_dense,
    semi_markov_left_to_right,
    unweighted,
)

__all__ = [
    "Dense",
    "LeftToRight",
    "SemiMarkovDense",
    "SemiMarkovLeftToRight",
    "Viterbi",
    "dense",
    "expected_counts",
    "hard_durations",
    "left_to_right",
    "left_to_right_from_logits",
    "log_likelihood",
    "posteriors",
    "right_censored",
    "sample",
    "semi_markov_dense",
    "semi_markov_left_to_right",
    "soft_durations",
    "unweighted",
    "viterbi",
]
