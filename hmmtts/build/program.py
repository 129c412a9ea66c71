"""Where the program's own conf/ and recipes/ lie, and which classes they name."""

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


@cache
def targets(*more: Path) -> frozenset[str]:
    """Every string that stands behind `_target_:` in conf/ and recipes/ of this program and in the folders named.

    A config that arrives inside a checkpoint may name these and nothing else: any prefix or block list can be got
    round through the attributes of a module.
    """
    found: set[str] = set()
    for root in (folder("conf"), folder("recipes"), *more):
        for path in sorted(root.rglob("*.yaml")):
            found.update(TARGET.findall(path.read_text(encoding="utf-8")))
    return frozenset(found)


def refuse_foreign_targets(config: object, known: frozenset[str], where: str = "config") -> None:
    """Raise ValueError for the first `_target_` in a stored config that the program itself does not name."""
    if isinstance(config, dict):
        target = config.get("_target_")
        if target is not None and target not in known:
            raise ValueError(
                f"{where}._target_ names {target!r}, which is not a component of this program: only what conf/ and "
                "recipes/ name is built from a stored config. If it is yours, name the folder of your YAML files"
            )
        for key, value in config.items():
            refuse_foreign_targets(value, known, f"{where}.{key}")
    elif isinstance(config, list):
        for index, value in enumerate(config):
            refuse_foreign_targets(value, known, f"{where}[{index}]")
