"""From a uniform start to a panel of listeners: coarse first, since what is grossly wrong never mends at fine frames.

1. One state a symbol, one Gaussian, COARSE; scores flattened at first. Pauses that are not certain are settled here.
2. Three states a symbol, COARSE; then each knows its neighbours; then at four phases.
3. Up to five states a symbol, FINE, from the boundaries of (2), two Gaussians; neighbours; two phases.
The answer is the median of what the six of (2) and (3) say: their errors are largely independent.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from hmmtts.align import centring, mixtures
from hmmtts.align.aligner import Aligner, Track, answers, batches, symbol_of_place
from hmmtts.align.context import estimate_in_context, expand
from hmmtts.align.listening import COARSE, FINE, Listening, frames_at, listen
from hmmtts.align.script import Script, by_duration, inventory, settled, sound
from hmmtts.audio.io import Wave
from hmmtts.text import SILENCE

ANNEALING = (0.1, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.5, 0.5, 0.7)  # then 1
COARSE_PHASES = (0.0, 0.0025, 0.005, 0.0075)
FINE_PHASES = (0.0, 0.0025)
QUIET = 0.1  # share of the frames that open pauses start from
Edges = Float[np.ndarray, "s+1"]
Tick = Callable[[], None]

# Iterations of EM: more gain nothing.
FLAT, COARSE_FIT, FINE_FIT, CONTEXT_FIT, REFIT = 15, 8, 6, 10, 4
STEPS = (
    FLAT + COARSE_FIT + 2 * FINE_FIT + 2 * CONTEXT_FIT + REFIT * (len(COARSE_PHASES) + len(FINE_PHASES) - 2)
)


class Spoken(NamedTuple):
    """An utterance as training and alignment take it."""

    id: str
    sound: Wave  # as listening.prepared makes it
    seconds: float
    script: Script


class Panel(NamedTuple):
    """The listeners whose answers are combined; `scout` settles open pauses before they are asked."""

    scout: Aligner
    coarse: tuple[Aligner, ...]
    fine: tuple[Aligner, ...]


def track(aligner: Aligner, spoken: Spoken, script: Script | None = None) -> Track:
    features = listen(spoken.sound, aligner.listening, aligner.phase)
    return Track(aligner.centring(features), script or spoken.script, spoken.seconds)


def train(corpus: Sequence[Spoken], tick: Tick = lambda: None) -> Panel:
    """`tick` is called after every iteration of EM, STEPS times in all.

    Utterances that do not fit are passed over; they must not be all.
    """
    scripts = [spoken.script for spoken in corpus]
    scout, tracks = _begin(
        corpus, scripts, COARSE, {sound(s): 1 for script in scripts for s in script.symbols}
    )
    fitting = [i for i, item in enumerate(tracks) if scout.fits(item)]
    if not fitting:
        raise ValueError(
            "no utterance has frames enough for its symbols; are texts and audio files of one corpus?"
        )
    corpus, tracks = [corpus[i] for i in fitting], [tracks[i] for i in fitting]
    scout = _flat_start(scout, tracks)
    scout = em(scout, tracks, FLAT, tick, ANNEALING)
    found = [
        settled(item.script, answer.edges)
        for item, answer in zip(tracks, answers(scout, tracks), strict=True)
    ]
    scripts, times = [item.script for item in found], [item.edges for item in found]

    counts = by_duration(scripts, times, COARSE.hop, COARSE.states, quantile=0.5)
    first = _from_times(corpus, scripts, times, COARSE, counts, COARSE_FIT, tick)
    coarse = (first, *_at_phases(corpus, scripts, first, COARSE_PHASES[1:], tick))
    times = [answer.edges for answer in _answers(first, corpus, scripts)]

    counts = by_duration(scripts, times, FINE.hop, FINE.states, quantile=0.25)
    first = _from_times(corpus, scripts, times, FINE, counts, FINE_FIT, tick)
    fine = (first, *_at_phases(corpus, scripts, first, FINE_PHASES[1:], tick))
    return Panel(scout, coarse, fine)


def em(
    aligner: Aligner,
    tracks: Sequence[Track],
    iterations: int,
    tick: Tick = lambda: None,
    scales: Sequence[float] = (),
) -> Aligner:
    """Baum-Welch; utterances that do not fit take no part."""
    ready = list(batches(aligner, [item for item in tracks if aligner.fits(item)]))
    model = aligner.model
    for iteration in range(iterations):
        scale = scales[iteration] if iteration < len(scales) else 1.0
        total = mixtures.no_counts(model)
        for _, batch in ready:
            counts = mixtures.expect(model, batch, scale)
            total = mixtures.Counts(*(a + b for a, b in zip(total, counts, strict=True)))
        if aligner.numbers:
            model = estimate_in_context(total, model, aligner.kinds)
        else:
            model = mixtures.estimate(total, model)
        tick()
    return aligner._replace(model=model)


def _begin(
    corpus: Sequence[Spoken],
    scripts: Sequence[Script],
    listening: Listening,
    counts: dict[str, int],
    phase: float = 0.0,
) -> tuple[Aligner, list[Track]]:
    """A listener that knows nothing yet, and what it hears."""
    heard = [listen(spoken.sound, listening, phase) for spoken in corpus]
    centre = centring.learn(heard, listening.hop)
    states = inventory(counts)
    blank = mixtures.blank(states.size, heard[0].shape[1])
    aligner = Aligner(listening, phase, states, centre, blank, {}, torch.arange(states.size))
    tracks = [
        Track(centre(features), script, spoken.seconds)
        for features, script, spoken in zip(heard, scripts, corpus, strict=True)
    ]
    return aligner, tracks


def _flat_start(aligner: Aligner, tracks: Sequence[Track]) -> Aligner:
    """Every symbol as long as every other of its utterance. Where pauses are open, silence starts as what is quiet."""
    times = []
    for item in tracks:
        lasting = np.array([is_open == 0 for is_open in item.script.open_pauses], float)
        times.append(np.append(0.0, lasting.cumsum()) / max(1.0, lasting.sum()) * item.end)
    aligner = _segmented(aligner, tracks, times)
    if any(any(item.script.open_pauses) for item in tracks):
        frames = np.concatenate([item.features for item in tracks])
        quiet = torch.from_numpy(frames[frames[:, 0] <= np.quantile(frames[:, 0], QUIET)])
        state = aligner.inventory.first[SILENCE]
        aligner.model.mean[state, 0] = quiet.mean(0)
        aligner.model.variance[state, 0] = quiet.var(0).clamp(min=mixtures.FLOOR)
    return aligner


def _segmented(aligner: Aligner, tracks: Sequence[Track], times: Sequence[Edges]) -> Aligner:
    """The model of states that share each symbol's time equally."""
    total = mixtures.no_counts(aligner.model)
    for group, batch in batches(aligner, tracks):
        posterior = torch.zeros(*batch.features.shape[:2], batch.ids.shape[1])
        for row, i in enumerate(group):
            place = _place_of_frame(aligner, tracks[i], times[i])
            posterior[row, torch.arange(len(place)), torch.from_numpy(place)] = 1.0
        counts = mixtures.gather(aligner.model, batch, posterior[:, :, None])
        total = mixtures.Counts(*(a + b for a, b in zip(total, counts, strict=True)))
    return aligner._replace(model=mixtures.estimate(total, aligner.model))


