"""The report says what is so: limits are read as the kernel writes them, and every fact has a name of its own."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hmmtts import cli, machine
from hmmtts.machine import CgroupLimits, cgroup_limits


def files(root: Path, **contents: str) -> None:
    """`folder__name`: dots are written as two underscores more."""
    for name, content in contents.items():
        path = root / name.replace("___", ".").replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


class TestCgroups:
    def membership(self, tmp_path: Path, *lines: str) -> Path:
        (tmp_path / "cgroup").write_text("\n".join(lines))
        return tmp_path / "cgroup"

    def test_version_2_obeys_the_groups_above(self, tmp_path: Path):
        root = tmp_path / "fs"
        files(root, a__b__cpu___max="max 100000\n", a__cpu___max="150000 100000\n")
        files(root, a__b__memory___max="4294967296\n", a__memory___max="8589934592\n")
        member = self.membership(tmp_path, "0::/a/b")
        assert cgroup_limits(member, root) == CgroupLimits(1.5, 4 * 2**30)

    def test_version_1_has_a_folder_for_each_controller(self, tmp_path: Path):
        root = tmp_path / "fs"
        files(root, cpu__job__cpu___cfs_quota_us="200000", cpu__job__cpu___cfs_period_us="100000")
        files(
            root,
            memory__job__memory___limit_in_bytes="1073741824",
            memory__memory___limit_in_bytes=str(2**63 - 4096),
        )
        member = self.membership(tmp_path, "4:memory:/job", "1:cpu:/job", "9:name=systemd:/")
        assert cgroup_limits(member, root) == CgroupLimits(2.0, 2**30)

    @pytest.mark.parametrize("quota", ["max 100000", "", "nonsense"])
    def test_no_limit_is_none(self, tmp_path: Path, quota: str):
        files(tmp_path / "fs", cpu___max=quota)
        assert cgroup_limits(self.membership(tmp_path, "0::/"), tmp_path / "fs") == CgroupLimits(None, None)
        assert cgroup_limits(tmp_path / "absent", tmp_path / "fs") == CgroupLimits(None, None)


def test_the_report_is_whole_and_reads_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    printed = CliRunner().invoke(cli.register(), ["doctor", "--json"])
    assert printed.exit_code == 0
    report = json.loads(printed.output)
    for section in machine.SECTIONS:
        facts = list(section())
        assert len(dict(facts)) == len(facts), f"{section.__name__}: two facts of one name"
        assert report[section.__name__].keys() == dict(facts).keys()
    assert report["distributed"]["gloo"] == "works"
    assert report["settings"]["NCCL_DEBUG"] == "INFO"
    assert int(report["processor"]["cores seen"]) >= 1


def test_a_scheduler_that_does_not_answer_is_told_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    for name, line in (
        ("sbatch", "true"),
        ("sinfo", "echo first >&2; echo cannot reach the controller >&2; exit 1"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    facts = dict(machine.scheduler())
    assert facts["SLURM"] == "off: cannot reach the controller"
    assert facts["this job"] == "JOB_ID=7, NTASKS=8"
    monkeypatch.setenv("PATH", "")
    assert dict(machine.scheduler())["SLURM"] == "not here"
