"""Configs of the whole program with everything small."""

from hydra import compose, initialize_config_dir

from hmmtts.build import program
from hmmtts.training.compose import register_recipes
from hmmtts.training.config import checked

VOICE = (
    "encoder.width=16", "encoder.layers=1", "encoder.dropout=0", "decoder.dilations=[1,2]", "pitch.layers=1",
    "pitch.dropout=0", "duration.layers=1", "duration.dropout=0", "aligner.encoder.width=16",
    "aligner.encoder.patience=0", "aligner.states_per_symbol=2",
)  # fmt: skip
NEURAL = (
    "aligner.width=16", "aligner.text.context.layers=1", "aligner.text.context.dropout=0", "aligner.model.prenet=8",
    "aligner.model.memory=8", "aligner.model.hidden=8", "aligner.model.dropout=0", "aligner.model.threshold=0",
    "aligner.model.patience=0",
)  # fmt: skip
FLOW = ("decoder.blocks=2", "decoder.width=8", "decoder.layers=1", "decoder.dropout=0")


def composed(*overrides: str) -> dict:
    """`overrides` choose; the sizes that go with the choice are added."""
    neural = "aligner=neural_hmm" in overrides
    sizes = (*NEURAL, *(FLOW if "decoder=flow" in overrides else ())) if neural else VOICE
    register_recipes()
    with initialize_config_dir(str(program.folder("conf")), version_base="1.3"):
        return checked(compose("train", overrides=["recipe=demo", "run.name=t", *overrides, *sizes]))
