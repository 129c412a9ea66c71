"""The program on two processes: R19, uneven data, the same figures as on one, one run folder, torchrun with two agents."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hmmtts.data.manifest import manifests, read_utterances, write_utterances
from hmmtts.data.prepared import STAMP
from hmmtts.training.launch import free_port
from hmmtts.training.prepare import prepare

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = (
    "recipe=demo", "prepare.profile=tiny", "threads=1", "data.workers=0", "data.max_items=2", "encoder.width=16",
    "encoder.layers=1", "decoder.dilations=[1]", "pitch.layers=1", "duration.layers=1", "aligner.encoder.width=16",
    "vocoder.iterations=2", "callbacks.samples=null", "features.acoustic.hop=0.005", "features.f0.resolution=1.0",
    "trainer.accelerator=cpu", "trainer.max_steps=2", "trainer.val_check_interval=2", "optim.optimizer.lr=0.0",
    "trainer.strategy.timeout.seconds=90",
)  # fmt: skip
"""A rate of zero: the validation judges the same weights, whoever trained."""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders to train in: 39 utterances to train on and 17, or one, to validate with; nothing of it divides by two."""
    out = tmp_path_factory.mktemp("places")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out)
        folder = prepare("demo", {"profile": "tiny"}, None).resolve()
    utterances = [utterance for path in manifests(folder).values() for utterance in read_utterances(path)]
    for name, valid in (("seventeen", 17), ("one", 1)):
        made = out / name / "data" / folder.name
        shutil.copytree(folder, made)
        write_utterances(made / "cuts_train.jsonl.gz", utterances[:39])
        write_utterances(made / "cuts_valid.jsonl.gz", utterances[10 : 10 + valid])
        write_utterances(made / "cuts_test.jsonl.gz", utterances[:1])
        stamp = json.loads((made / STAMP).read_text())
        stamp["files"] = {file: (made / file).stat().st_size for file in stamp["files"]}
        (made / STAMP).write_text(json.dumps(stamp))
    return out


def program(place: Path, name: str, *settings: str, starter: tuple[str, ...] = ()) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *starter, str(ROOT / "train.py"), *SETTINGS, f"data.cache_dir={place.parent}/cache", *settings, f"run.name={name}"],
        cwd=place,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def finished(process: subprocess.Popen) -> str:
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr
    return stderr


def figures(folder: Path) -> dict[str, float]:
    """Every figure of the last validation."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    names = [name for name in events.Tags()["scalars"] if name.startswith("valid/")]
    return {name: events.Scalars(name)[-1].value for name in names}


def assert_same(one: dict[str, float], other: dict[str, float]) -> None:
    assert one.keys() == other.keys()
    assert {"valid/loss", "valid/alignment_accuracy", "valid/duration_phones", "valid/leave"} <= one.keys()
    for name, value in one.items():
        assert other[name] == pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True), name


@pytest.mark.process
@pytest.mark.parametrize("place", ["seventeen", "one"])
def test_two_processes_validate_as_one_does(place, places: Path):
    runs = places / place / "runs/demo"
    finished(program(places / place, "single"))
    told = finished(program(places / place, "two", "trainer=ddp"))
    assert_same(figures(runs / "single"), figures(runs / "two"))
    assert "preflight: the worst batches fit" in told
    assert len(list((runs / "two").glob("events*"))) == 1  # the first rank alone writes
    assert {path.name for path in (runs / "two/checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert "39 of 39 files were cached" in (runs / "two/rank=1.log").read_text()


@pytest.mark.process
def test_two_agents_of_torchrun_meet_on_loopback(places: Path):
    """As on two machines, each with a process: torchrun --nnodes=2 ..., trainer.num_nodes=2."""
    port = free_port()
    agents = [
        program(
            places / "seventeen", "nodes", "trainer.num_nodes=2",
            starter=(
                "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", f"--node-rank={node}",
                "--master-addr=127.0.0.1", f"--master-port={port}",
            ),
        )
        for node in (0, 1)
    ]  # fmt: skip
    for agent in agents:
        finished(agent)
    runs = places / "seventeen/runs/demo"
    if not (runs / "single").exists():
        finished(program(places / "seventeen", "single"))
    assert_same(figures(runs / "single"), figures(runs / "nodes"))
