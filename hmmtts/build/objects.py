"""Config -> objects. What only the data knows (how many symbols, speakers, features) is passed here, never copied into YAML."""

import re
from typing import Any

from hydra.utils import instantiate

from hmmtts.audio.features import Features
from hmmtts.audio.vocoder import Vocoder
from hmmtts.build.facts import Facts
from hmmtts.data.loader import Loading
from hmmtts.speech_model import Sizes, SpeechModel
from hmmtts.text.frontend import Frontend
from hmmtts.text.symbols import SymbolTable


def make(node: dict, **known: Any) -> Any:
    """The object that a node of the config describes; `known` goes into it and is not in the config."""
    return instantiate(node, **known, _convert_="all")


def features(config: dict) -> Features:
    return make(config["features"])


def frontend(config: dict) -> Frontend:
    return make(config["text"])


def loading(config: dict) -> Loading:
    return make(config["data"])


def vocoder(config: dict, extractors: Features) -> Vocoder:
    return make(config["vocoder"], logmel=extractors.mel)


def sizes(facts: Facts, extractors: Features) -> Sizes:
    mel, acoustic = extractors.mel, extractors.acoustic
    return Sizes(
        kin=kin(facts.symbols),
        bins=mel.dim,
        hop=mel.hop_seconds,
        features=acoustic.dim,
        acoustic_hop=acoustic.hop_seconds,
        offset=mel.offset,
        acoustic_offset=acoustic.offset,
        speakers=len(facts.speakers),
        languages=len(facts.languages),
    )


def model(config: dict, facts: Facts, extractors: Features) -> SpeechModel:
    """Of the slots that the kind of model has; `none` leaves one out."""
    slots = ("encoder", "aligner", "duration", "decoder", "pitch")
    parts = {slot: make(config[slot]) for slot in slots if config[slot]}
    return make(config["model"])(sizes(facts, extractors), **parts)


def kin(symbols: SymbolTable) -> tuple[int, ...]:
    """For each symbol the number of the first one that differs from it only in stress: ˈa, ˌa and a; AA0, AA1 and AA2."""
    first: dict[str, int] = {}
    return tuple(
        first.setdefault(STRESS.sub("", symbol) or symbol, n) for n, symbol in enumerate(symbols.symbols)
    )


STRESS = re.compile(r"[ˈˌ]|(?<=[A-Z])[0-2]$")
