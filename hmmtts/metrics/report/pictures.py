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

Figures = Mapping[str, float]
Rows = Mapping[str, Figures]  # of each utterance, or of each anchor

UNITS = {"mcd_db": "MCD [dB]", "f0_rmse_hz": "F0 RMSE [Hz]", "vuv_error": "V/UV error"}
VOICE_UNITS = {"duration_accuracy": "duration accuracy", "alignment_accuracy": "frames aligned right"}
STYLES = {
    "floor": "tab:green",
    "ceiling": "tab:red",
    "constant": "tab:orange",
    "uniform": "tab:gray",
}
FARTHEST_MS = 60.0
BINS, HISTOGRAM = 61, (-FARTHEST_MS - 1, FARTHEST_MS + 1)  # 2 ms wide, one of them centred on 0


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(5 * panels, 4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, panels))


def draw_speech(report: SpeechReport, path: Path) -> None:
    _draw_utterances(UNITS, report.utterances, report.figures, report.anchors, path)


def draw_voice(utterances: Rows, figures: Figures, anchors: Rows, path: Path) -> None:
    """As of speech, and how well the voice aligns and times sentences that it has not seen."""
    _draw_utterances(UNITS | VOICE_UNITS, utterances, figures, anchors, path)


def _draw_utterances(
    units: Mapping[str, str], utterances: Rows, figures: Figures, anchors: Rows, path: Path
) -> None:
    """How each utterance fares: sorted values of each figure, with the anchors as lines."""
    units = {name: unit for name, unit in units.items() if name in figures}
    figure, panels = _figure(len(units))
    for panel, (name, unit) in zip(panels, units.items(), strict=True):
        values = np.sort([row[name] for row in utterances.values() if name in row])
        panel.plot(np.arange(1, len(values) + 1), values, "o-", markersize=3, label="utterances")
        if np.isfinite(figures[name]):
            panel.axhline(figures[name], color="tab:blue", linestyle="--", label="mean")
        for condition, others in anchors.items():
            if np.isfinite(others.get(name, np.nan)):
                panel.axhline(others[name], color=STYLES[condition], label=condition)
        panel.set(xlabel="utterances, lowest first", ylabel=unit)
        panel.set_ylim(bottom=0)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
    shown = {
        label: line
        for panel in panels
        for line, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    panels[0].legend(shown.values(), shown.keys())
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
