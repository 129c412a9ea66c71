"""The torchmetrics: equal to the functions, whatever the batches and however the utterances are spread over ranks."""

import warnings

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import multiprocessing
from torchmetrics import MetricCollection

from hmmtts.audio import world
from hmmtts.metrics.functional import (
    Spans,
    boundary_errors,
    boundary_figures,
    compare_speech,
    define,
    duration_errors,
    frame_accuracy,
    logmel_cepstra,
    mcd,
)
from hmmtts.metrics.modules import (
    AlignmentMetrics,
    ConstantPitch,
    DurationMetrics,
    LogMelDistortion,
    SpeechMetrics,
)
from tests.test_layers import ROOT

RATE, UTTERANCES = 8000, 3


def voice(seed: int, seconds: float = 0.3, pitch: float = 120.0) -> torch.Tensor:
    """A buzz with a moving pitch: enough for Harvest to find voicing."""
    time = torch.arange(int(RATE * seconds)) / RATE
    phase = 2 * torch.pi * torch.cumsum(pitch * (1 + 0.2 * torch.sin(9 * time + seed)), 0) / RATE
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(seed))
    return sum(torch.sin(k * phase) / k for k in range(1, 12)) * 0.2 + 0.01 * noise


def utterance(index: int) -> dict:
    """Everything that the metrics want to know about one utterance, as a batch of one."""
    generator = torch.Generator().manual_seed(index)
    edges = (torch.rand(1, 6, generator=generator, dtype=torch.float64) / 5).cumsum(1)
    moved = edges + 0.01 * torch.randn(1, 6, generator=generator, dtype=torch.float64)
    return {
        "ref_audio": [voice(index)],
        "hyp_audio": [voice(index, 0.3 + 0.05 * index, 120 + 10 * index)],
        "ref_mel": torch.randn(1, 9, 30, generator=generator),
        "ref_frames": torch.tensor([9]),
        "hyp_mel": torch.randn(1, 7, 30, generator=generator),
        "hyp_frames": torch.tensor([7]),
        "ref_durations": edges.diff(dim=1),
        "hyp_durations": moved.diff(dim=1).clamp(min=0.01),
        "ref_spans": Spans(edges[:, :-1], edges[:, 1:]),
        "hyp_spans": Spans(moved[:, :-1], moved[:, 1:]),
        "symbols": torch.tensor([5 - index]),
        "spoken": torch.ones(1, 5, dtype=torch.bool),
        "seconds": edges[:, -1],
    }


def collection() -> MetricCollection:
    metrics = [SpeechMetrics(RATE), LogMelDistortion(), DurationMetrics(), AlignmentMetrics()]
    return MetricCollection(metrics, prefix="test/", compute_groups=False)


def measured(indices) -> dict[str, float]:
    metrics, constant = collection(), MetricCollection([ConstantPitch(RATE)], prefix="constant/")
    for index in indices:
        arguments = utterance(index)
        metrics.update(**arguments)
        constant.update(ref_audio=arguments["ref_audio"])
    return {key: float(value) for key, value in (metrics.compute() | constant.compute()).items()}


def test_equal_to_the_functions():
    figures = measured(range(UTTERANCES))
    parts = [utterance(index) for index in range(UTTERANCES)]
    errors = [
        compare_speech(*(world.analyse(part[side][0].numpy(), RATE) for side in ("ref_audio", "hyp_audio")))
        for part in parts
    ]
    for name in SpeechMetrics.FIGURES:
        assert figures[f"test/{name}"] == pytest.approx(
            np.mean([getattr(error, name) for error in errors])
        ), name
    assert figures["test/f0_covoiced_frames"] == sum(error.f0_covoiced_frames for error in errors) > 0
    timed = [[part[key] for key in ("ref_spans", "hyp_spans", "symbols", "spoken")] for part in parts]
    pooled = boundary_figures(torch.cat([boundary_errors(*some).flatten() for some in timed])).by_key()
    for name, value in pooled.items():
        assert figures[f"test/{name}"] == pytest.approx(value.item()), name
    accuracy = [
        frame_accuracy(*some, part["seconds"]).overall.item() for some, part in zip(timed, parts, strict=True)
    ]
    assert figures["test/alignment_accuracy"] == pytest.approx(np.mean(accuracy))
    assert 0 < figures["test/alignment_accuracy"] < 1
    together = [
        torch.cat([part[key] for part in parts])
        for key in ("ref_durations", "hyp_durations", "symbols", "spoken")
    ]
    assert figures["test/duration_accuracy"] == pytest.approx(duration_errors(*together).accuracy.item())


