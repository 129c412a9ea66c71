"""A manifest of a million utterances: the first batch at once, and memory that does not grow."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hmmtts.data.manifest import to_cut
from tests.loader.test_sampler import utterance

STREAM = """
import resource, sys, time
from itertools import islice
from hmmtts.data.sampler import StreamedBatches

def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

start = time.perf_counter()
stream = iter(StreamedBatches(sys.argv[1], max_seconds=60.0))
next(stream)
first = time.perf_counter() - start
drawn = sum(map(len, islice(stream, 400)))
early = megabytes()
drawn += sum(map(len, islice(stream, int(sys.argv[2]))))
print(first, early, megabytes(), drawn)
"""


def million(path: Path, count: int) -> None:
    """Lines made from one cut as a template: writing a million cuts one by one takes minutes."""
    line = json.dumps(to_cut(utterance(0, 4.25)).to_dict())
    assert line.count('"u0"') == 4
    assert line.count("4.25") == 3
    with gzip.open(path, "wt", compresslevel=1) as file:
        for number in range(count):
            file.write(line.replace('"u0"', f'"u{number}"').replace("4.25", str(1 + number % 41 / 8)) + "\n")


@pytest.mark.process
def test_a_million_utterances_stream_in_constant_memory(tmp_path: Path):
    path = tmp_path / "cuts_train.jsonl.gz"
    million(path, 1_000_000)
    program = [sys.executable, "-c", STREAM, str(path), "59000"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=900, check=True)
    first, early, late, drawn = map(float, done.stdout.split())
    print(f"first batch {first:.2f} s, {early:.0f} MB early, {late:.0f} MB after {drawn:.0f} utterances")
    assert drawn > 900_000
    assert first < 10
    assert late < early + 50
