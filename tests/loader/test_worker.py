"""Loading processes outlive what a scheduler or a terminal sends to every process of a run, and end with it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hmmtts.data.worker import leave_signals_to_the_run

ROOT = Path(__file__).resolve().parents[2]

LOADING = """
import os, signal, sys, time
from torch.utils.data import DataLoader
from hmmtts.data.worker import leave_signals_to_the_run

got = []
for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: got.append(signal.Signals(number).name))
loader = iter(DataLoader(range(40), num_workers=2, worker_init_fn=leave_signals_to_the_run))
seen = [int(next(loader)) for _ in range(3)]
for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    os.killpg(0, number)
    time.sleep(0.2)
    seen.append(int(next(loader)))
seen += [int(batch) for batch in loader]
assert seen == list(range(40)), seen
assert got == ["SIGUSR1", "SIGHUP", "SIGINT", "SIGTERM"], got
print("complete", flush=True)
"""


@pytest.mark.process
def test_a_signal_to_all_processes_of_a_run_costs_no_batch():
    done = subprocess.run(
        [sys.executable, "-c", LOADING], cwd=ROOT, capture_output=True, text=True, timeout=120, start_new_session=True
    )  # fmt: skip
    assert done.stdout == "complete\n", done.stderr


def test_a_second_sigterm_ends_a_worker_that_is_stuck():
    worker = os.fork()
    if worker == 0:
        leave_signals_to_the_run(0)
        while True:
            time.sleep(0.01)
    time.sleep(0.1)
    os.kill(worker, signal.SIGTERM)
    time.sleep(0.1)
    assert os.waitpid(worker, os.WNOHANG) == (0, 0)
    os.kill(worker, signal.SIGTERM)
    _, status = os.waitpid(worker, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
