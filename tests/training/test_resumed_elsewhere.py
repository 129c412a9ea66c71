"""A run may go on where its files lie elsewhere, as on the next node that a cluster gives it."""

from pathlib import Path

import pytest

from hmmtts.training import run
from hmmtts.training.faults import ConfigError
from hmmtts.training.run_folder import Start

BEFORE = {
    "seed": 1,
    "data": {"max_seconds": 30, "workers": 2, "spool": "/scratch/1", "cache_dir": "a", "window": 8},
}


@pytest.fixture(autouse=True)
def stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.checkpoint, "header", lambda path: {"config": BEFORE})


def resume(**data: object) -> None:
    config = BEFORE | {"data": BEFORE["data"] | data}
    run._refuse_another_config(config, Start(Path("last.ckpt"), 1, 1, ""))


def test_where_files_lie_and_who_fetches_them_may_change():
    resume(spool="/scratch/2", cache_dir=None, workers=8, prefetch=2, pin_memory=False, spool_gb=9)


@pytest.mark.parametrize("changed", [{"max_seconds": 20}, {"window": 4}])
def test_what_decides_on_the_batches_may_not(changed: dict):
    with pytest.raises(ConfigError, match=f"data.{next(iter(changed))}"):
        resume(**changed)
