"""One life of the toy run as a process: python -m tests.training.life FOLDER '{"logged": true, "signals": [[7, "batch"]]}'.

It ends with the exit code of the program. What it trained on is appended to FOLDER/diary-RANK, a line a batch, so that
it outlives any death.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from lightning.pytorch import Callback, Trainer

from hmmtts.build import checkpoint
from hmmtts.training.faults import exit_code
from tests.training.toy import train

ROOT = Path(__file__).resolve().parents[2]
MOMENTS = ("forward", "optimizer", "batch", "validation", "validated", "writing", "saved")


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
    """`number` to this very process at a moment of a step: SIGKILL is real."""

    def __init__(self, step: int, moment: str, number: int = signal.SIGKILL):
        assert moment in MOMENTS, moment
        self.step = step
        self.moment = moment
        self.number = number

    def _at(self, trainer: Trainer, moment: str, step: int) -> None:
        if moment == self.moment and step == self.step:
            os.kill(os.getpid(), self.number)

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        self._at(trainer, "forward", trainer.global_step + 1)

    def on_train_start(self, trainer: Trainer, *_: object) -> None:
        optimizer = trainer.optimizers[0]
        optimizer.register_step_post_hook(lambda *_: self._at(trainer, "optimizer", trainer.global_step + 1))
        write, save = checkpoint.torch.save, checkpoint.save

        def half(content: dict, file: object) -> None:
            write(content, file)
            if (self.moment, self.step) == ("writing", trainer.global_step):
                file.truncate(file.tell() // 2)
            self._at(trainer, "writing", trainer.global_step)

        def whole(*arguments: object) -> None:
            save(*arguments)
            self._at(trainer, "saved", trainer.global_step)

        checkpoint.torch.save, checkpoint.save = half, whole

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        self._at(trainer, "batch", trainer.global_step)

    def on_validation_batch_end(self, trainer: Trainer, *_: object) -> None:
        self._at(trainer, "validation", trainer.global_step)

    def on_validation_end(self, trainer: Trainer, *_: object) -> None:
        self._at(trainer, "validated", trainer.global_step)


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


def start(folder: Path, ranks: int = 1, own_group: bool = False, **options: object) -> list[subprocess.Popen]:
    """The processes of one life. `signals`: (step, moment, number) of SignalAt, for the rank `of`, None for all."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    command = [sys.executable, "-m", "tests.training.life", str(folder)]
    lives = []
    for rank in range(ranks):
        mine = environment | ({"LOCAL_RANK": str(rank), "NODE_RANK": "0"} if ranks > 1 else {})
        with (folder / f"said-{rank}").open("ab") as said:
            lives.append(
                subprocess.Popen(
                    [*command, json.dumps({"ranks": ranks, **options})],
                    cwd=ROOT, env=mine, stderr=said, stdout=subprocess.DEVNULL, start_new_session=own_group,
                )
            )  # fmt: skip
    return lives


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def ended(lives: list[subprocess.Popen], seconds: float = 300) -> list[int]:
    """The exit codes; whoever outlives the time is killed, which no test expects."""
    deadline = time.monotonic() + seconds
    try:
        return [life.wait(max(0.1, deadline - time.monotonic())) for life in lives]
    finally:
        for life in lives:
            life.kill()
            life.wait()


def begun(folder: Path, lives: list[subprocess.Popen]) -> None:
    """Wait for the first batch."""
    while not (folder / "begun").exists() and all(life.poll() is None for life in lives):
        time.sleep(0.02)
    (folder / "begun").unlink(missing_ok=True)


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


def main() -> None:
    folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
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
        train(folder, *callbacks, **options)
    except BaseException as error:
        code = exit_code(error)
        if code == 1:
            raise
        print(error, file=sys.stderr)
        sys.exit(code)


if __name__ == "__main__":
    main()
