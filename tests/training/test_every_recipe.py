"""What a training of any recipe saves, with whatever conf/ offers, is loaded: as plain data, as a voice, by the next life."""

import re
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from hmmtts import build
from hmmtts.audio.normaliser import Normaliser
from hmmtts.build import checkpoint, objects, program
from hmmtts.build.bundle import Bundle
from hmmtts.build.facts import Facts
from hmmtts.text.symbols import SymbolTable
from hmmtts.training import run as runs
from hmmtts.training.callbacks.ema import EMA
from hmmtts.training.callbacks.position import Position
from hmmtts.training.compose import register_recipes
from hmmtts.training.config import checked
from hmmtts.training.faults import ConfigError
from hmmtts.training.run_folder import RunFolder
from hmmtts.training.task import Task
from hmmtts.training.trial import Shape, batch_of
from tests.training.state import assert_same

CONF = program.folder("conf")
RECIPES = sorted(program.recipes())
ALIGNERS = sorted(path.stem for path in (CONF / "aligner").glob("*.yaml"))
# Of every other group every file. The cells of the neural HMM belong to its two sizes; by how many processes, where and
# for how long a voice is trained is not in it.
ELSEWHERE = {"aligner", "aligner/cells", "debug", "hydra/launcher", "local", "trainer", "."}
OPTIONS = [
    f"{group}={path.stem}"
    for path in sorted(CONF.rglob("*.yaml"))
    if (group := path.parent.relative_to(CONF).as_posix()) not in ELSEWHERE
]
LAWS = ("Gamma", "Gaussian", "NegativeBinomial", "Poisson", "Table", "Weibull")
# What the comments of conf/ and the pages of docs/ offer on the command line.
OFFERED = [
    ("aligner.transitions._target_=hmmtts.nn.transitions.Learned",),
    *(("aligner=semi_markov", f"aligner.durations.law._target_=hmmtts.nn.duration_laws.{law}") for law in LAWS),
    *(("duration=semi_markov", f"duration.law._target_=hmmtts.nn.duration_laws.{law}") for law in LAWS),
    ("duration=geometric", "duration.statistic=quantile"),
    ("features.trim={_target_: hmmtts.audio.features.Trim, below_peak_db: 40, keep: 0.05}",),
    ("text=characters", "text.lexicon={knight: n i t}"),
    ("memory.out_of_memory=split", "trainer.precision=bf16-mixed"),
    ("callbacks.ema=null",),
]  # fmt: skip


def composed(*overrides: str) -> dict:
    """As train.py does."""
    register_recipes()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return checked(compose("train", overrides=["data_dir=corpus", "run.name=t", *overrides]))


def life(config: dict, folder: Path) -> tuple[Task, Trainer]:
    """Of a run of one step, by the training's own code but for the corpus: a batch of noise stands for it."""
    features = objects.features(config)
    width = features.acoustic.dim
    facts = Facts(
        symbols=SymbolTable(("_", "sil", "a", "ˈa", "AA0")),
        mel=Normaliser((0.5,), (2.0,)),
        acoustic=Normaliser((0.5,) * width, (2.0,) * width),
        speakers=("anna", "bert"),
        languages=("en",),
        frames_per_symbol=20.0,
    )
    start = RunFolder(folder).start("auto")
    runs._refuse_another_config(config, start)
    torch.manual_seed(start.step)  # another model, where the first life's is not read back
    model = objects.model(config, facts, features)
    objects.make(config["memory"]).apply(model)
    vocoder = objects.vocoder(config, features)
    task = runs._task(
        config, Bundle(model, facts, features, objects.frontend(config), vocoder, config, start.step)
    )
    trainer = runs._trainer(config, RunFolder(folder), start, [Position(config["seed"])])
    batch = batch_of(Shape(2, 3, 60), model.sizes)
    trainer.fit(
        task, DataLoader([batch], batch_size=None), ckpt_path=start.checkpoint, weights_only=True
    )  # fmt: skip
    return task, trainer


def state(task: Task, trainer: Trainer) -> dict:
    """What must be the same after a life that only reads it."""
    averages = [callback.state_dict() for callback in trainer.callbacks if isinstance(callback, EMA)]
    schedules = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]
    schedules = [{key: value for key, value in one.items() if key != "lr_lambdas"} for one in schedules]
    return {
        "weights": task.state_dict(),
        "optimizer": [optimizer.state_dict() for optimizer in trainer.optimizers],
        "average": averages,
        "schedule": schedules,
        "step": trainer.global_step,
    }


