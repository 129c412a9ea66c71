"""A composed config is checked before any data is touched: every complaint names its key and the mend."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from hydra.errors import InstantiationException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hmmtts.audio.normaliser import Normaliser
from hmmtts.build import objects, program
from hmmtts.build.facts import Facts
from hmmtts.text.lexicon import Lexicon
from hmmtts.text.symbols import SymbolTable
from hmmtts.training.combinations import check_trainer
from hmmtts.training.faults import ConfigError
from hmmtts.training.run_folder import RESUME


class Rule(NamedTuple):
    key: str
    holds: Callable[[Any], bool]
    demand: str


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


RULES = (
    Rule("seed", _whole(0), "a whole number, at least 0"),
    Rule("resume", lambda value: value in RESUME, f"one of {', '.join(RESUME)}"),
    Rule(
        "run.name",
        lambda value: str(value) not in ("", ".", "..") and "/" not in str(value),
        "a folder's name",
    ),
    Rule("trainer.max_steps", _whole(1), "a whole number of steps, at least 1"),
    Rule(
        "trainer.val_check_interval",
        _whole(1),
        "a whole number of steps, at least 1: the run is counted in steps",
    ),
    Rule("trainer.accumulate_grad_batches", _whole(1), "a whole number, at least 1"),
    Rule("trainer.num_nodes", _whole(1), "a whole number, at least 1"),
    Rule("trainer.max_epochs", lambda value: value == -1, "-1: the length of a run is trainer.max_steps"),
    Rule(
        "trainer.check_val_every_n_epoch", lambda value: value is None, "null: set trainer.val_check_interval"
    ),
    Rule(
        "trainer.use_distributed_sampler",
        lambda value: value is False,
        "false: the sampler shares out the data itself",
    ),
)


def checked(cfg: DictConfig) -> dict:
    """The config as plain data, everything resolved, or ConfigError."""
    try:
        OmegaConf.resolve(cfg)
        missing = sorted(OmegaConf.missing_keys(cfg))
        config = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key or 'config'}: {str(error).splitlines()[0]}") from error
    assert isinstance(config, dict)
    missing += [key for key in config["requires"] if config.get(key) is None]
    if missing:
        raise ConfigError(
            "; ".join(f"{key} has no value: add {key}=... to the command line" for key in missing)
        )
    for rule in RULES:
        value = look_up(config, rule.key)
        if not rule.holds(value):
            raise ConfigError(f"{rule.key} must be {rule.demand}, got {value!r}")
    check_trainer(config)
    for where, node in targets(config):
        check_target(where, node)
    refuse_unloadable(config)
    for key in MADE_FROM_CONFIG:
        check_parts(key, look_up(config, key))
    try:
        objects.model(config, SOME_FACTS, objects.features(config))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"encoder, aligner, duration, decoder or pitch: {error}") from error
    take_in_lexicon(config["text"])
    return config


# What needs nothing that only the data knows: made once in advance, so that a value that cannot work is refused now.
MADE_FROM_CONFIG = (
    "text", "features", "data", "encoder", "aligner", "duration", "pitch", "decoder", "optim", "callbacks", "metrics", "memory"
)  # fmt: skip


# Any two symbols, so that the model can be built once before the data is known.
SOME_FACTS = Facts(
    symbols=SymbolTable(("_", "a", "b")),
    mel=Normaliser((0.0,), (1.0,)),
    acoustic=Normaliser((0.0,), (1.0,)),
    speakers=("",),
    languages=("",),
    frames_per_symbol=10.0,
)


def take_in_lexicon(text: dict) -> None:
    """The words in place of the file's name: the voice speaks them wherever it is taken, and a resumed run sees a change."""
    if isinstance(text.get("lexicon"), str):
        words = Lexicon.read(text["lexicon"]).words
        text["lexicon"] = {word: " ".join(symbols) for word, symbols in words.items()}


def refuse_unloadable(config: dict) -> None:
    """What names a class that stored configs may not name would train for days and then not be loaded."""
    try:
        program.refuse_foreign_targets(config, program.targets())
    except ValueError as error:
        raise ConfigError(f"no voice trained like this could be loaded: {error}") from error


def check_parts(where: str, node: Any) -> None:
    if not isinstance(node, dict):
        return
    if "_target_" not in node:
        for key, value in node.items():
            check_parts(f"{where}.{key}", value)
        return
    try:
        objects.make(node)
    except InstantiationException as error:
        cause = error.__cause__ or error
        raise ConfigError(f"{where}: {cause}") from error


def difference(before: Any, now: Any, where: str) -> Iterator[str]:
    """What differs between two configs, value by value."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from difference(before.get(key), now.get(key), f"{where}.{key}")
    elif before != now:
        yield f"{where} was {before!r}, is {now!r}"


def look_up(config: dict, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise ConfigError(f"{key} is missing from the config: take it from conf/ again")
        value = value[part]
    return value


def targets(config: Any, where: str = "") -> Iterator[tuple[str, dict]]:
    """Every node that describes an object, with its key."""
    if isinstance(config, dict):
        if "_target_" in config:
            yield where, config
        for key, value in config.items():
            yield from targets(value, f"{where}.{key}" if where else str(key))
    elif isinstance(config, list):
        for index, value in enumerate(config):
            yield from targets(value, f"{where}[{index}]")


def check_target(where: str, node: dict) -> None:
    """The class exists and takes every argument given: a misspelt key in a recipe is found here and not in an hour."""
    name = node["_target_"]
    try:
        target = get_object(name)
    except Exception as error:  # whatever an import may raise
        reason = (str(error).splitlines() or [type(error).__name__])[-1]
        raise ConfigError(f"{where}._target_: {name!r} cannot be imported ({reason})") from error
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return  # written in C: nothing to compare with
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key in node:
        if key not in parameters and not str(key).startswith("_"):
            raise ConfigError(
                f"{where}.{key}: {name} takes no such argument; it takes {', '.join(parameters)}"
            )
