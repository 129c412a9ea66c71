"""The search for a batch size: against a machine that is known to hold so much."""

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from hmmtts.training.find_batch import CLOSE, Tried, advice, search

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["prepare.profile=tiny", "data.max_items=8", "data.workers=0", "features.f0.resolution=1.0"]


def machine(holds: float, most_items: int = 1000):
    def attempt(size: float) -> Tried:
        return Tried(size, size <= holds, int(size), size, min(most_items, int(size)))

    return attempt


@pytest.mark.parametrize("holds", [10.2, 73.0, 640.0])
def test_the_largest_size_is_found_within_a_tenth(holds):
    tries = list(search(machine(holds), least=10.0, most=10_000.0))
    best = max(found.max_seconds for found in tries if found.fitted)
    assert holds / CLOSE <= best <= holds
    assert len(tries) < 14
    assert all(found.fitted == (found.max_seconds <= holds) for found in tries)


def test_it_ends_where_nothing_fits_and_where_nothing_grows():
    assert [found.fitted for found in search(machine(5.0), 10.0, 1000.0)] == [False]
    assert [found.fitted for found in search(machine(1e9, most_items=30), 10.0, 1e6)] == [
        True,
        True,
        True,
        True,
    ]
    assert all(
        found.max_seconds < 100 for found in search(machine(1e9), 10.0, 100.0)
    )  # the corpus has no more


def test_advice_names_what_ends_the_growth():
    def said(holds: float, most_items: int = 1000, least: float = 10.0) -> str:
        return advice(list(search(machine(holds, most_items), least, 300.0)), 30, most_items)

    assert said(73.0).startswith(
        "data.max_seconds=61 fits on each device, with a tenth to spare. This config has 30."
    )
    # The longest utterance must fit, with a tenth to spare or without.
    assert said(10.2).startswith("data.max_seconds=11 ")
    assert "from data.max_seconds=40 on, data.max_items=30 keeps batches from growing" in said(1e9, 30)
    assert said(1e9).startswith("Everything fits: no batch grows beyond data.max_seconds=162.")
    with pytest.raises(
        ValueError, match="not even the longest utterance alone fits: choose memory=checkpointing"
    ):
        said(5.0)


@pytest.mark.process
def test_the_verb_measures_a_real_corpus(tmp_path: Path):
    """With no room, with room for all, and with a limit between what the smallest and the largest batch took."""

    def asked(*arguments: str) -> subprocess.CompletedProcess:
        command = [
            sys.executable,
            "-c",
            "from hmmtts.cli import main; main()",
            "bench",
            "batch",
            "recipe=demo",
        ]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [*command, *SMALL, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=600,
        )  # fmt: skip

    def table(done: subprocess.CompletedProcess) -> tuple[list[bool], list[float], str]:
        assert done.returncode == 0, done.stderr
        limit, _, *rows, last = done.stdout.splitlines()
        assert re.fullmatch(r"a training may take [\d.]+ GiB here; --memory sets another limit", limit)
        return [not row.endswith("too much") for row in rows], [float(row.split()[3]) for row in rows], last

    refused = asked(
        "--memory", "0.01"
    )  # it computes the features, too, which leaves more in memory than reading them
    assert refused.returncode == 2
    assert "hmmtts: not even the longest utterance alone fits" in refused.stderr
    fitted, took, last = table(asked())
    assert all(fitted)
    assert took[-1] > took[0] + 0.03
    # The largest two are of one size: what a process holds is some 0.01 GiB more or less.
    assert all(more > less - 0.02 for less, more in pairwise(took))
    assert last.startswith("Everything fits: ")
    limit = (took[0] + took[-1]) / 2
    fitted, took, last = table(asked("--memory", f"{limit}"))
    assert set(fitted) == {True, False}
    assert all(
        taken <= limit + 0.01 if good else taken >= limit - 0.01
        for good, taken in zip(fitted, took, strict=True)
    )
    assert re.match(
        r"data\.max_seconds=\d+ fits on each device, with a tenth to spare\. This config has 30\.", last
    )
