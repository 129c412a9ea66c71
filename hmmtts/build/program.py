"""Where the program's own conf/ and recipes/ lie, and which classes they name."""

import os
import re
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
TARGET = re.compile(r"_target_:\s*[\"']?([\w.]+)")


def folder(name: str) -> Path:
    """conf or recipes: inside an installed package as _conf and _recipes, else beside it in the checkout."""
    installed = PACKAGE / f"_{name}"
    return installed if installed.is_dir() else PACKAGE.parent / name


def recipes() -> dict[str, Path]:
    """Every folder of recipes/ that holds a recipe.yaml, by name."""
    return {path.parent.name: path for path in sorted(folder("recipes").glob("*/recipe.yaml"))}


def own() -> list[Path]:
    """The folders of a user's own YAML, laid out as conf/, that the environment names in HMMTTS_CONF."""
    return [Path(name).resolve() for name in os.environ.get("HMMTTS_CONF", "").split(os.pathsep) if name]


def targets(*more: Path) -> frozenset[str]:
    """Every string that stands behind `_target_:` in conf/ and recipes/ of this program, in the folders named here,
    and in the user's own.

    A config that arrives inside a checkpoint may name these and nothing else: any prefix or block list can be got
    round through the attributes of a module.
    """
    return _targets(folder("conf"), folder("recipes"), *more, *own())


@cache
def _targets(*roots: Path) -> frozenset[str]:
    found: set[str] = set()
    for root in roots:
        for path in sorted(root.rglob("*.yaml")):
            found.update(TARGET.findall(path.read_text(encoding="utf-8")))
    return frozenset(found)


def refuse_foreign_targets(config: object, known: frozenset[str], where: str = "config") -> None:
    """Raise ValueError for the first `_target_` in a stored config that the program itself does not name, and for an
    interpolation: `${oc.env:...}` would read the reader's environment. What a training stores has none left.
    """
    if isinstance(config, dict):
        if "_target_" in config and str(config["_target_"]) not in known:
            raise ValueError(
                f"{where}._target_ names {config['_target_']!r}, which is not a component of this program: only what "
                "conf/ and recipes/ name is built from a stored config. If it is yours, name the folder of your YAML "
                "files in the environment variable HMMTTS_CONF"
            )
        for key, value in config.items():
            refuse_foreign_targets(value, known, f"{where}.{key}")
    elif isinstance(config, (list, tuple)):
        for index, value in enumerate(config):
            refuse_foreign_targets(value, known, f"{where}[{index}]")
    elif isinstance(config, str) and "${" in config:
        raise ValueError(f"{where} is {config!r}: a stored config holds values, not interpolations")
