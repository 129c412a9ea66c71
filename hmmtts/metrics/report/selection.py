"""What model selection found, as a table and as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from hmmtts.hmm.select import Judge, Judged, best

TITLES: dict[Judge, str] = {
    "held_out": "held-out log-likelihood [nats per frame]",
    "bic": "BIC",
    "aic": "AIC",
}


def table(judged: Sequence[Judged]) -> Table:
    """One row per candidate, likelihoods in nats per frame; the choice of each judge is in bold."""
    out = Table("states", "Gaussians", "free", "trained", "held out", "AIC", "BIC")
    for column in out.columns:
        column.justify, column.no_wrap = "right", True
    by_unseen, by_aic, by_bic = best(judged, "held_out"), best(judged, "aic"), best(judged, "bic")
    for each in judged:
        held_out = f"{each.held_out:.4f} ± {each.error:.4f}"
        cells = [(held_out, by_unseen), (f"{each.aic:.0f}", by_aic), (f"{each.bic:.0f}", by_bic)]
        marked = [f"[bold]{text}[/bold]" if each is chosen else text for text, chosen in cells]
        out.add_row(*map(str, each.candidate), str(each.free), f"{each.trained:.4f}", *marked)
    return out


def draw(judged: Sequence[Judged], path: Path) -> None:
    """Against the number of states, a line for each number of components; a star where a judge's choice lies."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3)
    for panel, (name, title) in zip(panels, TITLES.items(), strict=True):
        for components in sorted({each.candidate.components for each in judged}):
            line = sorted(each for each in judged if each.candidate.components == components)
            states, values = [each.candidate.states for each in line], [getattr(each, name) for each in line]
            error = [each.error for each in line] if name == "held_out" else None
            label = f"{components} Gaussian{'s' if components > 1 else ''} per state"
            panel.errorbar(states, values, error, marker="o", markersize=3, capsize=2, label=label)
        chosen = best(judged, name)
        panel.plot(chosen.candidate.states, getattr(chosen, name), "*", color="black", markersize=13)
        panel.set(xlabel="states", title=title)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
    panels[0].legend()
    figure.savefig(path)
