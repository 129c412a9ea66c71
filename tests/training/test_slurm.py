"""What a job of SLURM may be started with, and when it asks to be put back; tests/slurm runs the real thing."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from hmmtts.build import program
from hmmtts.training import slurm
from hmmtts.training.compose import register_recipes
from hmmtts.training.faults import ConfigError, Interrupted
from hmmtts.training.resolvers import run_name

ROOT = Path(__file__).resolve().parents[2]
STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "train", "MASTER_ADDR": "127.0.0.1"}


def job(tasks: int, nodes: int, **more: str) -> dict[str, str]:
    return {**STEP, "SLURM_NTASKS": str(tasks), "SLURM_NNODES": str(nodes), **more}


def trainer(nodes: int, devices: object) -> dict:
    return {"num_nodes": nodes, "devices": devices}


@pytest.mark.parametrize(
    ("settings", "environ"),
    [
        (trainer(2, 4), job(8, 2)),
        (trainer(1, 1), job(1, 1)),
        (trainer(1, [0, 1]), job(2, 1)),
        (trainer(1, "2"), job(2, 1)),
        (trainer(4, 3), {}),  # no scheduler at all: another's business
        (trainer(1, 4), job(1, 1, SLURM_JOB_NAME="bash")),  # a person at work in an allocation
        (trainer(2, 2), {"TORCHELASTIC_RUN_ID": "x", "GROUP_WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}),
    ],
)
def test_numbers_that_agree_are_accepted(settings: dict, environ: dict[str, str]):
    slurm.check_processes(settings, environ)


@pytest.mark.parametrize(
    ("settings", "environ", "message"),
    [
        (
            trainer(2, 4),
            job(2, 2),
            r"started 2 x 1 processes: ask for --nodes=2 --ntasks-per-node=4, or set trainer.num_",
        ),
        (trainer(1, 1), job(8, 2), r"set trainer.num_nodes=2 trainer.devices=4"),
        (
            trainer(1, "auto"),
            job(4, 1),
            r"trainer.devices must be a number where SLURM starts the processes, got 'auto'",
        ),
        (trainer(2, 1), job(3, 2), r"SLURM_NTASKS=3 do not divide among SLURM_NNODES=2"),
        (trainer(1, 2), {**job(2, 1), "SLURM_STEP_ID": ""}, None),
        (
            trainer(2, 1),
            job(2, 2, MASTER_ADDR="no-such-node.invalid"),
            r"'no-such-node.invalid' has no address here .*: export MASTER_ADDR=ADDRESS in the job",
        ),
        (
            trainer(2, 2),
            {"TORCHELASTIC_RUN_ID": "x", "GROUP_WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "2"},
            r"torchrun started 1 x 2 processes: ask for --nnodes=2 --nproc-per-node=2",
        ),
    ],
)
def test_numbers_that_contradict_each_other_are_refused_with_the_mend(settings, environ, message):
    if message is None:  # a batch script without srun
        del environ["SLURM_STEP_ID"]
        message = (
            r"SLURM gave this job 2 tasks, and this is one process beside them: start it with `srun python"
        )
    with pytest.raises(ConfigError, match=message):
        slurm.check_processes(settings, environ)


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in on PATH that notes what it is asked for, and shows what `shown` holds."""
    program_file = tmp_path / "scontrol"
    program_file.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncat {tmp_path}/shown\n')
    program_file.chmod(0o755)
    (tmp_path / "shown").write_text("")
    (tmp_path / "asked").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(slurm, "PATIENCE", 0.0)
    for name in ("SLURM_PROCID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    return tmp_path


# As slurm 22.05 prints them.
MAKING_ROOM = (
    "JobId=7 JobName=a b\n   JobState=RUNNING Reason=None\n   PreemptTime=2026-11-21T15:46:06 Restarts=0\n"
)
CANCELLED = "JobId=7 JobName=a b\n   JobState=COMPLETING Reason=None\n   PreemptTime=None Restarts=0\n"


def end(number: int) -> Interrupted:
    return Interrupted("saved", 143, number)


class TestRequeue:
    def test_usr1_always_puts_the_job_back(self, scontrol: Path):
        slurm.requeue(end(signal.SIGUSR1))
        assert (scontrol / "asked").read_text() == "requeue 7\n"

    def test_term_only_while_slurm_makes_room(self, scontrol: Path):
        (scontrol / "shown").write_text(CANCELLED)
        slurm.requeue(end(signal.SIGTERM))
        assert (scontrol / "asked").read_text() == "show job 7\n"
        (scontrol / "shown").write_text(MAKING_ROOM)
        slurm.requeue(end(signal.SIGTERM))
        assert (scontrol / "asked").read_text().endswith("show job 7\nrequeue 7\n")

    def test_one_of_an_array_is_named_as_such(self, scontrol: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
        slurm.requeue(end(signal.SIGUSR1))
        assert (scontrol / "asked").read_text() == "requeue 5_2\n"

    def test_only_the_first_process_asks(self, scontrol: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("SLURM_PROCID", "1")
        slurm.requeue(end(signal.SIGUSR1))
        slurm.requeue(end(signal.SIGTERM))
        assert (scontrol / "asked").read_text() == ""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
    def test_a_person_who_ends_it_ends_it(self, scontrol: Path, number: int):
        slurm.requeue(end(number))
        assert (scontrol / "asked").read_text() == ""

    def test_outside_slurm_nothing_is_asked(self, scontrol: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("SLURM_JOB_ID")
        slurm.requeue(end(signal.SIGUSR1))
        assert (scontrol / "asked").read_text() == ""

    def test_a_controller_that_refuses_is_told_and_no_more(
        self, scontrol: Path, capsys: pytest.CaptureFixture
    ):
        (scontrol / "scontrol").write_text("#!/bin/sh\necho slurm_requeue error >&2\nexit 1\n")
        slurm.requeue(end(signal.SIGUSR1))
        assert "scontrol requeue 7: slurm_requeue error" in capsys.readouterr().err


@pytest.mark.filterwarnings("error:.*srun.*")
def test_torchrun_within_a_job_is_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And nobody is advised to use srun for being where it is installed."""
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    assert slurm.environment() == []
    for name, value in job(2, 2, SLURM_NTASKS_PER_NODE="1").items():
        monkeypatch.setenv(name, value)
    (found,) = slurm.environment()
    assert (type(found).__name__, found.auto_requeue) == ("SLURMEnvironment", False)
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "GROUP_RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "0")
    (found,) = slurm.environment()
    assert type(found).__name__ == "TorchElasticEnvironment"


class TestName:
    def test_a_run_without_a_name_is_named_after_its_job(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("SLURM_JOB_ID", raising=False)
        assert run_name()[4] == "-"
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
        with pytest.raises(ValueError, match=r"must agree on a name: add run.name=NAME"):
            run_name()
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        assert run_name() == "7"


def test_every_number_of_a_submission_is_written_once():
    register_recipes()
    with initialize_config_dir(str(program.folder("conf")), version_base="1.3"):
        config = compose(
            "train",
            [
                "hydra/launcher=slurm",
                "recipe=ljspeech",
                "trainer.num_nodes=2",
                "trainer.devices=4",
                "data.workers=6",
            ],
            return_hydra_config=True,
        )
        launcher = OmegaConf.to_container(config)["hydra"]["launcher"]
        resolved = {key: config.hydra.launcher[key] for key in launcher if key != "submitit_folder"}
        assert (resolved["nodes"], resolved["tasks_per_node"], resolved["gpus_per_node"]) == (2, 4, 4)
        assert resolved["cpus_per_task"] == 7
        on_cpus = compose(
            "train",
            ["hydra/launcher=slurm", "recipe=demo", "trainer.accelerator=cpu"],
            return_hydra_config=True,
        )
        assert on_cpus.hydra.launcher.gpus_per_node is None


def test_a_submission_that_cannot_work_is_refused_before_it_is_made(monkeypatch, tmp_path, capsys):
    config = OmegaConf.create({"trainer": {"devices": "auto"}})
    monkeypatch.setattr(slurm, "LAUNCHER", "no_such_package.launcher")
    with pytest.raises(SystemExit, match="2"):
        slurm.Submission().on_multirun_start(config)
    assert 'hydra/launcher=slurm needs an extra: pip install "hmmtts[slurm]"' in capsys.readouterr().err
    monkeypatch.setattr(slurm, "LAUNCHER", "hydra.core")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="2"):
        slurm.Submission().on_multirun_start(config)
    assert "sbatch is not found here" in capsys.readouterr().err
    (tmp_path / "sbatch").write_text("")
    (tmp_path / "sbatch").chmod(0o755)
    with pytest.raises(SystemExit, match="2"):
        slurm.Submission().on_multirun_start(config)
    assert "trainer.devices must be a number, got 'auto'" in capsys.readouterr().err


@pytest.mark.process
def test_the_launcher_without_m_is_refused(tmp_path: Path):
    command = [sys.executable, str(ROOT / "train.py"), "hydra/launcher=slurm", "recipe=demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "hydra/launcher=slurm submits only with -m" in done.stderr
