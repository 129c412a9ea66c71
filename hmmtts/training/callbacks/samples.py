"""A few validation sentences seen and heard at every validation: mels, posterior and path, transitions, sound."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from hmmtts.batch import Batch
from hmmtts.build.bundle import Bundle
from hmmtts.hmm import LeftToRight
from hmmtts.nn.aligners.hmm import HMMAligner
from hmmtts.training import pictures
from hmmtts.training.judge import synthesize
from hmmtts.training.logger import EventLogger
from hmmtts.training.task import Task


class Samples(Callback):
    def __init__(self, sentences: int = 2):
        self.sentences = sentences

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
        *_: object,
    ) -> None:
        """Of the first batch, which is the same every time; the averaged weights are in place here."""
        assert isinstance(pl_module, Task)
        first = batch_idx == 0 and trainer.is_global_zero and not trainer.sanity_checking
        if first and isinstance(trainer.logger, EventLogger) and pl_module.bundle is not None:
            with torch.inference_mode():
                show(
                    trainer.logger,
                    pl_module.bundle,
                    batch,
                    min(self.sentences, len(batch.names)),
                    trainer.global_step,
                )


def show(logger: EventLogger, bundle: Bundle, batch: Batch, count: int, step: int) -> None:
    mel, acoustic = bundle.features.mel, bundle.features.acoustic
    prediction, aligned = synthesize(bundle.model, batch), bundle.model.align(batch)
    for index in range(count):
        made = bundle.facts.mel.inverse(prediction.mel[index, : prediction.frames[index]].cpu())
        target = bundle.facts.mel.inverse(batch.mel[index, : batch.frames[index]].cpu())
        symbols = bundle.facts.symbols.decode(batch.ids[index, : batch.symbols[index]].tolist())
        frames, states = (
            int(batch.acoustic_frames[index]),
            len(symbols) * bundle.model.aligner.states_per_symbol,
        )
        logger.picture(
            f"mel/{index}",
            pictures.mel_against_target(made.numpy(), target.numpy(), mel.hop_seconds, batch.names[index]),
            step,
        )
        logger.picture(
            f"alignment/{index}",
            pictures.posterior_and_path(
                aligned.alignment.posterior[index, :frames, :states].cpu().numpy(),
                aligned.alignment.path[index, :frames].cpu().numpy(),
                symbols,
                batch.starts[index, : len(symbols)].cpu().numpy(),
                acoustic.hop_seconds,
                batch.names[index],
            ),
            step,
        )
        logger.audio(f"speech/{index}", bundle.vocoder(made).numpy(), mel.sample_rate, step)
        logger.audio(
            f"recording through the vocoder/{index}", bundle.vocoder(target).numpy(), mel.sample_rate, step
        )
        if isinstance(bundle.model.aligner, HMMAligner):
            arcs = bundle.model.aligner.trellis(batch).topology
            assert isinstance(arcs, LeftToRight)
            leave = arcs.move[index, :states].exp()
            logger.picture(
                f"transitions/{index}",
                pictures.transitions(leave.cpu().numpy(), symbols, batch.names[index]),
                step,
            )
