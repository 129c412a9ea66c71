"""The command line itself: it starts at once, explains every verb, and imports nothing heavy to do so."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hmmtts import cli, machine

ROOT = Path(__file__).resolve().parents[2]
VERBS = sorted(path.stem for path in (ROOT / "hmmtts" / "cli").glob("[a-z]*.py"))
OWN_HELP = [verb for verb in VERBS if verb != "train"]  # train's help is Hydra's: tests/training


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_importing_hmmtts_prints_nothing_and_loads_nothing():
    result = python("import sys, hmmtts; assert 'torch' not in sys.modules and 'numpy' not in sys.modules")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_help_needs_no_heavy_import():
    heavy = "torch", "numpy", "lightning", "librosa", "lhotse", "numba", "hydra"
    result = python(
        "import sys; sys.argv = ['hmmtts', '--help']\n"
        "from hmmtts.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('loaded', [name for name in {heavy} if name in sys.modules])"
    )
    assert "loaded []" in result.stdout, result.stdout
    for verb in VERBS:
        assert verb in result.stdout


@pytest.mark.process
def test_help_takes_less_than_a_second():
    fastest = min(
        _seconds("import sys; sys.argv = ['hmmtts', '--help']; from hmmtts.cli import main; main()")
        for _ in range(3)
    )
    assert fastest < 1


def _seconds(code: str) -> float:
    start = time.monotonic()
    python(code)
    return time.monotonic() - start


@pytest.mark.parametrize("verb", OWN_HELP)
def test_every_verb_explains_itself(verb):
    result = CliRunner().invoke(cli.register(), [verb, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_the_doctor_tells_backends_apart():
    facts = dict(machine.backends())
    assert facts["backend reference"] == facts["backend cpu"] == "works"
    assert facts["backend gpu"] == "works" or facts["backend gpu"].startswith("off: ")
