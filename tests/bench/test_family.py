"""The benchmark of the family: every module adds works, chosen by name; records like those of the others."""

import json
import math

import pytest
import torch
from typer.testing import CliRunner

from hmmtts.bench import gpu_family
from hmmtts.bench.family import works
from hmmtts.bench.work import Work, chosen
from hmmtts.cli.bench import app


def test_the_works_promised_are_there():
    names = [work.name for work in works(quick=False)]
    for name in (
        "gmm_forward_b32_t1000_k10_m3", "gmm_step_b32_t1000_k10_m3", "em_100x1000", "hsmm_fb_b32_t1000_s10_d50",
        "hsmm_ltr_b16_t600_s100_d50", "stream_16_p99", "dtw_1000",
    ):  # fmt: skip
        assert name in names
    assert len(set(names)) == len(names)


def test_the_command_measures_what_is_asked_for(tmp_path):
    file = tmp_path / "family.json"
    done = CliRunner().invoke(app, ["family", "--quick", "--only", "stream_16_p99", "--json", str(file)])
    assert done.exit_code == 0, done.output
    records = json.loads(file.read_text())
    assert {record["work"] for record in records} == {"stream_16_p99"}
    assert {"work", "contender", "value", "unit", "ratio", "error"} <= set(records[0])
    assert (records[0]["contender"], records[0]["ratio"]) == ("ours", 1)
    assert records[0]["error"] < 1e-6
    assert {record["contender"] for record in records} > {"ours", "ours_wall", "reference"}


def test_an_unknown_work_is_refused_by_name():
    with pytest.raises(ValueError, match="--only: nothing begins with nothing; there are a, b"):
        chosen([Work("a", list), Work("b", list)], ["nothing"], "--only")
    assert [work.name for work in chosen([Work("a1", list), Work("b", list)], ["a"], "--only")] == ["a1"]


@pytest.mark.process
@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton's interpreter is not in use")
def test_shapes_on_a_gpu_run_under_the_interpreter():
    """What has no kernels there says so, and is timed on the host."""
    pytest.importorskip("triton")
    records = list(gpu_family.run(gpu_family.TINY, torch.device("cpu")))
    by = {(record.work.split("_b")[0], record.contender): record for record in records}
    for work in ("mixture_hmm", "neural_hmm"):
        assert by[work, "ours"].value > 0
    for work in ("semi_markov", "stream"):
        assert by[work, "ours"].value is None
        assert "no kernels for a GPU" in by[work, "ours"].reason
        assert math.isfinite(by[work, "cpu"].value)
