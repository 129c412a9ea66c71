"""One life of the toy run as a process: python -m tests.training.life FOLDER '{"logged": true, "signals": [[7, "batch"]]}'.

It ends with the exit code of the program. What it trained on is appended to FOLDER/diary-RANK, a line a batch, so that
it outlives any death.
"""

import itertools
import json
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

from lightning.pytorch import Callback, Trainer
from torch.utils.data import get_worker_info

from hmmtts.batch import Batch
from hmmtts.build import checkpoint
from hmmtts.training.faults import exit_code
from tests.training import toy

ROOT = Path(__file__).resolve().parents[2]
MOMENTS = (
    "forward", "optimizer", "batch", "loading", "validation", "validated", "saving", "writing", "saved"
)  # fmt: skip
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])


class Diary(Callback):
    def __init__(self, path: Path, pause: float):
        self.path = path
        self.pause = pause

    def on_train_start(self, trainer: Trainer, *_: object) -> None:
        self.path.with_name("begun").touch()

    def on_train_batch_start(self, trainer: Trainer, pl_module: object, batch: tuple, batch_idx: int) -> None:
        with self.path.open("a") as file:
            file.write(f"{trainer.fit_loop.epoch_loop.batch_progress.total.ready - 1} {' '.join(batch[0])}\n")

    def on_train_batch_end(self, *_: object) -> None:
        time.sleep(self.pause)

    def on_validation_batch_end(self, *_: object) -> None:
        time.sleep(2 * self.pause)


class SignalAt(Callback):
    """`number` to this very process, once, at a moment of a step: SIGKILL is real."""

    def __init__(self, step: int, moment: str, number: int = signal.SIGKILL):
        assert moment in MOMENTS, moment
        self.step = step
        self.moment = moment
        self.number = number
        self.sent = multiprocessing.Event()
        if moment == "loading":
            toy.collate = held_back(toy.collate, self.sent)

    def _at(self, trainer: Trainer, moment: str, step: int) -> None:
        if moment == self.moment and step == self.step:
            self.step = -1
            send(Path(trainer.default_root_dir), os.getpid(), self.number)
            self.sent.set()

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        self._at(trainer, "forward", trainer.global_step + 1)

    def on_train_start(self, trainer: Trainer, *_: object) -> None:
        optimizer = trainer.optimizers[0]
        optimizer.register_step_post_hook(lambda *_: self._at(trainer, "optimizer", trainer.global_step + 1))
        begin, write, save = trainer.save_checkpoint, checkpoint.torch.save, checkpoint.save

        def before(
            path: Path, weights_only: bool | None = None
        ) -> None:  # on every rank; only the first writes
            self._at(trainer, "saving", trainer.global_step)
            begin(path, weights_only=weights_only)

        def half(content: dict, file: object) -> None:
            write(content, file)
            if (self.moment, self.step, self.number) == ("writing", trainer.global_step, signal.SIGKILL):
                file.truncate(file.tell() // 2)
            self._at(trainer, "writing", trainer.global_step)

        def whole(*arguments: object) -> None:
            save(*arguments)
            self._at(trainer, "saved", trainer.global_step)

        trainer.save_checkpoint = before  # type: ignore[method-assign]
        checkpoint.torch.save, checkpoint.save = half, whole

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        step = trainer.global_step
        self._at(trainer, "batch", step)
        if (self.moment, self.step) == ("loading", step):  # once it waits for the next batch
            threading.Timer(0.2, self._at, (trainer, "loading", step)).start()

    def on_validation_batch_end(self, trainer: Trainer, *_: object) -> None:
        self._at(trainer, "validation", trainer.global_step)

    def on_validation_end(self, trainer: Trainer, *_: object) -> None:
        self._at(trainer, "validated", trainer.global_step)


def send(folder: Path, process: int, number: int) -> None:
    """The time of the file `signalled` is that of the signal."""
    (folder / "signalled").touch()
    os.kill(process, number)


def held_back(collate: Callable[[list[int]], Batch], until: Event) -> Callable[[list[int]], Batch]:
    """A loading process keeps the third batch of its life: the first is trained on once the second is there."""
    made = itertools.count(1)

    def late(indices: list[int]) -> Batch:
        if get_worker_info() is not None and next(made) > 2:
            until.wait(60)
        return collate(indices)

    return late


class SlowSave(Callback):
    """Between the whole file and its name, as on a slow disk."""

    def __init__(self, seconds: float):
        replace = Path.replace

        def slow(path: Path, target: Path) -> Path:
            if path.name.startswith(".tmp-") and path.suffix == ".ckpt":
                path.with_name("saving").touch()
                time.sleep(seconds)
            return replace(path, target)

        Path.replace = slow  # type: ignore[method-assign]


class Fork:
    """A process like those of subprocess, forked from one that has imported torch, which is nine tenths of a life."""

    def __init__(self, *arguments: object):
        self._process = FORKS.Process(target=forked, args=arguments)
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a forked life", timeout or 0.0)
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()


def forked(environment: dict[str, str], folder: Path, said: Path, options: dict) -> None:
    multiprocessing.set_start_method("fork", force=True)  # of its own loading processes, as everywhere
    os.environ.update(environment)
    with said.open("ab") as file:
        os.dup2(file.fileno(), 2)
    live(folder, options)


def start(
    folder: Path, ranks: int = 1, own_group: bool = False, fork: bool = False, **options: object
) -> list[subprocess.Popen | Fork]:
    """The processes of one life. `signals`: (step, moment, number) of SignalAt, for the rank `of`, None for all."""
    folder.mkdir(parents=True, exist_ok=True)
    options |= {"ranks": ranks}
    meeting = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    lives: list[subprocess.Popen | Fork] = []
    for rank in range(ranks):
        environment = (
            os.environ | meeting | ({"LOCAL_RANK": str(rank), "NODE_RANK": "0"} if ranks > 1 else {})
        )
        said = folder / f"said-{rank}"
        if fork:
            lives.append(Fork(environment, folder, said, options))
            continue
        with said.open("ab") as file:
            lives.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.training.life", str(folder), json.dumps(options)],
                    cwd=ROOT, env=environment, stderr=file, stdout=subprocess.DEVNULL, start_new_session=own_group,
                )
            )  # fmt: skip
    return lives


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def ended(lives: list[subprocess.Popen | Fork], seconds: float = 300) -> list[int]:
    """The exit codes; whoever outlives the time is killed, which no test expects."""
    deadline = time.monotonic() + seconds
    try:
        return [life.wait(max(0.1, deadline - time.monotonic())) for life in lives]
    finally:
        for life in lives:
            life.kill()
            life.wait()


