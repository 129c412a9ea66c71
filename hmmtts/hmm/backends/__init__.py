"""Which backend answers: the fastest that can, or the one that HMMTTS_BACKEND names."""

import logging
import os
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from hmmtts.hmm.backends import reference
from hmmtts.hmm.backends.contract import Backend, Problem

log = logging.getLogger(__name__)

FAST = {"cpu": "cpu", "cuda": "gpu"}  # device type -> backend
NAMES = sorted(module.name for module in iter_modules(__path__) if module.name != "contract")


def choose(problem: Problem) -> Backend:
    forced = os.environ.get("HMMTTS_BACKEND")
    if forced:
        if forced not in NAMES:
            raise ValueError(f"HMMTTS_BACKEND must be one of {', '.join(NAMES)}, got {forced!r}")
        return load(forced)
    name = FAST.get(problem.log_obs.device.type)
    backend = _load_or_say_why(name) if name else None
    return backend or reference


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
