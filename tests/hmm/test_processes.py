"""Kernels in forked and spawned workers, from several threads, without a warm cache, with a read-only home."""

import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from hmmtts.hmm import log_likelihood, unweighted, viterbi

ROOT = Path(__file__).resolve().parents[2]


def score(seed: int) -> tuple[float, int]:
    log_obs = torch.randn(6, 400, 60, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    frames = torch.full((6,), 400)
    log_z = log_likelihood(log_obs, unweighted(log_obs), frames)
    log_z.sum().backward()
    return float(log_z.detach().sum()), int(viterbi(log_obs, unweighted(log_obs), frames).path.sum())


class Scores(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> tuple[float, int]:
        return score(i)


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.process)])
def test_in_the_parent_and_then_in_workers(start):
    expected = [score(i) for i in range(4)]
    loader = DataLoader(
        Scores(), num_workers=2, batch_size=None, multiprocessing_context=multiprocessing.get_context(start)
    )
    assert [(float(a), int(b)) for a, b in loader] == expected


def test_from_four_threads_at_once():
    expected = [score(i) for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(score, range(8))) == expected


CHILD = """
import logging, sys, time
logging.basicConfig(level=logging.WARNING)
import hmmtts, torch
from hmmtts.hmm import log_likelihood, unweighted
x = torch.zeros(1, 20, 5)
start = time.process_time()
print(float(log_likelihood(x, unweighted(x), torch.tensor([20]))))
print(time.process_time() - start, torch.get_num_threads(), hmmtts.__file__)
"""


def child(root: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", CHILD],
        cwd=root,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_warm_cache_answers_at_once(tmp_path):
    """Another checkout of the same source, or a reinstallation, too: other paths, other times of change."""
    score(0)
    shutil.copytree(ROOT / "hmmtts", tmp_path / "hmmtts", copy_function=shutil.copyfile)
    result = child(tmp_path, OMP_NUM_THREADS="1", PYTHONPATH=str(tmp_path), NUMBA_DEBUG_CACHE="1")
    assert result.returncode == 0, result.stderr
    assert "compiling" not in result.stderr
    of_cache = [line for line in result.stdout.splitlines() if line.startswith("[cache]")]
    assert any("data loaded" in line for line in of_cache)
    assert not any("data saved" in line for line in of_cache)
    value, facts = (line for line in result.stdout.splitlines() if line not in of_cache)
    seconds, threads, source = facts.split()
    assert float(value) == pytest.approx(8.2628, abs=1e-3)  # log C(19, 4), the number of paths
    assert float(seconds) < 2  # of the processor: the machine may have other work
    assert threads == "1"
    assert Path(source).is_relative_to(tmp_path)  # it is the copy that ran


@pytest.mark.process
def test_many_cold_starts_compile_once(tmp_path):
    """As the ranks of one job do: one compiles, the others wait, each says at most one line."""
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: child(HMMTTS_CACHE=str(tmp_path)), range(3)))
    assert [r.returncode for r in results] == [0] * 3, results
    assert len({r.stdout.splitlines()[0] for r in results}) == 1
    assert sum(r.stderr.count("compiling kernels once") for r in results) == 1


@pytest.mark.process
def test_a_home_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()  # a folder cannot be made below a file, whoever asks
    result = child(HMMTTS_CACHE=str(blocked / "cache"), TMPDIR=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / f"hmmtts-{os.getuid()}" / "kernels").is_dir()


def rank_main(rank: int, store: str, results: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    value = torch.tensor([score(0)[0]], dtype=torch.float64)
    both = [torch.zeros_like(value) for _ in range(2)]
    torch.distributed.all_gather(both, value)
    torch.distributed.destroy_process_group()
    if rank == 0:
        Path(results).write_text(" ".join(str(float(x)) for x in both))


@pytest.mark.process
def test_under_two_gloo_ranks(tmp_path):
    expected = score(0)[0]
    torch.multiprocessing.spawn(rank_main, (str(tmp_path / "store"), str(tmp_path / "results")), nprocs=2)
    assert [float(x) for x in (tmp_path / "results").read_text().split()] == [expected, expected]
