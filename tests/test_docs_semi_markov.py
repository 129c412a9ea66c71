"""The examples of docs/semi_markov.md run as they are written."""

import re
from pathlib import Path

import torch

PAGE = Path(__file__).resolve().parent.parent / "docs" / "semi_markov.md"


def test_examples_run():
    torch.manual_seed(0)
    text = PAGE.read_text(encoding="utf-8")
    blocks = [
        re.sub(r"^    ", "", block, flags=re.M) for block in re.findall(r"(?:^    .*\n|^\n)+", text, re.M)
    ]
    library, functions = (block for block in blocks if "import torch" in block)
    known: dict = {}
    exec(compile(library, PAGE.name, "exec"), known)
    history = known["nats_per_frame"]
    assert history[-1] > history[0]
    lasting = sorted(known["expected"](known["model"].log_durations()).tolist())
    true = sorted(known["expected"](known["truth"].log_durations()).tolist())
    assert all(abs(a - b) < 1.0 for a, b in zip(lasting, true, strict=True))
    exec(compile(functions, PAGE.name, "exec"), known)
    assert known["topology"].feasible(known["frames"], known["states"]).all()
