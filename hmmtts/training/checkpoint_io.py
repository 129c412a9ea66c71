"""Lightning's way to disk, through our own: atomic beside the target, verified and plain (hmmtts.build.checkpoint)."""

from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from hmmtts.build import checkpoint as files


class AtomicCheckpointIO(CheckpointIO):
    """`failure` says why the last save did not succeed: raising on the one rank that writes would hang the others."""

    def __init__(self) -> None:
        self.failure: str | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        self.failure = None
        try:
            files.save(checkpoint, Path(path))
        except OSError as error:
            self.failure = error.strerror or str(error)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return files.load(Path(path), map_location or "cpu")

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)
