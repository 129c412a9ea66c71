"""Where the test corpora are, and the one reason to skip where they are not."""

import os
from pathlib import Path

import pytest

REASON = "no test corpora: set HMMTTS_TEST_DATA"
TEST_DATA = Path(os.environ.get("HMMTTS_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))

needs_data = pytest.mark.skipif(not TEST_DATA.is_dir(), reason=REASON)
