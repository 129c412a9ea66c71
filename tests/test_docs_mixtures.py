"""docs/mixtures.md as it is written: its examples run one after another, and its own emission trains a voice."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from hmmtts.build import program
from hmmtts.training.compose import register_recipes
from hmmtts.training.config import checked
from tests.training import test_run as small

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/mixtures.md").read_text(encoding="utf-8")
SMALL = [override for override in small.SMALL if not override.startswith(("recipe=", "run.name="))]


def blocks(text: str) -> list[str]:
    """What is indented by four columns, without them."""
    found = re.findall(r"(?:^    .*\n|^\n(?=\n*    ))+", text, re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE).strip("\n") + "\n" for block in found]


def named_files(text: str) -> dict[str, str]:
    """`NAME`: and the block below it."""
    return {
        match[1]: blocks(text[match.end() :])[0]
        for match in re.finditer(r"^`(mine/[\w./]+)`:\n", text, re.MULTILINE)
    }


@pytest.fixture
def mine(tmp_path: Path, monkeypatch) -> Path:
    """The folder that the page tells to make, on the paths that it tells to set."""
    for name, content in named_files(PAGE).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.setenv("HMMTTS_CONF", str(tmp_path / "mine/conf"))
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    monkeypatch.delitem(sys.modules, "laplace", raising=False)
    return tmp_path / "mine"


def test_the_examples_run_and_find_what_made_the_data(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known: dict = {}
    examples = [block for block in blocks(PAGE) if re.match(r"(import|from) ", block)]
    assert len(examples) == 3
    for example in examples:
        exec(compile(example, "docs/mixtures.md", "exec"), known)
    assert (tmp_path / "selection.png").stat().st_size > 10_000
    assert known["best"](known["judged"], by="bic").candidate == (3, 2)
    truth, model, x, frames = (known[name] for name in ("truth", "model", "x", "frames"))
    with torch.no_grad():
        assert float(model(x, frames).sum()) > float(truth(x, frames).sum())
    assert known["nats_per_frame"] == sorted(known["nats_per_frame"])


def test_the_emission_of_the_page_is_a_density_and_is_found_by_its_name(mine: Path):
    register_recipes()
    with initialize_config_dir(str(program.folder("conf")), version_base="1.3"):
        config = checked(
            compose("train", overrides=["recipe=demo", "emission=laplace", "emission.floor=0.2"])
        )
    assert config["aligner"]["emission"] == {"_target_": "laplace.Laplace", "_partial_": True, "floor": 0.2}
    from laplace import Laplace

    torch.manual_seed(0)
    emission = Laplace(width=4, features=2)
    for parameter in emission.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    axis = torch.linspace(-30, 30, 1201)
    grid = torch.cartesian_prod(axis, axis)[None]
    density = emission(torch.randn(1, 3, 4), grid).exp().sum(1) * 0.05**2
    torch.testing.assert_close(density, torch.ones(1, 3), atol=1e-3, rtol=0)
    emission(torch.randn(1, 3, 4), torch.randn(1, 5, 2)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in emission.parameters())


@pytest.mark.process
def test_the_commands_of_the_page_train_a_voice_and_let_it_speak(mine: Path):
    commands = next(block for block in blocks(PAGE) if block.startswith("export HMMTTS_CONF"))
    setting, train, synthesize = (shlex.split(line) for line in commands.splitlines())
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name, value in (word.split("=", 1) for word in setting[1:]):
        environment[name] = value
    environment["PYTHONPATH"] += f"{os.pathsep}{ROOT}"

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *arguments], cwd=mine.parent, env={**environment, **more}, capture_output=True, text=True,
            timeout=3600, check=False,
        )  # fmt: skip

    trained = run(str(ROOT / train[1]), *train[2:], *SMALL)
    assert trained.returncode == 0, trained.stderr[-3000:]
    log = (mine.parent / "runs/demo/laplace/train.log").read_text(encoding="utf-8")
    accuracy = float(re.findall(r"valid/alignment_accuracy ([\d.]+)", log)[-1])
    assert accuracy > 0.85  # equal parts of the utterance: 0.25
    verb = ("-c", "from hmmtts.cli import main; main()", *synthesize[1:])
    spoken = run(*verb)
    assert spoken.returncode == 0, spoken.stderr[-3000:]
    assert (mine.parent / "heavy.wav").stat().st_size > 10_000
    refused = run(*verb, HMMTTS_CONF="")
    assert refused.returncode != 0
    assert "HMMTTS_CONF" in refused.stderr
