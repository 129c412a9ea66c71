"""How fast a voice made of the neural HMM speaks on one thread: text to sound at once, and to its first sound as a stream.

Text encoder, HMM frame by frame, perhaps the inverse flow, Griffin-Lim. Seconds are of the processor.
"""

import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from hmmtts.audio.mel import LogMel
from hmmtts.audio.vocoder import GriffinLim
from hmmtts.autoregressive import Autoregressive
from hmmtts.bench.neural_hmm_sizes import BINS, Work, apart
from hmmtts.bench.record import Record
from hmmtts.nn.aligners.neural_hmm import NeuralHMMAligner
from hmmtts.nn.decoders.flow import Flow
from hmmtts.nn.neural_hmm import NeuralHMM
from hmmtts.nn.neural_hmm.speech import Manner
from hmmtts.nn.neural_hmm.text import TextCells
from hmmtts.speech_model import Sizes

RATE, HOP = 22050, 256
FIRST = 16  # frames that the first sound is made of: 0.19 s
SYMBOLS = 148


class Speech(NamedTuple):
    mel: float  # seconds of work for a second of speech, without the vocoder
    sound: float
    first_frame: float  # ms until the first frame of mel
    first_sound: float  # until the first `FIRST` frames are sound


def run(work: Work, quick: bool) -> Iterator[Record]:
    plain, flow = (apart(measure, work, quick, through) for through in (False, True))
    rtf, first = "neural_hmm_synthesis_rtf", "neural_hmm_first_audio_ms"
    yield Record(rtf, "ours", plain.sound, "s per s of speech", 1.0, bar=None if quick else 1.0)
    for name, value in (("mel_only", plain.mel), ("flow", flow.sound), ("flow_mel_only", flow.mel)):
        yield Record(rtf, name, value, "s per s of speech", value / plain.sound)
    yield Record(first, "ours", plain.first_sound, "ms", 1.0)
    for name, value in (
        ("mel_frame_only", plain.first_frame),
        ("flow", flow.first_sound),
        ("flow_mel_frame_only", flow.first_frame),
    ):
        yield Record(first, name, value, "ms", value / plain.first_sound)


@torch.inference_mode()
def measure(work: Work, quick: bool, flow: bool) -> Speech:
    """One utterance of all the states; each figure the least of three."""
    torch.set_num_threads(1)
    model, vocoder = voice_of(work, flow), GriffinLim(LogMel(RATE, hop=HOP, n_mels=BINS))
    ids = torch.arange(work.n // 2) % SYMBOLS

    def sound(mel: Tensor) -> Tensor:
        return vocoder(2 * mel - 5)

    def stream() -> Iterator[Tensor]:
        return (frame.mel for frame in model.stream(ids, torch.zeros_like(ids)))

    sound(torch.stack(list(islice(stream(), FIRST))))
    whole, mels, frames, firsts = [], [], [], []
    for _ in range(1 if quick else 3):
        start = time.process_time()
        mel = torch.stack(list(stream()))
        made = time.process_time()
        sound(mel)
        mels.append((made - start) / (len(mel) * HOP / RATE))
        whole.append((time.process_time() - start) / (len(mel) * HOP / RATE))
        start, beginning = time.process_time(), stream()
        first = next(beginning)
        frames.append(1e3 * (time.process_time() - start))
        sound(torch.stack([first, *islice(beginning, FIRST - 1)]))
        firsts.append(1e3 * (time.process_time() - start))
    return Speech(min(mels), min(whole), min(frames), min(firsts))


def voice_of(work: Work, flow: bool) -> Autoregressive:
    """Untrained: what it says takes as long."""
    torch.manual_seed(0)
    aligner = partial(
        NeuralHMMAligner,
        text=TextCells,
        model=partial(NeuralHMM, prenet=work.prenet, memory=work.memory, hidden=work.hidden),
        width=work.cell,
    )
    hop = HOP / RATE
    sizes = Sizes(tuple(range(SYMBOLS)), BINS, BINS, hop=hop, acoustic_hop=hop)
    return Autoregressive(sizes, aligner, Manner(quantile=0.63), Flow if flow else None).eval()
