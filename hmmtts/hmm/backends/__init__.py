"""Which backend answers: the fastest that can, or the one that HMMTTS_BACKEND names."""

import logging
import os
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from hmmtts.hmm.backends import reference, semi_markov
from hmmtts.hmm.backends.contract import Backend, Problem
from hmmtts.hmm.topology import SemiMarkov

log = logging.getLogger(__name__)

FAST = {"cpu": "cpu", "cuda": "gpu"}  # device type -> backend
NAMES = sorted(
    module.name for module in iter_modules(__path__) if module.name not in ("contract", "semi_markov")
)
# Semi-Markov models have modules of their own; on a GPU plain torch answers.
SEMI_MARKOV = {"reference": "semi_markov", "cpu": "cpu.semi_markov", "gpu": "semi_markov"}


def choose(problem: Problem) -> Backend:
    forced = os.environ.get("HMMTTS_BACKEND")
    if forced and forced not in NAMES:
        raise ValueError(f"HMMTTS_BACKEND must be one of {', '.join(NAMES)}, got {forced!r}")
    name = forced or FAST.get(problem.log_obs.device.type, "reference")
    module: str = name
    plain: Backend = reference
    if isinstance(problem.topology, SemiMarkov):
        module, plain = SEMI_MARKOV.get(name, "semi_markov"), semi_markov
        if problem.log_obs.is_cuda:
            _say_that_semi_markov_is_slow()
    return load(module) if forced else _load_or_say_why(module) or plain


@cache
def _say_that_semi_markov_is_slow() -> None:
    log.warning(
        "semi-Markov models have no fast backend for a GPU: plain torch is used, frame by frame; a CPU is faster"
    )


@cache
def load(name: str) -> Backend:
    return import_module(f"{__name__}.{name}")


@cache
def _load_or_say_why(name: str) -> Backend | None:
    try:
        return load(name)
    except ImportError as error:
        log.warning(
            "the fast HMM backend %r is off (%s); plain torch is used, which is far slower", name, error
        )
        return None
