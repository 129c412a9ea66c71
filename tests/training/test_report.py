"""report.html: what a run's folder holds, and another run's figures and sound beside it."""

import json

import numpy as np
import pytest
import yaml

from hmmtts.training.logger import EventLogger
from hmmtts.training.report import read_run, write_report

CONFIG = {"recipe": "demo", "bars": {"test/mcd_db": {"below": 5.0}}}


def finished(folder, mcd: float, pitch: float):
    logger = EventLogger(folder=str(folder), resumed_at=0)
    logger.audio("speech/0", np.sin(pitch * np.arange(800)), 8000, 3)
    logger.log_metrics({"train/nll": mcd}, 1)
    logger.finalize("success")
    metrics = {"best": {"test/mcd_db": mcd, "floor/mcd_db": 3.5}, "definitions": {"test/mcd_db": "in dB"}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return metrics


def test_another_run_stands_beside_with_its_figures_and_its_sound(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    metrics = finished(ours, 6.25, 0.3)
    finished(theirs, 4.5, 0.4)
    alone = write_report(ours, metrics, CONFIG).read_text()
    sound = alone.split("data:audio/wav;base64,")[1].split('"')[0]
    assert "4.50" not in alone
    page = write_report(ours, metrics, CONFIG, beside=theirs).read_text()
    other = write_report(theirs, read_run(theirs).metrics, CONFIG).read_text()
    assert "<td><b>6.25</b></td><td>4.50</td>" in page
    assert page.index(sound) < page.index("Sound of demo / theirs")
    assert other.split("data:audio/wav;base64,")[1].split('"')[0] in page.split("Sound of demo / theirs")[1]


def test_a_run_that_is_not_finished_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no metrics.json: it must be the folder of a finished run"):
        read_run(tmp_path)
