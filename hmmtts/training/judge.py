"""What a validation reports beyond the losses: alignment against the corpus's own times, durations, health.

b utterances, s symbols, n states, u frames of the aligner.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hmmtts.batch import Batch, Prediction
from hmmtts.build.bundle import Bundle
from hmmtts.build.objects import make
from hmmtts.hmm import LeftToRight
from hmmtts.metrics.timing import Spans
from hmmtts.nn.aligners.hmm import HMMAligner
from hmmtts.nn.emissions.gaussian import Gaussian
from hmmtts.nn.lengths import Mean
from hmmtts.speech_model import SpeechModel
from hmmtts.text.frontend import Mark
from hmmtts.training.health import NEVER, Health, measure, over
from hmmtts.training.joining import Tally


def spoken(batch: Batch) -> Bool[Tensor, "b s"]:
    """Pauses and punctuation are in no word and have no time that anyone would judge."""
    return batch.marks != Mark.PAUSE


def inside(model: SpeechModel, batch: Batch) -> dict[str, Mean]:
    """What only a Gaussian HMM has: its deviations and its probabilities of leaving a state."""
    if not isinstance(model.aligner, HMMAligner):
        return {}
    trellis = model.aligner.trellis(batch)
    assert isinstance(trellis.topology, LeftToRight)
    real = torch.arange(trellis.cells.shape[1], device=trellis.states.device) < trellis.states[:, None]
    figures = {"leave": over(trellis.topology.move.exp()[real])}
    emission = model.aligner.layer.emission
    if isinstance(emission, Gaussian):
        deviation = emission.gaussians(trellis.cells).deviation[real]
        figures["floored"] = over((deviation < 1.01 * emission.floor).float())
    return figures


def synthesize(model: SpeechModel, batch: Batch, durations: Float[Tensor, "b s"] | None = None) -> Prediction:
    """The batch's texts, spoken."""
    return model.synthesize(
        batch.ids, batch.symbols, batch.marks, batch.speaker, batch.language, durations=durations
    )


class Judge:
    """Figures accumulated over the batches of a validation and reduced over all ranks.

    A repeat that only keeps the ranks in step is never given to it; a rank may have no utterance at all.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.hop_seconds = bundle.features.mel.hop_seconds
        self.alignment = make(bundle.config["metrics"]["alignment"])
        self.durations = make(bundle.config["metrics"]["durations"])
        # Nats per frame of one Gaussian for all frames of normalised features: the cost of no alignment at all.
        self.flat_nats = 0.5 * bundle.features.acoustic.dim * math.log(2 * math.pi * math.e)
        self.measured = Tally(Health._fields)
        self.health = Health(*[math.nan] * len(Health._fields))  # of the last validation
        self.starts: dict[str, Tensor] = {}  # of the validation before, by utterance

    def update(self, model: SpeechModel, batch: Batch) -> None:
        self._move(batch.frames.device)
        aligned = model.align(batch)
        found, speech = Spans(aligned.starts, aligned.ends), spoken(batch)
        seconds = batch.frames * self.hop_seconds
        self.alignment.update(Spans(batch.starts, batch.ends), found, batch.symbols, speech, seconds)
        predicted = synthesize(model, batch).durations
        self.durations.update(batch.ends - batch.starts, predicted, batch.symbols, speech)
        per_symbol = model.aligner.states_per_symbol
        health = measure(aligned.alignment, batch.acoustic_frames, batch.symbols, per_symbol)
        self.measured.add({**health, "boundary_shift_ms": self._shift(batch, found), **inside(model, batch)})

    def _shift(self, batch: Batch, found: Spans) -> Mean:
        """How far the symbols' starts have moved since the last validation, in ms; nothing at the first one."""
        moved = []
        for index, name in enumerate(batch.names):
            starts = found.starts[index, : batch.symbols[index]].cpu()
            if name in self.starts:
                moved.append((starts - self.starts[name]).abs().mean())
            self.starts[name] = starts
        return over(1000 * torch.stack(moved)) if moved else NEVER

    def compute(self, device: torch.device) -> dict[str, float]:
        self._move(device)
        figures = {
            name: float(v) for m in (self.alignment, self.durations) for name, v in m.compute().items()
        }
        self.health = Health.of(self.measured.compute(device))
        return {**figures, **self.health._asdict()}

    def _move(self, device: torch.device) -> None:
        for metric in (self.alignment, self.durations):
            if metric.device != device:
                metric.to(device)
                # `to` forgets it, and a rank without updates then gathers float32.
                metric.set_dtype(torch.float64)

    def reset(self) -> None:
        self.alignment.reset()
        self.durations.reset()
        self.measured = Tally(Health._fields)
