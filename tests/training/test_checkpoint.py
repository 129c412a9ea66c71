"""Files: whole or not at all, damage found and named, nothing but plain data believed."""

import functools
import multiprocessing
import os
import random
import signal
import time
import zipfile
from pathlib import Path

import pytest
import torch

from hmmtts.build import checkpoint, program
from hmmtts.build.checkpoint import CheckpointError

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
    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    canary = tmp_path / "canary"
    path = tmp_path / "step=9.ckpt"
    torch.save(content(9) | {"hyper_parameters": Payload(canary)}, path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # turns torch's default off, not ours
    for read in (checkpoint.load, checkpoint.header):
        with pytest.raises(CheckpointError, match=r"refusing .*step=9\.ckpt.*posix\.system"):
            read(path)
    assert not canary.exists()


@pytest.mark.parametrize("address", ["http://example.org/a.ckpt", "httpd/a.ckpt", "s3://bucket/a.ckpt"])
def test_addresses_are_not_followed(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"addresses are not loaded|does not exist"):
        checkpoint.load(Path(address))


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


def test_a_checkpoint_of_every_released_format_still_loads():
    loaded = checkpoint.load(FIXTURE)
    assert loaded["hmmtts"]["step"] == 24
    assert loaded["state_dict"]["model.layers.0.weight"].shape == (8, 4)


def _save_for_ever(path: Path) -> None:
    step = 1
    while True:
        checkpoint.save(content(step, 500_000), path)
        step += 1


@pytest.mark.process
def test_a_hundred_kills_while_saving_tear_nothing(tmp_path: Path):
    path, draw = tmp_path / "last.ckpt", random.Random(0)
    checkpoint.save(content(0), path)
    caught = 0
    for _ in range(100):
        process = multiprocessing.get_context("fork").Process(target=_save_for_ever, args=(path,))
        process.start()
        time.sleep(draw.uniform(0.02, 0.12))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        weights = checkpoint.load(path)["state_dict"]["w"]
        assert (weights == weights[0]).all()
        leftovers = list(tmp_path.glob(".tmp-*"))
        caught += len(leftovers)
        for leftover in leftovers:
            leftover.unlink()
    assert caught > 0, "no kill came while a file was being written: the test proves nothing"


@pytest.mark.parametrize(
    "target",
    [
        "torch.load", "numpy.load", "os.system", "builtins.eval", "torch.optim.optimizer.torch.load",
        "lightning.fabric.utilities.cloud_io._load", "omegaconf.OmegaConf.save", "pathlib.Path.write_text", "hydra.utils.call",
    ],
)  # fmt: skip
def test_a_stored_config_names_only_what_the_program_names(target: str):
    config = {"decoder": {"layers": [{"_target_": target, "path": "canary"}]}}
    with pytest.raises(ValueError, match=rf"config\.decoder\.layers\[0\]\._target_ names '{target}'"):
        program.refuse_foreign_targets(config, program.targets())


def test_a_users_own_folder_adds_its_targets(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("_target_: my.decoder.Decoder\nwidth: 4\n")
    program.refuse_foreign_targets({"_target_": "my.decoder.Decoder"}, program.targets(tmp_path))
    program.refuse_foreign_targets({"_target_": "torch.optim.AdamW"}, program.targets())
