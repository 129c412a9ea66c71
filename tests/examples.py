"""On how many examples a property is tried: more in `make test-soak`, which sets HMMTTS_SOAK (1: eighty times as many)."""

import os

from hypothesis import settings

TIMES = max(1.0, 80 * float(os.environ.get("HMMTTS_SOAK", "0")))


def examples(count: int) -> settings:
    return settings(max_examples=round(count * TIMES), deadline=None)
