"""Other manners of a trained voice: what there is to vary depends on what the voice is made of."""

import copy
from dataclasses import replace

from hmmtts.autoregressive import Autoregressive
from hmmtts.nn.durations.geometric import Geometric
from hmmtts.nn.durations.semi_markov import SemiMarkov
from hmmtts.speech_model import SpeechModel


def varied(model: SpeechModel, temperature: float | None, quantile: float | None) -> SpeechModel:
    """A copy with these settings; None leaves one as it was trained. Raises ValueError where a voice has no such thing."""
    model = copy.deepcopy(model)
    if temperature is not None:
        if not isinstance(model, Autoregressive):
            raise ValueError(
                "temperature must be left out: only a neural HMM draws its frames, and this voice is none"
            )
        model.manner = replace(model.manner, temperature=temperature)
    if quantile is not None:
        if not 0 < quantile < 1:
            raise ValueError(f"quantile must lie between 0 and 1, got {quantile:g}")
        if isinstance(model, Autoregressive):
            model.manner = replace(model.manner, quantile=quantile, drawn=False)
        elif isinstance(model.duration, Geometric | SemiMarkov):
            model.duration.statistic, model.duration.quantile = "quantile", quantile
        else:
            raise ValueError(
                "quantile must be left out: this voice predicts one duration and no law of it; use the rate instead"
            )
    return model