def check(folder: Path, *overrides: str) -> None:
    config = composed(*overrides, "trainer.max_steps=1", "trainer.accelerator=cpu", f"run.dir={folder}")
    task, trainer = life(config, folder)
    saved = folder / "checkpoints" / "last.ckpt"

    content = checkpoint.load(saved)
    assert_same(content, torch.load(saved, weights_only=True))
    believed = {kind.__module__.split(".")[0] for kind in torch.serialization.get_safe_globals()}
    assert believed <= {"torch"}, "someone has widened what torch believes"
    assert content["hmmtts"]["step"] == trainer.global_step == 1
    assert_same(content["state_dict"], task.state_dict())
    assert_same(content["optimizer_states"], [optimizer.state_dict() for optimizer in trainer.optimizers])
    assert content["hmmtts"]["config"] == config

    voice = build.load(saved)
    assert voice.config == config
    assert voice.facts == task.bundle.facts
    assert_same(voice.model.state_dict(), build.bundle.weights(content))

    before = state(task, trainer)
    assert before["average"] or not config["callbacks"]["ema"]
    assert_same(state(*life(config, folder)), before)


@pytest.mark.parametrize(
    "recipe", [name if name == "demo" else pytest.param(name, marks=pytest.mark.process) for name in RECIPES]
)
def test_of_every_recipe(recipe: str, tmp_path: Path):
    check(tmp_path, f"recipe={recipe}")


@pytest.mark.parametrize("aligner", ["mixture", "neural_hmm", "semi_markov"])  # those that no recipe chooses
def test_of_every_kind_of_model(aligner: str, tmp_path: Path):
    check(tmp_path, "recipe=demo", f"aligner={aligner}")


@pytest.mark.process
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("aligner", ALIGNERS)
def test_of_every_recipe_with_every_kind_of_model(recipe: str, aligner: str, tmp_path: Path):
    check(tmp_path, f"recipe={recipe}", f"aligner={aligner}")


@pytest.mark.process
@pytest.mark.parametrize("option", OPTIONS)
def test_of_every_other_choice(option: str, tmp_path: Path):
    """With the first kind of model that it goes together with: there must be one."""
    reasons = []
    for aligner in ("hmm", "neural_hmm", "semi_markov"):
        try:
            composed("recipe=demo", f"aligner={aligner}", option)
        except ConfigError as error:
            reasons.append(str(error))
        else:
            return check(tmp_path, "recipe=demo", f"aligner={aligner}", option)
    pytest.fail(f"{option} goes with no model: {reasons}")


@pytest.mark.process
@pytest.mark.parametrize("overrides", OFFERED, ids=" ".join)
def test_of_what_comments_and_pages_offer(overrides: tuple[str, ...], tmp_path: Path):
    check(tmp_path, "recipe=demo", *overrides)


def test_what_the_pages_name_may_be_named_in_a_checkpoint():
    pages = [*(CONF.parent / "docs").glob("*.md"), *CONF.parent.glob("*.md")]
    named = {name for page in pages for name in re.findall(r"_target_=([\w.]*\w)", page.read_text())}
    offered = {
        override.split("_target_=")[1] for choice in OFFERED for override in choice if "_target_=" in override
    }
    assert named <= offered <= program.targets()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "optim.optimizer._target_=torch.optim.NAdam",
            r"no voice trained like this could be loaded: .*'torch\.optim\.NAdam'.*HMMTTS_CONF",
        ),
        ("decoder=flow", "got Flow; decoder=flow goes with aligner=neural_hmm"),
    ],
)
def test_what_cannot_work_is_refused_before_it_is_trained(override: str, message: str):
    with pytest.raises(ConfigError, match=message):
        composed("recipe=demo", override)


def test_a_lexicon_goes_with_the_voice(tmp_path: Path):
    """Its file stays where it was trained."""
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("Knight n i t  # no k\n")
    config = composed("recipe=demo", "text=characters", f"text.lexicon={lexicon}")
    lexicon.unlink()
    assert config["text"]["lexicon"] == {"knight": "n i t"}
    assert objects.frontend(config)("a knight").symbols == ["sil", "a", "n", "i", "t", "sil"]
