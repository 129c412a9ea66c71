"""What a stored config names is built only if the program itself names it, or its user does."""

import sys
from pathlib import Path

import pytest

from hmmtts import cli
from hmmtts.build import bundle, checkpoint, objects, program


@pytest.mark.parametrize(
    "target",
    [
        "torch.load", "numpy.load", "os.system", "builtins.eval", "torch.optim.optimizer.torch.load",
        "lightning.fabric.utilities.cloud_io._load", "omegaconf.OmegaConf.save", "pathlib.Path.write_text", "hydra.utils.call",
    ],
)  # fmt: skip
def test_a_stored_config_names_only_what_the_program_names(target: str):
    config = {"decoder": {"layers": [{"_target_": target, "path": "canary"}]}}
    with pytest.raises(ValueError, match=rf"config\.decoder\.layers\[0\]\._target_ names '{target}'"):
        program.refuse_foreign_targets(config, program.targets())


TAKE_EFFECT = {
    "torch.save": {"_target_": "torch.save", "obj": 1, "f": "canary"},
    "io.open": {"_target_": "io.open", "file": "canary", "mode": "w"},
    "an attribute of a module": {"_target_": "torch.optim.optimizer.torch.save", "obj": 1, "f": "canary"},
}


@pytest.mark.parametrize("kind", TAKE_EFFECT)
def test_a_voice_whose_config_would_do_something_is_refused(kind: str, tmp_path: Path, monkeypatch, capsys):
    """By the verbs with exit code 2, before anything of it is built."""
    monkeypatch.chdir(tmp_path)
    objects.make(TAKE_EFFECT[kind])
    Path("canary").unlink()  # it would have worked
    config = {slot: {} for slot in bundle.SLOTS} | {"features": TAKE_EFFECT[kind]}
    header = {"format": 1, "step": 9, "config": config, "facts": {}}
    checkpoint.save({"hmmtts": header, "state_dict": {}}, Path("voice.ckpt"))
    monkeypatch.setattr(sys, "argv", ["hmmtts", "synthesize", "voice.ckpt", "A word.", "-o", "a.wav"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert f"names '{TAKE_EFFECT[kind]['_target_']}', which is not a component" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["voice.ckpt"]


def test_a_users_own_folder_adds_its_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mine.yaml").write_text("_target_: my.decoder.Decoder\nwidth: 4\n")
    mine = {"_target_": "my.decoder.Decoder"}
    program.refuse_foreign_targets(mine, program.targets(tmp_path))
    program.refuse_foreign_targets({"_target_": "torch.optim.AdamW"}, program.targets())
    with pytest.raises(
        ValueError, match=r"name the folder of your YAML files in the environment variable HMMTTS_CONF"
    ):
        program.refuse_foreign_targets(mine, program.targets())
    monkeypatch.setenv("HMMTTS_CONF", str(tmp_path))
    program.refuse_foreign_targets(mine, program.targets())


@pytest.mark.parametrize(
    "config",
    [
        {"text": {"words": "${oc.env:HOME}"}},
        {"a": ({"_target_": "torch.load"},)},
        {"_target_": ["torch.load"]},
        {"_target_": "${b}", "b": "torch.load"},
    ],
)
def test_ways_round_the_list_of_targets(config: dict):
    with pytest.raises(ValueError, match=r"names|holds values, not interpolations"):
        program.refuse_foreign_targets(config, program.targets())
