"""Pages whose examples run as they are written, one after another."""

import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.mark.parametrize("page", ["dtw_ctc.md", "hmm.md", "topologies.md"])
def test_examples_run(page):
    torch.manual_seed(0)
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^    .*\n|^\n(?=\n*    ))+", text, re.MULTILINE)
    assert len(blocks) > 1
    known: dict = {}
    for block in blocks:
        exec(compile(re.sub(r"^    ", "", block, flags=re.MULTILINE), page, "exec"), known)


def test_every_feature_is_where_the_table_says():
    rows = [
        line for line in (DOCS / "features.md").read_text(encoding="utf-8").splitlines() if "`hmmtts/" in line
    ]
    assert len(rows) > 25
    for row in rows:
        name, code, tests, examples = (cell.strip() for cell in row.strip("|").split("|"))
        for cell, start in ((code, "hmmtts/"), (tests, "tests/"), (examples, "docs/")):
            paths = re.findall(r"`([^`]+)`", cell)
            assert paths, f"{name}: no {start} path"
            for path in paths:
                assert path.startswith(start), f"{name}: {path}"
                assert (DOCS.parent / path).is_file(), f"{name}: {path} does not exist"