def test_every_figure_has_its_definition():
    for key in measured([0]):
        assert len(define(key)) > 20
    assert "free synthesis" in define("test/mcd_db")
    for figure in ("alignment_accuracy", "boundary_bias_ms", "boundaries", "duration_rmse_ms"):
        assert "free synthesis" not in define(f"test/{figure}"), (
            "what is measured on recordings is not synthesised"
        )
    with pytest.raises(ValueError, match="got 'test/pesq': define it"):
        define("test/pesq")


def test_logmel_by_index_is_the_function():
    metric, mel = LogMelDistortion(order=13, pairing="index"), torch.randn(2, 6, 30, dtype=torch.float64)
    frames = torch.tensor([6, 4])
    metric.update(mel, frames, mel.flip(2), frames)
    expected = mcd(logmel_cepstra(mel, 13), logmel_cepstra(mel.flip(2), 13), frames).mean()
    assert metric.compute()["mcd_logmel_db"].item() == pytest.approx(expected.item())


def test_unvoiced_is_left_out_and_counted():
    metric, silence = SpeechMetrics(RATE), torch.zeros(2400)
    metric.update([voice(0), voice(1)], [silence, voice(1)])
    figures = metric.compute()
    assert figures["f0_undefined_utterances"] == 1
    assert figures["f0_rmse_hz"] == 0
    alone = SpeechMetrics(RATE)
    alone.update([voice(0)], [silence])
    assert alone.compute()["f0_rmse_hz"].isnan()
    assert alone.compute()["f0_covoiced_frames"] == 0


def test_without_world_figures_are_nan_and_a_warning_says_why(monkeypatch):
    monkeypatch.setattr(world, "library", lambda: None)
    with pytest.warns(UserWarning, match=r"pip install 'hmmtts\[world\]'"):
        metric = SpeechMetrics(RATE)
    metric.update([voice(0)], [voice(1)])
    assert metric.compute()["mcd_db"].isnan()
    with pytest.raises(ValueError, match="WORLD is not installed"):
        world.analyse(np.zeros(8000), 8000)


def test_bad_pairing():
    with pytest.raises(ValueError, match=r"pairing must be .* got 'fast'"):
        SpeechMetrics(RATE, pairing="fast")


def test_the_configured_metrics_exist():
    config = OmegaConf.load(ROOT / "conf" / "metrics" / "default.yaml")
    whole = OmegaConf.create({"features": {"mel": {"sample_rate": 22050, "fmax": 8000.0}}, "metrics": config})
    metrics = {name: instantiate(node) for name, node in whole.metrics.items()}
    assert {type(metric) for metric in metrics.values()} == {
        SpeechMetrics, ConstantPitch, LogMelDistortion, DurationMetrics, AlignmentMetrics,
    }  # fmt: skip


def _rank(rank: int, folder: str) -> None:
    """Rank 1 sees the shares of two divisions: one utterance of three, then none."""
    torch.set_num_threads(1)
    warnings.simplefilter(
        "ignore"
    )  # torchmetrics warns that rank 1 computes without an update: the point of this
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    for name, shares in (("uneven", ([0, 2], [1])), ("empty", ([0, 1, 2], []))):
        torch.save(measured(shares[rank]), f"{folder}/{name}{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.process
def test_two_ranks_equal_one_process(tmp_path):
    multiprocessing.spawn(_rank, args=(str(tmp_path),), nprocs=2)
    expected = measured(range(UTTERANCES))
    for name in ("uneven0", "uneven1", "empty0", "empty1"):
        figures = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        assert figures == pytest.approx(expected, abs=1e-9, nan_ok=True), name