def _place_of_frame(aligner: Aligner, item: Track, times: Edges) -> np.ndarray:
    owners = np.array(symbol_of_place(aligner, item.script))
    sizes = np.bincount(owners)
    nth = np.arange(len(owners)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    starts = times[owners] + nth / sizes[owners] * np.diff(times)[owners]
    begin = frames_at(starts, aligner.listening, aligner.phase)
    place = np.searchsorted(begin, np.arange(len(item.features)) + 0.5, side="right") - 1
    return np.clip(place, 0, len(owners) - 1)


def _from_times(
    corpus: Sequence[Spoken],
    scripts: Sequence[Script],
    times: Sequence[Edges],
    listening: Listening,
    counts: dict[str, int],
    iterations: int,
    tick: Tick,
) -> Aligner:
    aligner, tracks = _begin(corpus, scripts, listening, counts)
    aligner = em(_segmented(aligner, tracks, times), tracks, iterations, tick)
    while aligner.model.mean.shape[1] < listening.components:
        aligner = em(aligner._replace(model=mixtures.split(aligner.model)), tracks, iterations, tick)
    expanded = expand(aligner.model, aligner.inventory, scripts)
    return em(aligner._replace(**expanded._asdict()), tracks, CONTEXT_FIT, tick)


def _at_phases(
    corpus: Sequence[Spoken], scripts: Sequence[Script], aligner: Aligner, phases: Sequence[float], tick: Tick
) -> list[Aligner]:
    """The listener's own kind at other phases: its states, refitted to frames that lie elsewhere."""
    found = []
    for phase in phases:
        other = aligner._replace(phase=phase)
        found.append(
            em(other, [track(other, *pair) for pair in zip(corpus, scripts, strict=True)], REFIT, tick)
        )
    return found


def _answers(aligner: Aligner, corpus: Sequence[Spoken], scripts: Sequence[Script]):
    return answers(aligner, [track(aligner, *pair) for pair in zip(corpus, scripts, strict=True)])
