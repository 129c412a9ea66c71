"""Laws of duration: how probable it is that a state lasts 1, 2, ... frames. One family per file.

They are part of a semi-Markov model, which sums or maximises over all segmentations. How long a symbol is spoken when
only its text is known is another matter: hmmtts.nn.durations, one of which (semi_markov) speaks by these laws.
"""

from hmmtts.nn.duration_laws.base import Law, expected, log_probabilities, maximise, quantile, range_of
from hmmtts.nn.duration_laws.gamma import Gamma
from hmmtts.nn.duration_laws.gaussian import Gaussian
from hmmtts.nn.duration_laws.negative_binomial import NegativeBinomial
from hmmtts.nn.duration_laws.neural import Predicted
from hmmtts.nn.duration_laws.poisson import Poisson
from hmmtts.nn.duration_laws.table import Table
from hmmtts.nn.duration_laws.weibull import Weibull

__all__ = [
    "Gamma",
    "Gaussian",
    "Law",
    "NegativeBinomial",
    "Poisson",
    "Predicted",
    "Table",
    "Weibull",
    "expected",
    "log_probabilities",
    "maximise",
    "quantile",
    "range_of",
]
