"""A small voice and batches of random speech for it."""

from functools import partial

import torch

from hmmtts.batch import Batch
from hmmtts.model import TTSModel
from hmmtts.nn.aligners.hmm import HMMAligner
from hmmtts.nn.decoders.conv import Conv
from hmmtts.nn.durations.regression import Regression
from hmmtts.nn.emissions.gaussian import Gaussian
from hmmtts.nn.encoders.conv_lstm import ConvLSTM
from hmmtts.nn.encoders.neighbours import Neighbours
from hmmtts.nn.pitch import Pitch
from hmmtts.nn.transitions import Predicted
from hmmtts.speech_model import Sizes

SYMBOLS, BINS, FEATURES = 9, 6, 4


def voice(encoder=None, decoder=Conv, duration=Regression, speakers=1, languages=1, patience=0) -> TTSModel:
    torch.manual_seed(0)
    sizes = Sizes(
        tuple(range(SYMBOLS)),
        BINS,
        FEATURES,
        hop=0.01,
        acoustic_hop=0.005,
        speakers=speakers,
        languages=languages,
    )
    aligner = partial(
        HMMAligner,
        encoder=Neighbours(8, patience=patience),
        emission=Gaussian,
        transitions=Predicted,
        states_per_symbol=2,
    )
    return TTSModel(sizes, encoder or ConvLSTM(16), aligner, duration, decoder, partial(Pitch, bumps=12))


def formed(model: TTSModel) -> TTSModel:
    """Away from the flat start, whose states are all alike: no path is better than another there."""
    for parameter in (model.aligner.layer.emission.parameters_of, model.aligner.layer.transitions.leave):
        torch.nn.init.normal_(parameter.weight)
    return model.eval()


def speech(symbols=(5, 3, 6), acoustic_frames=(40, 24, 31), names=None, seed=0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    lengths, acoustic = torch.tensor(symbols), torch.tensor(acoustic_frames)
    frames = (acoustic + 1) // 2
    b, s, t, u = len(symbols), int(lengths.max()), int(frames.max()), int(acoustic.max())

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    def whole(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=generator)

    unknown = torch.full((b, s), torch.nan)
    f0 = (100 + 50 * random(b, t).abs()) * (random(b, t) > 0)
    return Batch(
        names or [f"u{index}" for index in range(b)], 1 + whole(SYMBOLS - 1, b, s), lengths, whole(5, b, s),
        random(b, t, BINS), frames, f0, random(b, u, FEATURES), acoustic, whole(2, b), whole(2, b), unknown, unknown,
    )  # fmt: skip
