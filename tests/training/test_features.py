"""Features ahead of training: shares cover a corpus, and processes that compute them at once leave one good cache."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmmtts.data.cache import load
from hmmtts.training.features import Share
from tests.examples import examples

ROOT = Path(__file__).resolve().parents[2]


@examples(100)
@given(st.integers(0, 200), st.integers(1, 40))
def test_shares_cover_everything_once_in_order(count: int, of: int):
    shares = [Share(number, of)(range(count)) for number in range(1, of + 1)]
    assert [item for share in shares for item in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["3", "0/4", "5/4", "a/b", "1/", "-1/4", "1/2/3"])
def test_a_share_that_is_none_is_refused(text: str):
    with pytest.raises(ValueError, match=r"--shard must be K/N with K from 1 to N, as 3/16, got"):
        Share.parse(text)


@pytest.mark.process
def test_two_at_once_leave_the_cache_that_one_leaves(tmp_path: Path):
    def begin(shard: str, cache: str) -> subprocess.Popen:
        command = [
            sys.executable, "-c", "from hmmtts.cli import main; main()", "features", "--shard", shard, "recipe=demo",
            "prepare.profile=tiny", f"data.cache_dir={cache}", "data.workers=1",
        ]  # fmt: skip
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )  # fmt: skip

    def end(process: subprocess.Popen) -> str:
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0, printed
        return printed

    together = [begin("1/2", "both"), begin("2/2", "both")]  # the corpus too is made by whichever comes first
    for process in together:
        assert "20 utterances are in both" in end(process)
    assert "40 of 40 files were cached" in end(begin("1/1", "both"))
    assert "cache miss: 40 files (not in the cache)" in end(begin("1/1", "alone"))
    entries = sorted((tmp_path / "both").rglob("*.npz"))
    assert len(entries) == 40
    for entry in entries:
        one, other = load(entry), load(tmp_path / "alone" / entry.relative_to(tmp_path / "both"))
        assert one[0] == other[0]
        for first, second in zip(one[1], other[1], strict=True):
            np.testing.assert_array_equal(first, second)
    assert not list((tmp_path / "both").rglob("*.part"))
