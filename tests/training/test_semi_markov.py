"""aligner=semi_markov in the whole program, on the tiny demo profile."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from hmmtts import build
from hmmtts.build import program
from hmmtts.nn.durations.semi_markov import SemiMarkov
from hmmtts.training import run as runs
from hmmtts.training.compose import register_recipes
from hmmtts.training.config import checked
from tests.training.test_run import SMALL, accuracies, corpus

__all__ = ["corpus"]

OURS = ["aligner=semi_markov", "aligner.states_per_symbol=2", "aligner.durations.longest=30"]


@pytest.mark.process
def test_a_recipe_trains_with_it_and_speaks_by_its_law(corpus: Path, tmp_path: Path, monkeypatch):
    register_recipes()
    settings = [setting for setting in SMALL if not setting.startswith("duration.")]
    with initialize_config_dir(str(program.folder("conf")), version_base="1.3"):
        cfg = checked(compose("train", overrides=[*settings, *OURS, f"data.cache_dir={corpus}/cache"]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "prepare", lambda *_: corpus)
    monkeypatch.setattr(runs, "evaluate", lambda *_: {"test/mcd_db": 7.0})
    runs.run(cfg)
    folder = tmp_path / "runs/demo/t"
    assert accuracies(folder)[-1] > 0.85  # equal parts: 0.25
    assert isinstance(build.load(folder).model.duration, SemiMarkov)
