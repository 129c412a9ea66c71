"""The pictures of `hmmtts evaluate`, drawn without a display and without matplotlib's global state."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hmmtts.metrics.report.alignment import AlignmentReport
from hmmtts.metrics.report.speech import SpeechReport

UNITS = {"mcd_db": "MCD [dB]", "f0_rmse_hz": "F0 RMSE [Hz]", "vuv_error": "V/UV error"}
STYLES = {"floor": "tab:green", "ceiling": "tab:red", "constant": "tab:orange"}
FARTHEST_MS = 60.0
BINS, HISTOGRAM = 61, (-FARTHEST_MS - 1, FARTHEST_MS + 1)  # 2 ms wide, one of them centred on 0


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(5 * panels, 4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, panels))


def draw_speech(report: SpeechReport, path: Path) -> None:
    """How each utterance fares: sorted values of three figures, with the anchors as lines."""
    figure, panels = _figure(len(UNITS))
    for panel, (name, unit) in zip(panels, UNITS.items(), strict=True):
        values = np.sort([row[name] for row in report.utterances.values()])
        panel.plot(np.arange(1, len(values) + 1), values, "o-", markersize=3, label="utterances")
        if np.isfinite(report.figures[name]):
            panel.axhline(report.figures[name], color="tab:blue", linestyle="--", label="mean")
        for condition, figures in report.anchors.items():
            if np.isfinite(figures.get(name, np.nan)):
                panel.axhline(figures[name], color=STYLES[condition], label=condition)
        panel.set(xlabel="utterances, best first", ylabel=unit)
        panel.set_ylim(bottom=0)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
    panels[1].legend()  # the only one that every anchor has a line in
    figure.savefig(path)


def draw_alignment(report: AlignmentReport, path: Path) -> None:
    """How far the boundaries are off: signed errors, the share within a limit, the share by class of phone."""
    figure, (signed, share, classes) = _figure(3)
    bias = report.figures["boundary_bias_ms"]
    signed.hist(
        np.clip(report.errors, -FARTHEST_MS, FARTHEST_MS),
        bins=int(FARTHEST_MS),
        range=(-FARTHEST_MS, FARTHEST_MS),
    )
    signed.axvline(bias, color="tab:red", label=f"bias {bias:.1f} ms")
    signed.set(xlabel=f"signed error [ms], clipped at {FARTHEST_MS:.0f}", ylabel="boundaries")
    signed.legend()
    for label, errors in (
        ("aligned", report.errors),
        ("aligned, bias taken off", report.errors - bias),
        ("equal parts", report.uniform_errors),
    ):
        share.plot(*_within(errors), label=label)
    share.set(xlabel="limit [ms]", ylabel="share of boundaries within", xlim=(0, FARTHEST_MS), ylim=(0, 1))
    share.grid(alpha=0.3)
    share.legend()
    _bars(classes, {label: figures["boundary_within_20ms"] for label, figures in report.classes.items()})
    classes.set(xlabel="share within 20 ms", xlim=(0, 1))
    figure.savefig(path)


def _within(errors: Float[np.ndarray, "e"]) -> tuple[Float[np.ndarray, "e"], Float[np.ndarray, "e"]]:
    ordered = np.sort(np.abs(errors))
    return ordered, np.arange(1, len(ordered) + 1) / len(ordered)


def _bars(axes: Axes, values: Mapping[str, float]) -> None:
    axes.barh(list(values), list(values.values()))
    axes.invert_yaxis()
