"""Drawings for TensorBoard and the report, by matplotlib's Agg canvas: no pyplot, whose figures are never freed.

t frames, m mel bins, u frames of the aligner, n states; every picture is 8-bit [height width 3].
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Picture = UInt8[np.ndarray, "height width 3"]


def _picture(figure: Figure) -> Picture:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _mel(
    axes: Axes, mel: Float[np.ndarray, "t m"], hop: float, title: str, lowest: float, highest: float
) -> None:
    seconds = len(mel) * hop
    axes.imshow(
        mel.T,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, mel.shape[1]),
        vmin=lowest,
        vmax=highest,
        cmap="magma",
    )
    axes.set_title(title, fontsize=9)
    axes.set_ylabel("mel bin", fontsize=8)


def mel_against_target(
    mel: Float[np.ndarray, "t m"], target: Float[np.ndarray, "t2 m"], hop: float, name: str
) -> Picture:
    figure = Figure(figsize=(8, 5), layout="tight")
    above, below = figure.subplots(2, 1)
    lowest, highest = float(target.min()), float(target.max())
    _mel(above, target, hop, f"{name}: recorded", lowest, highest)
    _mel(below, mel, hop, "synthesised from the text", lowest, highest)
    below.set_xlabel("seconds", fontsize=8)
    return _picture(figure)


def posterior_and_path(
    posterior: Float[np.ndarray, "u n"],
    path: Int[np.ndarray, "u"],
    symbols: Sequence[str],
    starts: Float[np.ndarray, "s"],
    hop: float,
    name: str,
) -> Picture:
    """States upwards, time to the right; the true starts of the symbols, where known, as lines."""
    states, count = posterior.shape[1], posterior.shape[1] // len(symbols)
    figure = Figure(figsize=(9, 6), layout="tight")
    axes = figure.subplots()
    seconds = len(posterior) * hop
    axes.imshow(
        posterior.T,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, states),
        cmap="Greys",
        vmin=0,
        vmax=1,
    )
    axes.plot(
        (np.arange(len(path)) + 0.5) * hop, path + 0.5, color="tab:red", linewidth=0.8, label="best path"
    )
    for number, start in enumerate(starts):
        if np.isfinite(start):
            label = "true start" if number == 0 else None
            axes.plot(
                [start, start],
                [number * count, (number + 1) * count],
                color="tab:blue",
                linewidth=1.5,
                label=label,
            )
    axes.set_yticks([(number + 0.5) * count for number in range(len(symbols))], symbols, fontsize=5)
    axes.set_xlabel("seconds", fontsize=8)
    axes.set_title(f"{name}: posterior (grey), best path, true starts", fontsize=9)
    axes.legend(fontsize=7, loc="lower right")
    return _picture(figure)


def transitions(leave: Float[np.ndarray, "n"], symbols: Sequence[str], name: str) -> Picture:
    """The probability of leaving each state after a frame."""
    figure = Figure(figsize=(9, 3), layout="tight")
    axes = figure.subplots()
    axes.bar(np.arange(len(leave)), leave, width=1.0)
    count = len(leave) // len(symbols)
    axes.set_xticks([(number + 0.5) * count - 0.5 for number in range(len(symbols))], symbols, fontsize=6)
    axes.set_ylim(0, 1)
    axes.set_ylabel("P(leave)", fontsize=8)
    axes.set_title(f"{name}: probability of leaving each state", fontsize=9)
    return _picture(figure)
