"""From the command line to a config: recipes become a Hydra group, errors become sentences and exit code 2."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from hmmtts.build import program
from hmmtts.training import slurm
from hmmtts.training.config import checked
from hmmtts.training.faults import ConfigError, Interrupted, RankFailure, exit_code
from hmmtts.training.rank import report
from hmmtts.training.resolvers import register_resolvers
from hmmtts.training.signals import leave_on_signals


class OwnConf(SearchPathPlugin):
    """`emission=NAME` also finds emission/NAME.yaml in the folders that HMMTTS_CONF names."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for place in program.own():
            search_path.append("HMMTTS_CONF", f"file://{place}")


def register_recipes() -> None:
    """recipes/NAME/recipe.yaml -> `recipe=NAME`.

    Hydra's search path cannot reach a file of that name in a folder per recipe, and works only from the root of the
    checkout; the store also reaches the processes that DDP starts. The recipe's own name becomes the value of `recipe`.
    """
    register_resolvers()
    Plugins.instance().register(OwnConf)
    for name, path in program.recipes().items():
        node = OmegaConf.load(path)
        assert isinstance(node, DictConfig)
        node["recipe"] = name
        ConfigStore.instance().store(
            group="recipe", name=name, node=node, package="_global_", provider=str(path)
        )


def composed(overrides: Sequence[str]) -> DictConfig:
    """What a command line says, for programs that train nothing."""
    register_recipes()
    with hydra.initialize_config_dir(str(program.folder("conf")), version_base="1.3"):
        try:
            return hydra.compose("train", overrides=list(overrides))
        except HydraException as error:
            raise ConfigError(words_of(error)) from error


def config_of(overrides: Sequence[str]) -> dict:
    return checked(composed(overrides))


def main() -> None:
    """The program: what Hydra itself refuses (a typo on the command line) is a config error too."""
    register_recipes()
    if {"--help", "-h"} & set(sys.argv) and not any(word.startswith("recipe=") for word in sys.argv):
        # Help shows a composed config, which needs a recipe: any will do.
        sys.argv.append(f"recipe={min(program.recipes())}")
    begun, traced = False, "HYDRA_FULL_ERROR" in os.environ
    if not traced:  # Hydra then raises: what it would print ends with a line about this variable
        os.environ["HYDRA_FULL_ERROR"] = "1"

    @hydra.main(version_base="1.3", config_path=str(program.folder("conf")), config_name="train")
    def command(cfg: DictConfig) -> float | None:
        nonlocal begun
        begun = True
        if not traced:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        return execute(cfg)

    try:
        command()
    except (HydraException, OmegaConfBaseException) as error:
        if begun or traced:
            raise
        print(f"train: {words_of(error)}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as end:
        sys.exit(2 if end.code == 1 and not begun else end.code)
    finally:
        if not traced:
            os.environ.pop("HYDRA_FULL_ERROR", None)


def words_of(error: Exception) -> str:
    """What Hydra says is wrong; where it is a name, the names that there are come last."""
    words, cause = str(error).strip(), error.__cause__
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return f"{words.splitlines()[0]}\n{group} is one of {_known(error.options, name, f'{group}=')}"
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and isinstance(cause.parent_node, DictConfig):
        place, dot, name = str(cause.full_key).rpartition(".")
        names = [key for key in map(str, cause.parent_node) if key != "hydra" and not key.startswith("_")]
        return f"{words}\n{place or 'a config'} has {_known(names, name, place + dot)}"
    return words


def _known(names: Sequence[str], name: str, before: str) -> str:
    near = get_close_matches(name, names, 1)
    return ", ".join(names) + "".join(f"; did you mean {before}{one}?" for one in near)


def execute(cfg: DictConfig) -> float | None:
    """Run one config. The figure named by `objective` goes back to Hydra, for sweepers that search."""
    try:
        config = checked(cfg)
        job = HydraConfig.get()
        config["run"]["dir"] = str(Path(job.runtime.output_dir))
        if job.mode == RunMode.MULTIRUN and "BasicLauncher" in job.launcher._target_:
            refuse_parallel_sweep(config)
        if job.mode == RunMode.RUN and "SlurmLauncher" in job.launcher._target_:
            raise ConfigError(
                "hydra/launcher=slurm submits only with -m: python train.py -m hydra/launcher=slurm ..."
            )
        slurm.check_processes(config["trainer"])
        leave_on_signals()

        from hmmtts.training.run import run  # heavy: a wrong config is told at once

        results = run(config)
    except BaseException as error:
        report(error)  # where torchrun asked for it
        code = exit_code(error)
        if code == 1 and not isinstance(error, RankFailure):
            raise
        if isinstance(error, ConfigError):
            remove_empty(Path(HydraConfig.get().runtime.output_dir))
        print(f"train: {error}", file=sys.stderr)
        if isinstance(error, Interrupted) and config["run"]["requeue"]:
            slurm.requeue(error)
        slurm.let_the_others_end(code)
        sys.exit(code)
    return results["best"].get(config["objective"])


def remove_empty(folder: Path) -> None:
    """Hydra makes the run folder before anyone has looked at the config: a refused one leaves nothing behind."""
    with suppress(OSError):  # the first that holds something ends it
        for place in (folder, *folder.parents[:2]):
            place.rmdir()


def refuse_parallel_sweep(config: dict) -> None:
    """Each process that DDP starts would run the whole sweep again, in step with the others only by luck."""
    if config["trainer"]["devices"] not in (1, "1"):
        raise ConfigError(
            f"-m with trainer.devices={config['trainer']['devices']} needs one job per value: submit them with "
            "`python train.py -m hydra/launcher=slurm ...`, or run them one after the other, `for lr in 1e-3 2e-3; do "
            "python train.py optim.optimizer.lr=$lr ...; done`"
        )