def begun(folder: Path, lives: list[subprocess.Popen | Fork]) -> None:
    """Wait for the first batch."""
    while not (folder / "begun").exists() and all(life.poll() is None for life in lives):
        time.sleep(0.02)
    (folder / "begun").unlink(missing_ok=True)


def batches(folder: Path, rank: int = 0) -> int:
    """That this rank has begun so far, in all lives."""
    diary = folder / f"diary-{rank}"
    return len(diary.read_text().splitlines()) if diary.exists() else 0


def said(folder: Path, rank: int = 0) -> str:
    return (folder / f"said-{rank}").read_text()


def seen(folder: Path, rank: int = 0) -> list[str]:
    """The batches of all lives by position; one that was trained on twice was the same batch."""
    batches: dict[int, str] = {}
    for line in (folder / f"diary-{rank}").read_text().splitlines():
        position, names = line.split(" ", 1)
        assert batches.setdefault(int(position), names) == names
    assert sorted(batches) == list(range(len(batches)))
    return [batches[position] for position in range(len(batches))]


def live(folder: Path, options: dict) -> None:
    rank = int(os.environ.get("LOCAL_RANK", 0))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    callbacks: list[Callback] = [Diary(folder / f"diary-{rank}", options.pop("pause", 0.0))]
    if seconds := options.pop("slow_save", 0.0):
        callbacks.append(SlowSave(seconds))
    of = options.pop("of", 0)
    for at in options.pop("signals", []):
        if of in (rank, None):
            callbacks.append(SignalAt(*at))
    try:
        toy.train(folder, *callbacks, **options)
    except BaseException as error:
        code = exit_code(error)
        if code == 1:
            raise
        print(error, file=sys.stderr)
        sys.exit(code)


if __name__ == "__main__":
    live(Path(sys.argv[1]), json.loads(sys.argv[2]))
