"""recipe=ljspeech: what it trains composes, can be made, and is of the size that its README reckons with."""

import pytest
from hydra import compose, initialize_config_dir

from hmmtts.autoregressive import Autoregressive
from hmmtts.build import objects, program
from hmmtts.model import TTSModel
from hmmtts.training.compose import register_recipes
from hmmtts.training.config import SOME_FACTS, checked

LONGEST = 10.1  # seconds, of LJSpeech's clips


@pytest.mark.parametrize(
    ("choices", "kind"),
    [
        (["aligner=hmm"], TTSModel),
        (["aligner=neural_hmm_15m"], Autoregressive),
        (["aligner=neural_hmm_15m", "decoder=flow"], Autoregressive),
    ],
    ids=["hmm", "neural_hmm", "flow"],
)
def test_both_kinds_of_voice_can_be_made(choices, kind):
    register_recipes()
    with initialize_config_dir(str(program.folder("conf")), version_base="1.3"):
        config = checked(compose("train", overrides=["recipe=ljspeech", "data_dir=somewhere", *choices]))
    model = objects.model(config, SOME_FACTS, objects.features(config))
    assert type(model) is kind
    assert config["trainer"]["precision"] == "bf16-mixed"
    data = config["data"]
    assert data["max_seconds"] >= LONGEST * data["max_items"] * 0.9  # a batch is whole, or nearly so
    if kind is Autoregressive:
        parameters = sum(parameter.numel() for parameter in model.aligner.parameters())
        assert parameters == 15_291_121 - (148 - len(SOME_FACTS.symbols.symbols)) * 512
