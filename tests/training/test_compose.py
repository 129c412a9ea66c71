"""Every recipe composes and its objects can be made; what cannot work is refused by name, with exit code 2, at once."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from hmmtts.build import program
from hmmtts.training.compose import main, refuse_parallel_sweep, register_recipes
from hmmtts.training.config import checked
from hmmtts.training.faults import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def composed(*overrides: str) -> dict:
    register_recipes()
    with initialize_config_dir(str(program.folder("conf")), version_base="1.3"):
        return checked(compose("train", overrides=list(overrides)))


@pytest.mark.parametrize("recipe", sorted(program.recipes()))
def test_every_recipe_composes_and_its_model_can_be_built(recipe: str):
    config = composed(f"recipe={recipe}", "data_dir=somewhere")
    assert config["recipe"] == recipe
    assert config["run"]["dir"].startswith(f"runs/{recipe}/")
    assert (program.recipes()[recipe].parent / "prepare.py").is_file()
    assert (program.recipes()[recipe].parent / "README.md").is_file()


def test_precedence_from_page_to_recipe_to_command_line():
    assert (
        composed("recipe=demo")["text"]["_target_"] == "hmmtts.text.espeak.Espeak"
    )  # the recipe, over the page
    assert composed("recipe=demo", "trainer.max_steps=7")["trainer"]["max_steps"] == 7


WRONG = {
    "trainer.max_steps=0": r"trainer\.max_steps must be a whole number of steps, at least 1, got 0",
    "trainer.max_epochs=3": r"trainer\.max_epochs must be -1: the length of a run is trainer\.max_steps, got 3",
    "resume=perhaps": r"resume must be one of auto, must, never, got 'perhaps'",
    "run.name=a/b": r"run\.name must be a folder's name, got 'a/b'",
    "+encoder.widht=3": r"encoder\.widht: .*ConvLSTM takes no such argument; it takes width, layers",
    "+callbacks.mine._target_=hmmtts.nowhere.Callback": r"callbacks\.mine\._target_: 'hmmtts\.nowhere\.Callback' cannot be",
    "features.mel.fmax=90000": r"features: fmax must not exceed half the sample rate",
    "decoder.kernel=4": r"decoder or pitch: kernel must be odd.*take 5",
    "optim.schedule.warmup=100": r"optim\.schedule: warmup must be a share of the steps",
    "callbacks.checkpoint.mode=best": r"callbacks\.checkpoint: mode must be min or max, got 'best'",
}


@pytest.mark.parametrize("override", WRONG)
def test_a_value_that_cannot_work_is_named(override: str):
    with pytest.raises(ConfigError, match=WRONG[override]):
        composed("recipe=demo", override)


def test_a_key_that_the_recipe_needs_is_asked_for():
    with pytest.raises(ConfigError, match=r"data_dir has no value: add data_dir=\.\.\. to the command line"):
        composed("recipe=folder")


def test_a_sweep_over_several_devices_is_refused():
    with pytest.raises(ConfigError, match=r"-m with trainer\.devices=2 needs one job per value"):
        refuse_parallel_sweep(composed("recipe=demo", "trainer=ddp", "trainer.devices=2"))


def program_says(
    *arguments: str, command: tuple[str, ...] = (str(ROOT / "train.py"),), cwd: Path
) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, *command, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.process
def test_the_command_line_answers(tmp_path: Path):
    code, said = program_says("recipe=typo", cwd=tmp_path)
    assert code == 2
    assert (
        said
        == f"train: In 'train': Could not find 'recipe/typo'\nrecipe is one of {', '.join(program.recipes())}\n"
    )
    code, said = program_says(cwd=tmp_path)
    assert (code, "You must specify 'recipe'" in said) == (2, True)
    assert said.split()[-len(program.recipes()) :] == list(program.recipes())
    code, said = program_says("recipe=demo", "trainer.max_stepz=3", cwd=tmp_path)
    assert (code, "train: Could not override 'trainer.max_stepz'" in said) == (2, True)
    assert said.endswith("; did you mean trainer.max_steps?\n")
    code, said = program_says("recipe=demo", "trainer.max_steps=0", cwd=tmp_path)
    assert (code, "train: trainer.max_steps must be" in said) == (2, True)
    code, said = program_says("recipe=demo", "--cfg", "job", cwd=tmp_path)
    assert (code, "recipe: demo" in said) == (0, True)
    assert not list(tmp_path.iterdir()), "a config error touched the disk"


@pytest.mark.process
def test_the_verb_is_the_same_program(tmp_path: Path):
    verb = ("-c", "from hmmtts.cli import main; main()", "train")
    code, said = program_says("recipe=demo", "--cfg", "job", command=verb, cwd=tmp_path)
    assert (code, "recipe: demo" in said) == (0, True)
    code, said = program_says("recipe=fodler", command=verb, cwd=tmp_path)
    assert (code, said.endswith("; did you mean recipe=folder?\n")) == (2, True)
    code, said = program_says("recipe=demo", "trainr.max_steps=3", command=verb, cwd=tmp_path)
    assert (code, said.endswith("; did you mean trainer?\n")) == (2, True)


@pytest.mark.parametrize("arguments", [["--help"], ["--help", "recipe=folder"]])
def test_help_needs_no_recipe(arguments: list[str], monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None)
    assert "recipe: demo, folder, ljspeech" in capsys.readouterr().out
