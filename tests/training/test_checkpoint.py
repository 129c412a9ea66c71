"""Files: whole or not at all, damage found and named, nothing but plain data believed."""

import functools
import io
import math
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from hmmtts.build import checkpoint
from hmmtts.build.checkpoint import CheckpointError
from hmmtts.training.checkpoint_io import AtomicCheckpointIO
from tests.training.state import assert_same, final_state
from tests.training.test_resume import Kill, KillAt
from tests.training.toy import train

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = Path(__file__).parent / "checkpoint_format_1.ckpt"


def content(step: int, size: int = 2000) -> dict:
    return {
        "hmmtts": {"format": 1, "step": step, "batches": step},
        "state_dict": {"w": torch.full((size,), float(step))},
    }


@pytest.fixture
def good(tmp_path: Path) -> Path:
    checkpoint.save(content(40), tmp_path / "step=40.ckpt")
    return tmp_path / "step=40.ckpt"


DAMAGE = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "tail short": lambda data: data[:-64],
    "zero tail": lambda data: data[:-300] + bytes(300),
    "text": lambda data: b"not a checkpoint\n",
    "page": lambda data: b"<!doctype html><title>404</title>",
    "pointer": lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(kind: str, good: Path):
    good.write_bytes(DAMAGE[kind](good.read_bytes()))
    with pytest.raises(CheckpointError, match=r"step=40\.ckpt is damaged or no checkpoint"):
        checkpoint.load(good)


def test_one_flipped_bit_is_found_and_its_record_named(good: Path):
    with zipfile.ZipFile(good) as archive:
        record = next(info for info in archive.infolist() if info.filename.endswith("data/0"))
    data = bytearray(good.read_bytes())
    data[record.header_offset + 500] ^= 1
    good.write_bytes(data)
    torch.load(good, weights_only=True)  # torch itself does not notice
    with pytest.raises(CheckpointError, match="checksum of 'data/0' differs"):
        checkpoint.load(good)


def test_no_flipped_bit_is_believed(tmp_path: Path):
    """A bit of every fifth byte of a small checkpoint in turn: it is refused, or the flip lay where nothing is read."""
    path = tmp_path / "a.ckpt"
    checkpoint.save(content(1, size=10), path)
    whole, good = checkpoint.load(path), path.read_bytes()
    refused = 0
    for place in range(random.Random(0).randrange(5), len(good), 5):
        path.write_bytes(good[:place] + bytes([good[place] ^ (1 << place % 8)]) + good[place + 1 :])
        found = checkpoint.newest(tmp_path)
        assert (found.path is None) == bool(found.rejected)
        if found.path is None:
            refused += 1
        else:
            assert_same(checkpoint.load(path), whole)
    assert refused > len(good) / 15


def test_the_newest_good_one_is_used_whatever_the_clock_said(good: Path):
    folder = good.parent
    for step in (10, 20, 30):
        checkpoint.save(content(step), folder / f"step={step}.ckpt")
    os.utime(folder / "step=10.ckpt", (2e9, 2e9))  # dated 2033
    good.write_bytes(good.read_bytes()[:-1])
    path, rejected = checkpoint.newest(folder)
    assert path == folder / "step=30.ckpt"
    assert len(rejected) == 1
    assert "step=40.ckpt is damaged" in rejected[0]


def test_what_cannot_be_loaded_is_refused_when_it_is_saved(tmp_path: Path):
    wrong = content(1) | {"callbacks": {"x": [functools.partial(print)]}}
    with pytest.raises(
        CheckpointError, match=r"checkpoint\['callbacks'\]\['x'\]\[0\] is a functools.partial"
    ):
        checkpoint.save(wrong, tmp_path / "a.ckpt")
    assert not list(tmp_path.iterdir())


class Payload:
    """An object whose pickle calls a function with arguments when it is loaded."""

    def __init__(self, function: object, *arguments: object):
        self.call = function, arguments

    def __reduce__(self) -> object:
        return self.call


def payloads(canary: Path) -> dict[str, object]:
    """Each would make the canary if it were loaded."""
    touch = f"open({str(canary)!r}, 'w')"
    inner = io.BytesIO()
    torch.save(Payload(os.system, f"touch {canary}"), inner)
    return {
        "posix.system": Payload(os.system, f"touch {canary}"),
        "builtins.eval": Payload(eval, touch),
        "torch.storage._load_from_bytes": Payload(torch.storage._load_from_bytes, inner.getvalue()),
        "functools.partial": functools.partial(open, canary, "w"),
        "pathlib.Path.touch": Payload(Path.touch, canary),
        "torch.serialization.load": Payload(torch.load, canary),
    }


