"""The HMM benchmark: its peers compute the same as we, wrong answers show, and an absent peer is a record, not a crash."""

import json
import sys
import time

import pytest
import torch
from typer.testing import CliRunner

from hmmtts.bench import growth, hmm
from hmmtts.bench.batches import (
    Answer,
    dense_batch,
    left_to_right_batch,
    spread_batch,
    true_best_scores,
    true_gradient,
)
from hmmtts.bench.peers import alignment_search, dense_libraries, jax_scans, torch_loops
from hmmtts.bench.race import Contender, Effort, Run, race
from hmmtts.bench.record import Record, table
from hmmtts.bench.timing import CALLS, MILLISECONDS, interleave, threads
from hmmtts.cli.bench import app

LIBRARIES = (
    "jax", "dynamax", "hmmlearn", "pomegranate", "torchcrf", "monotonic_align", "monotonic_alignment_search",
)  # fmt: skip
QUICK = Effort(1, 1)


def answer_of(prepare, batch) -> Answer:
    run = prepare(batch)
    return run.read(run.call())


@pytest.mark.parametrize(
    ("prepare", "library"),
    [(torch_loops.left_to_right, None), (jax_scans.banded, "jax")],
)
def test_left_to_right_peers_compute_the_gradient(prepare, library):
    if library:
        pytest.importorskip(library, reason="the extra `bench` is not installed")
    batch = left_to_right_batch(3, 20, 6)
    truth = true_gradient(batch)
    answer = answer_of(prepare, batch)
    assert growth.posterior_error(answer, truth) < 1e-4
    assert growth.log_z_error(answer, truth) < 1e-5


@pytest.mark.parametrize(
    ("prepare", "library"),
    [
        (torch_loops.dense, None),
        (torch_loops.dense_scaled, None),
        (jax_scans.dynamax_gradient, "dynamax"),
        (jax_scans.dynamax_posteriors, "dynamax"),
        (dense_libraries.pytorch_crf, "torchcrf"),
        (dense_libraries.hmmlearn_scaling, "hmmlearn"),
        (dense_libraries.pomegranate, "pomegranate"),
    ],
)
def test_dense_peers_compute_the_posterior(prepare, library):
    if library:
        pytest.importorskip(library, reason="the extra `bench` is not installed")
    batch = dense_batch(2, 15, 4)
    truth = true_gradient(batch)
    answer = answer_of(prepare, batch)
    assert growth.posterior_error(answer, truth) < 1e-3
    assert growth.log_z_error(answer, truth) < 1e-5


@pytest.mark.parametrize(
    ("prepare", "library"),
    [
        pytest.param(alignment_search.nemo_style, None, marks=pytest.mark.process),
        (alignment_search.monotonic_align, "monotonic_align"),
        (alignment_search.monotonic_alignment_search, "monotonic_alignment_search"),
    ],
)
def test_searches_find_the_best_path(prepare, library):
    if library:
        pytest.importorskip(library, reason="the extra `bench` is not installed")
    batch = left_to_right_batch(3, 20, 6)
    best = true_best_scores(batch)
    path = torch.as_tensor(answer_of(prepare, batch))
    assert hmm._lost(batch, best, path) < 1e-6
    path[0, 10] = 0  # a wrong path must show
    assert hmm._lost(batch, best, path) > 1e-3


def test_the_forward_sum_learns_the_path():
    """Its answer is another model's; that it trains towards the likely cells is what can be said."""
    batch = left_to_right_batch(2, 20, 5)
    gradient = torch_loops.ctc_forward_sum(batch).call()
    posterior = true_gradient(batch).posterior
    assert (gradient * posterior).sum() < 0
    assert (gradient[1, batch.frames[1] :] == 0).all()


@pytest.mark.process
def test_absent_libraries_are_records_and_the_others_run(monkeypatch):
    for name in LIBRARIES:
        monkeypatch.setitem(sys.modules, name, None)
    records = list(hmm.run(quick=True, patterns=["ltr_", "dense"]))
    by = {(record.work, record.contender): record for record in records}
    assert {work for work, _ in by} == {
        "ltr_grad_b2_t20_s5", "ltr_viterbi_b2_t20_s5", "dense_grad_b2_t20_k3", "dense_posteriors_b2_t20_k3",
    }  # fmt: skip
    missing = by["ltr_grad_b2_t20_s5", "jax_banded"]
    assert missing.value is None
    assert missing.ratio is None
    assert "jax" in missing.reason
    for record in records:
        if record.contender == "ours":
            assert record.ratio == 1
            assert record.error < 1e-6
        elif record.ratio is not None:
            assert record.ratio > 0
            assert record.error is None or record.error < 1e-3
    assert by["dense_grad_b2_t20_k3", "torch_scaled_loop"].ratio is not None
    assert torch.get_num_threads() > 0


