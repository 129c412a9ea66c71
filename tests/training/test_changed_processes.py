"""R2: train.py killed and preempted in mid epoch, and resumed each time by another number of processes."""

import os
import signal
import subprocess
import sys
from collections import Counter
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hmmtts.build import checkpoint, objects
from hmmtts.data.manifest import manifests, read_utterances
from hmmtts.data.sampler import TrainingBatches
from tests.training import journal

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = (
    "recipe=folder", "run.name=t", "text=characters", "threads=1", "data.workers=0", "data.max_items=2", "encoder.width=16",
    "encoder.layers=1", "decoder.dilations=[1]", "pitch.layers=1", "duration.layers=1", "aligner.encoder.width=16",
    "vocoder.iterations=1", "trainer.accelerator=cpu", "trainer.max_steps=11", "callbacks=journal",
)  # fmt: skip
CALLBACKS = """
defaults: [default, _self_]
preflight: null
samples: null
checkpoint: {every: 2}
journal: {_target_: tests.training.journal.Journal, folder: journal}
ending: {_target_: tests.training.life.SignalAt, step: 0, moment: batch, number: 0}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder to train in: sixteen recordings, of which an epoch makes seven batches, and the callbacks of these tests."""
    for folder in ("conf/callbacks", "speech/wavs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "conf/callbacks/journal.yaml").write_text(CALLBACKS)
    noise = np.random.default_rng(0)
    for number in range(16):
        sound = 0.1 * noise.standard_normal(11025 + 500 * number)
        soundfile.write(tmp_path / f"speech/wavs/u{number}.wav", sound, 22050)
    (tmp_path / "speech/metadata.csv").write_text("".join(f"u{number}|abcab\n" for number in range(16)))
    return tmp_path


def live(place: Path, processes: int, diary: str, ending: dict[str, object]) -> tuple[int, str]:
    """The exit code of a life, every rank of which the signal of `ending` reaches, and what it said."""
    done = subprocess.run(
        [
            sys.executable, str(ROOT / "train.py"), *SETTINGS, "data_dir=speech", f"trainer.devices={processes}",
            f"callbacks.journal.folder={diary}", *(f"callbacks.ending.{key}={value}" for key, value in ending.items()),
        ],
        cwd=place, stderr=subprocess.PIPE, text=True, timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HMMTTS_CONF": str(place / "conf")},
    )  # fmt: skip
    return done.returncode, done.stderr


def order(place: Path, last: Path) -> list[list[str]]:
    """The batches of two epochs as one process alone draws them."""
    config = checkpoint.header(last)["config"]
    (corpus,) = place.glob("data/folder*")
    epochs = objects.loading(config).epochs(list(read_utterances(manifests(corpus)["train"])))
    assert epochs.batches == 7
    return [
        [draw.utterance.id for draw in batch]
        for batch in islice(TrainingBatches(epochs, config["seed"]), 2 * 7)
    ]


@pytest.mark.process
def test_every_utterance_of_an_epoch_is_seen_whoever_trains_it(place: Path):
    """Two processes are killed, one is preempted, two are preempted, and one ends the second epoch."""
    kill = {"step": 3, "moment": "batch", "number": int(signal.SIGKILL)}
    preempt = {"moment": "optimizer", "number": int(signal.SIGTERM)}
    last = place / "runs/folder/t/checkpoints/last.ckpt"
    seen: list[list[str]] = [[], []]
    for life, (processes, ending, code, step, drawn) in enumerate(
        [
            (2, kill, 1, 2, 2),  # four batches of the first epoch, and two more that no checkpoint has
            (1, preempt | {"step": 3}, 143, 3, 5),  # the fifth
            (2, preempt | {"step": 6}, 143, 6, 5),  # the fifth again: two processes draw two at a time
            (1, {}, 0, 11, 14),
        ]
    ):
        found, said = live(place, processes, f"life-{life}", ending)
        assert found == code, said
        if life:
            told = (
                f"{3 - processes} processes trained this run, now {processes}: the order of the data is kept"
            )
            assert told in said
        header = checkpoint.header(last)
        assert (header["step"], header["drawn"], header["ranks"]) == (step, drawn, processes)
        for position, names in journal.read(place / f"life-{life}").items():
            if position < drawn:  # what came later is lost with its life
                seen[position // -(-7 // processes)] += names
    batches = order(place, last)
    assert seen[0] == [*chain(*batches[:5], *batches[4:7])]
    assert seen[1] == [*chain(*batches[7:])]
    assert Counter(seen[0]) - Counter(batches[4]) == Counter(seen[1])
    assert sorted(seen[1]) == sorted(set(seen[0]))
    assert len(seen[1]) == 13
