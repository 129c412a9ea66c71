"""make test-soak: what shows only after many repetitions. HMMTTS_SOAK=0.1 does a tenth of them."""

import gc
import math
import os
import random
import time
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from hmmtts.hmm import LeftToRight, log_likelihood
from tests.training import toy
from tests.training.state import digest, events, final_state
from tests.training.test_resume import Kill, KillAt

pytestmark = pytest.mark.soak
SHARE = float(os.environ.get("HMMTTS_SOAK", "1"))
SEQUENCES = max(1, round(200 * SHARE))
STEPS = max(6000, round(20_000 * SHARE))  # fewer would judge the warm-up: 4 MB in the first 2,000
MINUTES = 60.0  # no test goes on for longer: it says how far it came


def test_killed_two_hundred_times_and_more(tmp_path: Path):
    """Sequences of one to four kills at random steps and moments; each ends with the bits of the run that had none."""
    began, draw = time.monotonic(), random.Random(20261121)
    toy.train(tmp_path / "whole", logged=True)
    expected = digest(final_state(tmp_path / "whole")), events(tmp_path / "whole")
    done = kills = 0
    while done < SEQUENCES and time.monotonic() - began < 60 * MINUTES:
        folder, diary = tmp_path / str(done), toy.Diary([], [])
        steps = sorted(draw.choices(range(1, toy.STEPS), k=draw.randint(1, 4)))
        for step in steps:
            moment = draw.choice(
                ["batch", "backward", "validation"] if step % toy.EVERY == 0 else ["batch", "backward"]
            )
            with pytest.raises(Kill):
                toy.train(folder, diary, KillAt(step, moment), logged=True)
            kills += 1
        toy.train(folder, diary, logged=True)
        assert (digest(final_state(folder)), events(folder)) == expected, f"sequence {done}: {steps}"
        done += 1
    print(f"{done} sequences, {kills} kills, {time.monotonic() - began:.0f} s")


class Memory(Callback):
    """Resident megabytes after every hundredth step."""

    def __init__(self) -> None:
        self.megabytes: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step % 100 == 0:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.megabytes.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the kernel tells no resident size here")
def test_memory_does_not_grow_with_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The slope over the second half, with figures logged at every step and pictures at every validation."""
    monkeypatch.setattr(toy, "STEPS", STEPS)
    monkeypatch.setattr(toy, "EVERY", 100)

    class Pictures(Callback):
        def on_validation_end(self, trainer: Trainer, *_: object) -> None:
            from hmmtts.training.pictures import mel_against_target

            mel = torch.randn(200, 80).numpy()
            trainer.logger.picture("mel", mel_against_target(mel, mel, 0.01, "u"), trainer.global_step)

    memory = Memory()
    toy.train(tmp_path, Pictures(), memory, logged=True)
    half = memory.megabytes[len(memory.megabytes) // 2 :]
    x = torch.arange(len(half), dtype=torch.float64) - (len(half) - 1) / 2
    slope = float((x * torch.tensor(half, dtype=torch.float64)).sum() / x.square().sum()) * 10
    print(
        f"{STEPS} steps: {memory.megabytes[0]:.0f} to {memory.megabytes[-1]:.0f} MB, {1024 * slope:.0f} KB per 1000 steps"
    )
    assert slope < 1.0, f"{slope:.2f} MB per 1000 steps"


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the kernel tells no peak of memory here"
)
def test_a_quarter_of_an_hour_of_sound_at_once():
    """100,000 frames: the closed form of a model without emissions, C(T - 1, N - 1) equal paths, in bounded memory."""
    t, n, stay = 100_000, 50, 0.9
    arcs = torch.full((1, n), 1.0)
    topology = LeftToRight(math.log(stay) * arcs, math.log(1 - stay) * arcs)
    log_obs = torch.zeros(1, t, n)
    Path("/proc/self/clear_refs").write_text("5")
    began, before = time.process_time(), peak()
    got = float(log_likelihood(log_obs, topology, torch.tensor([t])))
    seconds, grown = time.process_time() - began, peak() - before
    paths = math.lgamma(t) - math.lgamma(n) - math.lgamma(t - n + 1)
    expected = paths + (t - n) * math.log(stay) + n * math.log(1 - stay)
    print(f"{seconds:.2f} processor seconds, {grown:.0f} MB")
    assert got == pytest.approx(expected, rel=1e-8)
    assert seconds < 30
    assert grown < 1000


def peak() -> float:
    """The most megabytes that were resident since clear_refs."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