@pytest.mark.process
def test_growth_memory_threads_and_accuracy():
    records = list(hmm.run(quick=True, patterns=["growth_t", "two_threads", "accuracy"]))
    works = [record.work for record in records]
    assert "growth_t_20_to_60" in works
    assert "ltr_grad_two_threads_b4_t20_s5" in works
    errors = {
        record.work: record.value
        for record in records
        if "error" in record.work and record.contender == "ours"
    }
    assert errors["ltr_posterior_error_spread100"] < growth.POSTERIOR_BAR
    assert errors["ltr_log_z_error_spread100"] < growth.LOG_Z_BAR


def test_a_wrong_answer_shows():
    batch = spread_batch(2, 30, 5, 3.0)
    truth = true_gradient(batch)
    assert growth.posterior_error(Answer(truth.log_likelihood, truth.posterior + 1e-3), truth) > 9e-4
    assert growth.log_z_error(Answer(truth.log_likelihood * 1.001, truth.posterior), truth) > 9e-4


def test_ratios_by_the_clock_of_the_contender():
    """Sleeping costs wall time and no CPU time."""

    def prepare(seconds: float, busy: float):
        def call():
            time.sleep(seconds)
            end = time.process_time() + busy
            while time.process_time() < end:
                pass

        return lambda batch: Run(call, None)

    records = race(
        "work",
        left_to_right_batch(1, 4, 2),
        [
            Contender("ours", prepare(0.02, 0.005)),
            Contender("busy", prepare(0.0, 0.02), bar=2),
            Contender("asleep", prepare(0.08, 0.005), bar=2, clock="wall"),
        ],
        lambda answer: 0.0,
        QUICK,
    )
    ours, busy, asleep = records
    assert ours.ratio == 1
    assert 3 < busy.ratio < 5
    assert busy.met
    assert asleep.unit == "ms wall"
    assert asleep.ratio > 1.5


def test_only_a_peer_may_fail():
    def broken(batch):
        raise TypeError("its API has changed\nand more")

    contenders = [Contender("ours", lambda batch: Run(lambda: None, None)), Contender("peer", broken, bar=3)]
    _, peer = race("work", left_to_right_batch(1, 4, 2), contenders, lambda answer: 0.0, QUICK)
    assert peer.reason == "TypeError: its API has changed"
    assert peer.met is None
    with pytest.raises(TypeError, match="its API"):
        race("work", left_to_right_batch(1, 4, 2), [Contender("ours", broken)], lambda answer: 0.0, QUICK)


def test_interleaving_takes_turns_and_minima():
    calls: list[str] = []

    def a():
        calls.append("a")
        time.sleep(0.0 if len(calls) == 8 else 0.03)

    def b():
        calls.append("b")
        time.sleep(0.004)

    times = interleave({"a": a, "b": b}, 10, 3)
    assert (
        calls == ["a"] * CALLS + ["b"] * CALLS + ["a"] * CALLS + ["b"] * CALLS + ["a"] * CALLS + ["b"] * CALLS
    )
    assert times["a"].wall < 30
    began = time.perf_counter()
    interleave({"quick": lambda: None}, 10, 3)
    assert time.perf_counter() - began >= 3 * MILLISECONDS / 1e3  # however short the call


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_bars_met_and_missed():
    assert Record("w", "peer", 5.0, "ms cpu", 5.0, bar=4).met is True
    assert Record("w", "peer", 5.0, "ms cpu", 3.0, bar=4).met is False
    assert Record("w", "ours", 2e-5, "max abs", 1.0, bar=1e-5).met is False
    assert Record("w", "ours", 2e-6, "max abs", 1.0, bar=1e-5).met is True
    assert Record("w", "peer", None, "ms cpu", None, bar=4).met is None
    assert table([Record("w", "peer", None, "ms cpu", None, bar=4, reason="ImportError")], "t").row_count == 1


def test_the_command_writes_its_records(tmp_path):
    file = tmp_path / "bench.json"
    done = CliRunner().invoke(app, ["hmm", "--quick", "--works", "accuracy", "--json", str(file)])
    assert done.exit_code == 0, done.output
    records = json.loads(file.read_text())
    assert {"work", "contender", "value", "unit", "ratio", "error"} <= set(records[0])
    assert [r["ratio"] for r in records if r["contender"] == "ours"] == [1] * 4


def test_an_unknown_work_and_a_missing_folder(tmp_path):
    for arguments, message in (
        (["--works", "nothing"], "--works: nothing begins with nothing; there are ltr_grad_b2_t20_s5"),
        (["--json", str(tmp_path / "no" / "x.json")], "its folder does not exist; make it first"),
    ):
        done = CliRunner().invoke(app, ["hmm", "--quick", *arguments])
        assert message in str(done.exception)
