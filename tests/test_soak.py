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
from tests.training import memory, toy
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
    """After every hundredth step, in megabytes: what is resident, and what the C library holds that nobody freed."""

    def __init__(self) -> None:
        self.resident: list[float] = []
        self.held: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step % 100 == 0:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.resident.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
            self.held.append(memory.held() / 2**20 if memory.KNOWN else 0.0)


def slope(megabytes: list[float]) -> float:
    """Megabytes per 1,000 steps over the second half."""
    half = torch.tensor(megabytes[len(megabytes) // 2 :], dtype=torch.float64)
    x = torch.arange(len(half), dtype=torch.float64) - (len(half) - 1) / 2
    return float((x * half).sum() / x.square().sum()) * 10


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the kernel tells no resident size here")
def test_memory_does_not_grow_with_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With figures logged at every step and pictures at every validation.

    What is held must not grow; what is resident does a little all the while, in pieces that the C library keeps free.
    """
    monkeypatch.setattr(toy, "STEPS", STEPS)
    monkeypatch.setattr(toy, "EVERY", 100)

    class Pictures(Callback):
        def on_validation_end(self, trainer: Trainer, *_: object) -> None:
            from hmmtts.training.pictures import mel_against_target

            mel = torch.randn(200, 80).numpy()
            trainer.logger.picture("mel", mel_against_target(mel, mel, 0.01, "u"), trainer.global_step)

    seen = Memory()
    toy.train(tmp_path, Pictures(), seen, logged=True)
    resident, held = slope(seen.resident), slope(seen.held)
    print(
        f"{STEPS} steps: {seen.resident[0]:.0f} to {seen.resident[-1]:.0f} MB, per 1000 steps {1024 * resident:.0f} KB, "
        f"of them held {1024 * held:.0f}"
    )
    assert resident < 1.0, f"{resident:.2f} MB per 1000 steps"
    assert held < 0.03, f"{1024 * held:.0f} KB per 1000 steps that nobody frees"


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
