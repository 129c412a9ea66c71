"""The Triton kernels, on a GPU or by Triton's interpreter: right on small shapes, and refusals by their message.

`scripts/gpu_check.py` compares and times them on a real GPU; its logic is tested here by the interpreter.
"""

import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hmmtts.bench import gpu as gpu_bench
from hmmtts.bench.batches import Batch
from hmmtts.hmm import Dense, log_likelihood, posteriors, unweighted, viterbi
from tests.hmm.paths import enumerate_paths

ROOT = Path(__file__).resolve().parents[2]
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="no Triton: pip install hmmtts[triton]"
)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setenv("HMMTTS_BACKEND", "gpu")


@needs_triton
@pytest.mark.parametrize("kind", gpu_bench.KINDS)
def test_equals_enumeration(gpu, kind):
    batch = gpu_bench.made_up(kind, (3, 5, 3), 2.0, torch.float32)
    there = gpu_bench.on(batch, DEVICE)
    log_z, posterior, (path, score) = log_likelihood(*there), posteriors(*there), viterbi(*there)
    for b in range(3):
        t, n = int(batch.frames[b]), int(batch.states[b])
        truth = enumerate_paths(batch.log_obs, batch.topology, b, t, n)
        if truth.log_likelihood == -math.inf:
            assert float(log_z[b]) == float(score[b]) == -math.inf
            assert (posterior[b] == 0).all()
            assert (path[b] == -1).all()
            continue
        assert float(log_z[b]) == pytest.approx(truth.log_likelihood, rel=1e-12, abs=1e-12)
        torch.testing.assert_close(posterior[b, :t].cpu().double(), truth.posterior, atol=1e-7, rtol=0)
        assert (posterior[b, t:] == 0).all()
        assert float(score[b]) == pytest.approx(truth.best_score, rel=1e-12, abs=1e-12)
        assert path[b].tolist() == truth.best + [-1] * (5 - t)


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.process)])
@pytest.mark.parametrize("kind", gpu_bench.KINDS)
def test_equals_the_reference(kind, dtype):
    """Likelihood, posteriors, counts and best score; impossible cells and padding full of NaN are among the input."""
    for shape, spread in (((1, 1, 1), 1.0), ((3, 6, 5), 1000.0)):
        for quantity, error in gpu_bench.compare(
            gpu_bench.made_up(kind, shape, spread, dtype), DEVICE
        ).items():
            assert error <= gpu_bench.BARS[dtype][quantity], (shape, quantity)


@needs_triton
def test_a_matrix_of_several_tiles():
    batch = gpu_bench.made_up("dense_final", (1, 3, 70), 3.0, torch.float32)
    for quantity, error in gpu_bench.compare(batch, DEVICE).items():
        assert error <= gpu_bench.BARS[torch.float32][quantity], quantity


@needs_triton
def test_gradients_and_being_once_differentiable(gpu, monkeypatch):
    batch = gpu_bench.on(gpu_bench.made_up("per_frame", (3, 5, 3), 1.0, torch.float64), DEVICE)
    assert torch.isnan(batch.log_obs).any()
    weight = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, device=DEVICE)

    def gradients():
        inputs = [x.detach().clone().requires_grad_() for x in (batch.log_obs, *batch.topology[:2])]
        log_z = log_likelihood(inputs[0], type(batch.topology)(*inputs[1:]), batch.frames, batch.states)
        return torch.autograd.grad((weight * log_z.square()).sum(), inputs, create_graph=True)

    found = gradients()
    with pytest.raises(RuntimeError, match="once_differentiable"):
        found[0].square().sum().backward()
    monkeypatch.setenv("HMMTTS_BACKEND", "reference")
    for x, y in zip(found, gradients(), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-12)


@needs_triton
def test_enormous_scores_and_a_path_of_weight_zero(gpu):
    log_obs = -1e30 * torch.ones(2, 4, 3, device=DEVICE)
    log_obs[1, 2] = -math.inf
    topology, frames = unweighted(log_obs), torch.tensor([4, 4])
    log_z, (path, score) = log_likelihood(log_obs, topology, frames), viterbi(log_obs, topology, frames)
    assert float(log_z[0]) == pytest.approx(-4e30, rel=1e-7)
    assert float(log_z[1]) == float(score[1]) == -math.inf
    assert path.tolist() == [[0, 0, 1, 2], [-1] * 4]  # a tie takes the lower state
    posterior = posteriors(log_obs, topology, frames)
    torch.testing.assert_close(posterior[0].sum(1), torch.ones(4, device=DEVICE))
    assert (posterior[1] == 0).all()


@needs_triton
def test_a_tie_of_a_dense_model_takes_the_lower_state(gpu):
    topology = Dense(torch.zeros(5, device=DEVICE), torch.zeros(5, 5, device=DEVICE))
    assert viterbi(torch.zeros(1, 4, 5, device=DEVICE), topology, torch.tensor([4])).path.tolist() == [
        [0] * 4
    ]


