"""Imports go down only: a package may import what stands on a lower line of LAYERS, and itself."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = [
    {"hmmtts.cli"},
    {"hmmtts.training"},
    {"hmmtts.synthesis"},
    {"hmmtts.align", "hmmtts.bench", "hmmtts.machine"},
    {"hmmtts.build"},
    {"hmmtts.autoregressive"},
    {"hmmtts.model", "hmmtts.data", "hmmtts.export"},
    {"hmmtts.speech_model"},
    {"hmmtts.nn", "hmmtts.metrics"},
    {"hmmtts.hmm", "hmmtts.audio", "hmmtts.text", "hmmtts.batch"},
]
LEVEL = {package: level for level, line in enumerate(LAYERS) for package in line}
MODULES = sorted((ROOT / "hmmtts").rglob("*.py"))


def package_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def imported(path: Path) -> set[str]:
    """Every module that the file imports, at the top or inside a function."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    here = list(parts if path.name != "__init__.py" else parts[:-1])
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + (path.name == "__init__.py")] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names.add(module)
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    if module == "hmmtts":
        return
    package = package_of(module)
    assert package in LEVEL, f"{package} has no line in LAYERS: decide where it belongs"
    for name in imported(path):
        if name.startswith("hmmtts.") and package_of(name) != package and package_of(name) in LEVEL:
            assert LEVEL[package_of(name)] > LEVEL[package], f"{module} imports {name}, which is not below it"
        if name.split(".")[0] in ("lightning", "pytorch_lightning"):
            assert package in ("hmmtts.training", "hmmtts.cli"), (
                f"{module} imports Lightning, which only hmmtts.training may"
            )
