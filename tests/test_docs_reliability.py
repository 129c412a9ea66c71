"""docs/reliability.md: every promise has a test, and every test that it names exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = [line.split("|") for line in PAGE.splitlines() if re.match(r"\| [RS]\d", line)]
# training/test_kills.py, ::test_of_the_same_file, training/test_slurm.py::TestOfAClass
NAMED = re.compile(r"([\w/]+\.py)?(?:::(\w+))?")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1].strip())
def test_the_tests_that_a_promise_names_exist(row: list[str]):
    source, found = "", 0
    for path, name in NAMED.findall(row[4]):
        if path:
            assert (ROOT / "tests" / path).is_file(), f"tests/{path}"
            source, found = (ROOT / "tests" / path).read_text(encoding="utf-8"), found + 1
        if name:
            assert re.search(rf"^(def|class) {name}\b", source, re.MULTILINE), name
    assert found


def test_no_promise_is_left_out():
    named = {int(number) for row in ROWS for number in re.findall(r"R(\d+)", row[1])}
    assert named >= set(range(1, 32))