@needs_triton
def test_padding_and_company_change_no_bit(gpu):
    batch = gpu_bench.made_up("static_skip", (3, 6, 5), 2.0, torch.float32)
    alone = Batch(
        batch.log_obs[1:2, : batch.frames[1], : batch.states[1]],
        type(batch.topology)(*(arc[1:2, : batch.states[1]] for arc in batch.topology)),
        batch.frames[1:2],
        batch.states[1:2],
    )
    t, n = int(batch.frames[1]), int(batch.states[1])
    assert (t, n) != (6, 5)
    whole, alone = gpu_bench.on(batch, DEVICE), gpu_bench.on(alone, DEVICE)
    assert torch.equal(log_likelihood(*whole)[1:2], log_likelihood(*alone))
    assert torch.equal(posteriors(*whole)[1:2, :t, :n], posteriors(*alone))


@needs_triton
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_bad_value_is_named(gpu, value):
    log_obs = torch.zeros(2, 4, 3, device=DEVICE)
    log_obs[1, 2, 1] = value
    for question in (log_likelihood, posteriors, viterbi):
        with pytest.raises(ValueError, match="in utterance 1, frame 2, state 1"):
            question(log_obs, unweighted(log_obs), torch.tensor([4, 4]))


@needs_triton
def test_tensors_on_the_cpu_are_refused_without_the_interpreter(gpu, monkeypatch):
    import triton

    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    log_obs = torch.zeros(1, 4, 3)
    with pytest.raises(
        ValueError, match="HMMTTS_BACKEND=gpu needs log_obs on a CUDA device, got cpu; move it"
    ):
        log_likelihood(log_obs, unweighted(log_obs), torch.tensor([4]))


def test_without_triton_the_reason_is_said():
    code = "import sys; sys.modules['triton'] = None; import hmmtts.hmm.backends.gpu"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: Triton is not installed; CUDA builds of torch bring it" in done.stderr


@needs_triton
def test_the_comparison_finds_a_wrong_kernel(monkeypatch):
    """A check that cannot fail is none: spoil each result and it must be noticed."""
    batch = gpu_bench.made_up("static", (1, 5, 3), 1.0, torch.float32)
    assert all(e <= gpu_bench.BARS[torch.float32][q] for q, e in gpu_bench.compare(batch, DEVICE).items())
    from hmmtts.hmm.backends import gpu as kernels

    right = kernels.forward_backward

    def wrong(problem, counts):
        result = right(problem, counts)
        result.posterior.add_(1e-4)
        if counts:
            result.counts.move.add_(1e-4)
        return result

    monkeypatch.setattr(kernels, "forward_backward", wrong)
    found = gpu_bench.compare(batch, DEVICE)
    assert found["posterior"] > 1e-5
    assert found["counts"] > 1e-5


@needs_triton
@pytest.mark.process
def test_gpu_check_by_the_interpreter(capsys, monkeypatch):
    script = _script()
    monkeypatch.setattr(gpu_bench, "KINDS", ("static", "dense_final"))
    monkeypatch.setattr(gpu_bench, "TINY", gpu_bench.TINY._replace(parity=[(2, 4, 3)], rounds=1))
    if not torch.cuda.is_available():
        assert script.main([]) == script.NO_GPU
        assert "no CUDA device is visible to torch: nothing was checked" in capsys.readouterr().out
        assert script.main(["--interpret"]) == 0
        shown = capsys.readouterr().out
        assert "32 of 32 comparisons passed" in shown
        assert "ltr_viterbi_b2_t8_s5" in shown
        monkeypatch.setattr(gpu_bench, "speed", lambda sizes, device: [])
        monkeypatch.setitem(gpu_bench.BARS, torch.float32, dict.fromkeys(gpu_bench.BARS[torch.float32], -1.0))
        assert script.main(["--interpret"]) == 1
        assert "wrong" in capsys.readouterr().out


@needs_triton
@needs_gpu
@pytest.mark.gpu
def test_real_sizes_on_a_real_gpu():
    for kind in gpu_bench.KINDS:
        batch = gpu_bench.made_up(kind, (8, 300, 120), 10.0, torch.float32)
        for quantity, error in gpu_bench.compare(batch, DEVICE).items():
            assert error <= gpu_bench.BARS[torch.float32][quantity], (kind, quantity)


@needs_triton
@pytest.mark.process
def test_kernels_compile_to_machine_code():
    """In a process without the interpreter; all variants and capabilities: scripts/gpu_check.py --compile."""
    code = (
        "from itertools import islice; from hmmtts.bench.gpu_compile import compile_all; "
        "print([compiled.kernel for compiled in islice(compile_all(80), 16)])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    for kernel in (
        "left_to_right.forward",
        "left_to_right.backward",
        "best_path.left_to_right",
        "dense.count",
    ):
        assert kernel in done.stdout


def _script():
    spec = importlib.util.spec_from_file_location("gpu_check", ROOT / "scripts" / "gpu_check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
