"""Training on a real SLURM of two nodes: submitted, told to make room, put back, resumed, finished, bit for bit.

The files that SLURM ships decide what happens here: nothing is mocked. `pytest -m slurm -s` prints the times.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hmmtts.build import checkpoint
from tests.slurm.cluster import ROOT, Cluster, Job, slurm_here, until

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(slurm_here.missing() is not None, reason=f"no SLURM: {slurm_here.missing()}"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("slurm")
    began = time.monotonic()
    with slurm_here.running(folder / "daemons", kill_wait=30) as environment:
        told("SLURM of two nodes ready", began)
        yield Cluster(folder / "work", environment)


@pytest.fixture(scope="module")
def whole(cluster: Cluster) -> Path:
    """The run over two nodes that nothing interrupts."""
    began = time.monotonic()
    job = cluster.train("run.name=whole")
    assert job.wait("COMPLETED", "FAILED") == "COMPLETED", cluster.printed(job)
    told("two nodes, corpus and features included", began)
    return cluster.run_folder("whole")


def told(what: str, began: float) -> None:
    print(f"\n{what}: {time.monotonic() - began:.1f} s")


def weights(folder: Path) -> dict:
    content = checkpoint.load(folder / "checkpoints" / "last.ckpt")
    assert content["global_step"] == 12
    return content["state_dict"] | {f"optimizer.{key}": value for key, value in moments(content).items()}


def moments(content: dict) -> dict:
    states = content["optimizer_states"][0]["state"]
    return {f"{number}.{name}": value for number, state in states.items() for name, value in state.items()}


def assert_same(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(second[name])), name


def until_checkpoint(folder: Path) -> None:
    until(lambda: (folder / "checkpoints" / "last.ckpt").exists(), f"a checkpoint in {folder}")


def test_a_job_that_must_make_room_saves_waits_and_goes_on(cluster: Cluster, whole: Path):
    """A job of the partition `urgent` wants both nodes: SLURM signals, our job saves, leaves and is put back."""
    began = time.monotonic()
    low = cluster.train("run.name=displaced")
    until_checkpoint(cluster.run_folder("displaced"))
    told("first checkpoint", began)
    came = time.monotonic()
    options = ["--parsable", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap"]
    urgent = Job(cluster, cluster.ask("sbatch", *options, "sleep 3"))
    urgent.wait("RUNNING", "COMPLETED", patience=600)
    told("the urgent job has the nodes", came)
    low.wait("PENDING", patience=600)
    assert "received SIGUSR1: saved step" in cluster.printed(low)
    urgent.wait("COMPLETED", patience=600)
    low.restart_now()
    low.wait("COMPLETED", "FAILED")
    told("displaced, put back, resumed and finished", began)
    assert low.facts["Restarts"] == "1"
    assert "resumed at step" in cluster.printed(low)
    assert_same(whole, cluster.run_folder("displaced"))


def test_a_sweep_is_a_job_array_whose_jobs_survive_the_signal(cluster: Cluster, whole: Path):
    """-m hydra/launcher=slurm: two values, two jobs of two nodes; the first is told to end ahead of its time limit."""
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    began = time.monotonic()
    submission = cluster.launch("run.name=sweep", "seed=1,2", "hydra.launcher.mem_gb=null")
    try:
        until_checkpoint(cluster.run_folder("sweep") / "0")
        arrays = cluster.ask("squeue", "--noheader", "--array", "--format=%i %j").splitlines()
        assert [line.split("_")[1] for line in sorted(arrays)] == ["0 train", "1 train"]
        first = Job(cluster, sorted(arrays)[0].split()[0])
        first.signal("USR1")
        first.wait("PENDING", patience=600)
        first.restart_now()
        printed, _ = submission.communicate(timeout=1800)
    finally:
        submission.kill()
    told("an array of two, one put back", began)
    assert submission.returncode == 0, printed
    assert "run.name=sweep" in printed
    assert first.facts["Restarts"] == "1"
    (log,) = (cluster.run_folder("sweep") / "slurm").glob(f"{first.id}/*_0_log.out")
    assert "resume with: python train.py -m hydra/launcher=slurm" in log.read_text()
    assert_same(whole, cluster.run_folder("sweep") / "0")
    assert (cluster.run_folder("sweep") / "1" / "metrics.json").is_file()


def test_a_job_that_is_cancelled_saves_and_stays_ended(cluster: Cluster):
    job = cluster.train("run.name=cancelled", "trainer.max_steps=1000")
    until_checkpoint(cluster.run_folder("cancelled"))
    began = time.monotonic()
    cluster.ask("scancel", job.id)
    assert job.wait("CANCELLED", patience=600) == "CANCELLED"
    until(lambda: "SIGTERM: saved step" in cluster.printed(job), "the saving", 60)
    told("saved after scancel", began)
    assert "scontrol requeue" not in cluster.printed(job)
    assert job.facts["Restarts"] == "0"
    assert checkpoint.newest(cluster.run_folder("cancelled") / "checkpoints")[0] is not None


def test_numbers_that_contradict_each_other_are_refused_at_once(cluster: Cluster):
    began = time.monotonic()
    job = cluster.train("run.name=wrong", "trainer.devices=3")
    assert job.wait("FAILED", "COMPLETED", patience=600) == "FAILED"
    told("refused", began)
    assert job.facts["ExitCode"] == "2:0"
    assert "trainer.num_nodes=2 x trainer.devices=3, but SLURM started 2 x 1 processes" in cluster.printed(
        job
    )
    assert not cluster.run_folder("wrong").exists()


def test_features_are_an_array_of_jobs_on_one_cache(cluster: Cluster):
    began = time.monotonic()
    script = str(ROOT / "scripts" / "features.sbatch")
    corpus = ["recipe=demo", "prepare.profile=tiny", "data.cache_dir=features"]
    array = cluster.ask("sbatch", "--parsable", "--array=1-2", "--cpus-per-task=1", script, *corpus)
    for share in (1, 2):
        job = Job(cluster, f"{array}_{share}")
        printed = cluster.folder / f"slurm-features-{array}-{share}.out"
        assert job.wait("COMPLETED", "FAILED") == "COMPLETED", printed.read_text()
        assert f"share {share} of 2: 20 utterances are in features" in printed.read_text()
    assert len(list((cluster.folder / "features").rglob("*.npz"))) == 40
    told("features as an array of two", began)