@pytest.mark.parametrize("kind", payloads(Path("canary")))
def test_code_in_a_checkpoint_is_refused_and_does_not_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    canary = tmp_path / "canary"
    path = tmp_path / "step=9.ckpt"
    torch.save(content(9) | {"hyper_parameters": payloads(canary)[kind]}, path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # turns torch's default off, not ours
    for read in (checkpoint.load, checkpoint.header):
        with pytest.raises(CheckpointError, match=r"refusing .*step=9\.ckpt"):
            read(path)
    assert checkpoint.newest(tmp_path).path is None
    assert not canary.exists()


def test_a_file_beside_a_checkpoint_is_not_read(tmp_path: Path):
    """Lightning's hparams.yaml, which its own loader constructs objects from."""
    canary = tmp_path / "canary"
    (tmp_path / "hparams.yaml").write_text(f"!!python/object/apply:os.system ['touch {canary}']\n")
    checkpoint.save(content(9), tmp_path / "last.ckpt")
    checkpoint.load(tmp_path / "last.ckpt")
    assert not canary.exists()


@pytest.mark.parametrize(
    "address", ["http://example.org/a.ckpt", "httpd/a.ckpt", "http:a.ckpt", "s3://bucket/a.ckpt"]
)
def test_addresses_are_not_followed(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lightning's own loader believes whatever lies under a path that begins like an address, also on this disk."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"addresses are not loaded|does not exist"):
        checkpoint.load(Path(address))
    Path(address).parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        content(9) | {"hyper_parameters": Payload(os.system, f"touch {tmp_path}/canary")}, Path(address)
    )
    with pytest.raises(CheckpointError, match=r"addresses are not loaded|refusing"):
        AtomicCheckpointIO().load_checkpoint(address, weights_only=False)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"state_dict": {}}, "not written by hmmtts"),
        (
            {"hmmtts": {"format": 99, "version": "7.1"}},
            r"made by hmmtts 7\.1 \(format 99\); this build reads up to 1",
        ),
        ({"hmmtts": {"format": "1"}}, "format must be a positive integer, got '1'"),
    ],
)
def test_foreign_and_future_formats(wrong: dict, message: str, tmp_path: Path):
    torch.save(wrong, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(tmp_path / "a.ckpt")


def test_an_older_format_is_brought_up_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checkpoint.save(content(5), tmp_path / "last.ckpt")

    def rename(old: dict) -> dict:
        return old | {"weights": old["state_dict"], "hmmtts": old["hmmtts"] | {"format": 2}}

    def count(old: dict) -> dict:
        return old | {"hmmtts": old["hmmtts"] | {"format": 3, "tensors": len(old["weights"])}}

    monkeypatch.setattr(checkpoint, "FORMAT", 3)
    monkeypatch.setattr(checkpoint, "MIGRATIONS", {1: rename, 2: count})
    assert checkpoint.load(tmp_path / "last.ckpt")["hmmtts"]["tensors"] == 1
    assert checkpoint.header(tmp_path / "last.ckpt")["format"] == 3


def test_every_format_has_its_migration_and_its_frozen_file():
    assert set(checkpoint.MIGRATIONS) == set(range(1, checkpoint.FORMAT))
    assert all(
        FIXTURE.with_name(f"checkpoint_format_{n}.ckpt").is_file() for n in range(1, checkpoint.FORMAT + 1)
    )


def test_a_checkpoint_of_every_released_format_still_loads():
    loaded = checkpoint.load(FIXTURE)
    assert loaded["hmmtts"]["step"] == 24
    assert loaded["state_dict"]["model.layers.0.weight"].shape == (8, 4)


class Overflow(Callback):
    """A gradient that 16 bits cannot hold, in one step."""

    def __init__(self, step: int):
        self.step = step

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step + 1 == self.step:
            next(pl_module.parameters()).grad.view(-1)[0] = math.inf


def test_a_loss_scale_that_halved_is_kept(tmp_path: Path):
    """R3: in step 3 of a scaled run, which then dies after step 5; its last checkpoint is of step 4."""
    train(tmp_path / "whole", Overflow(3), scaled=True)
    with pytest.raises(Kill):
        train(tmp_path / "run", Overflow(3), KillAt(5, "batch"), scaled=True)
    scaler = checkpoint.load(tmp_path / "run/checkpoints/last.ckpt")["MixedPrecision"]
    assert (scaler["scale"], scaler["_growth_tracker"]) == (
        2.0**15,
        1,
    )  # halved once, and one good step since
    train(tmp_path / "run", scaled=True)
    assert_same(final_state(tmp_path / "run"), final_state(tmp_path / "whole"))


SAVE_UNTIL_KILLED = """
import os, sys
from itertools import count
from pathlib import Path
from hmmtts.build import checkpoint
from tests.training.test_checkpoint import content
for _ in sys.stdin:  # a line for each
    saver = os.fork()
    if not saver:
        for step in count(1):
            checkpoint.save(content(step, 500_000), Path(sys.argv[1]))
    print(saver, flush=True)
    print(os.waitpid(saver, 0)[1], flush=True)
"""


@pytest.mark.process
def test_a_hundred_kills_while_saving_tear_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With the folder for temporary files on another disk, where there is one: what is staged there tears.

    What is killed was forked by a process that has imported torch: an import for each kill would be minutes.
    """
    if Path("/dev/shm").is_dir():
        monkeypatch.setenv("TMPDIR", "/dev/shm")
    path, draw = tmp_path / "last.ckpt", random.Random(0)
    checkpoint.save(content(0), path)
    caught, seen = 0, set()
    command = [sys.executable, "-c", SAVE_UNTIL_KILLED, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, bufsize=1, **pipes) as parent:
        try:
            for _ in range(100):
                before = path.stat().st_ino
                parent.stdin.write("\n")
                saver = int(parent.stdout.readline())
                until = time.monotonic() + 60
                while path.stat().st_ino == before:  # it has not begun
                    assert time.monotonic() < until
                    time.sleep(0.001)
                time.sleep(draw.uniform(0, 0.05))
                os.kill(saver, signal.SIGKILL)
                assert int(parent.stdout.readline()) == signal.SIGKILL
                weights = checkpoint.load(path)["state_dict"]["w"]
                assert (weights == weights[0]).all()
                seen.add(float(weights[0]))
                leftovers = list(tmp_path.glob(".tmp-*"))
                caught += len(leftovers)
                for leftover in leftovers:
                    leftover.unlink()
        finally:
            parent.kill()
    assert caught > 0, "no kill came while a file was being written: the test proves nothing"
    assert len(seen) > 1, "every kill came at the same file"
