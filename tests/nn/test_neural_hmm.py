"""The neural HMM against its equations, and its gradients against autograd, alone and of two processes."""

import math
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from hmmtts.bench.peers import neural_hmm_loop
from hmmtts.nn.neural_hmm import NeuralHMM
from hmmtts.nn.neural_hmm.outputs import Outputs
from tests.nn import oracle
from tests.nn.neural_hmms import D, M, P, batch, small

BACKWARDS = [("posterior", 0.0), ("posterior", 1e-6), ("checkpoint", 0.0)]


def gradients(model, total, *inputs):
    return torch.autograd.grad(total.sum(), [*model.parameters(), *inputs])


def off(ours, theirs):
    return max(float((a - b).norm() / b.norm()) for a, b in zip(ours, theirs, strict=True))


def by_oracle(model, cells, x, frames, states, kept):
    rows = zip(cells, x, frames.tolist(), states.tolist(), kept, strict=True)
    return torch.stack([oracle.log_likelihood(model, e[:n], y[:t], k[:t]) for e, y, t, n, k in rows])


@pytest.mark.parametrize(("backward", "threshold"), BACKWARDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_loss_and_every_gradient_are_the_oracles(backward, threshold, seed):
    model = small(seed, backward=backward, threshold=threshold)
    generator = torch.Generator().manual_seed(seed)
    states = torch.randint(1, 6, (4,), generator=generator)
    frames = states + torch.randint(0, 6, (4,), generator=generator)
    given = batch(states.tolist(), frames.tolist(), seed)
    ours, theirs = model(*given), by_oracle(model, *given)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    inputs = given[:2]
    assert off(gradients(model, ours, *inputs), gradients(model, theirs, *inputs)) < 1e-5


def test_the_rival_of_the_benchmark_computes_the_same():
    model = small(dropout=0.0)
    *given, _ = batch()
    ours, theirs = model(*given), neural_hmm_loop.log_likelihood(model, *given)
    torch.testing.assert_close(theirs, ours, rtol=1e-12, atol=0)
    assert off(gradients(model, ours), gradients(model, theirs)) < 1e-6


@pytest.mark.parametrize("backward", ["posterior", "checkpoint"])
def test_order_of_the_batch_and_padding_change_nothing(backward):
    model = small(backward=backward, threshold=0.0)
    cells, x, frames, states, kept = batch()
    whole = model(cells, x, frames, states, kept)
    turned = torch.tensor([2, 0, 3, 1])
    other = model(*(part[turned] for part in (cells, x, frames, states, kept)))
    torch.testing.assert_close(other, whole[turned])
    dirty_x, dirty_cells = x.detach().clone(), cells.detach().clone()
    for i in range(4):
        dirty_x[i, frames[i] :] = math.nan
        dirty_cells[i, states[i] :] = math.nan
    dirty = model(dirty_cells, dirty_x, frames, states, kept)
    torch.testing.assert_close(dirty, whole)
    assert off(gradients(model, dirty), gradients(model, whole)) < 1e-12


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_the_value_is_the_same(mode):
    model, given = small(), batch()
    with mode():
        value = model(*given)
    assert not value.requires_grad
    torch.testing.assert_close(value, model(*given).detach())


def test_error_of_the_gradient_shrinks_with_the_threshold():
    given = batch((6, 9), (30, 25))

    def at(threshold):
        model = small(threshold=threshold)
        return gradients(model, model(*given))

    errors = [off(at(threshold), at(0.0)) for threshold in (1e-1, 1e-2, 1e-4)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3


def test_log_likelihood_is_a_density_over_the_frames():
    """p(x) of the utterances of two frames and of one state integrates to P(D = 2) = (1 - tau_1) tau_2."""
    torch.manual_seed(0)
    model = NeuralHMM(1, D, prenet=P, memory=4, hidden=8, dropout=0.0).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    with torch.no_grad():
        model.outputs.last.weight[2] = (
            0  # the same tau at every frame, so that the integral has a closed form
        )
        grid = torch.linspace(-12, 12, 161, dtype=torch.float64)
        x = torch.cartesian_prod(grid, grid)[..., None]
        b = len(x)
        cells = torch.randn(1, 1, D, dtype=torch.float64).expand(b, -1, -1)
        log_p = model(cells, x, torch.full((b,), 2), torch.ones(b, dtype=torch.long))
        tau = model.outputs.last.bias[2].sigmoid()
    mass = log_p.exp().sum() * (grid[1] - grid[0]) ** 2
    torch.testing.assert_close(mass, (1 - tau) * tau, rtol=1e-6, atol=0)


def test_start_is_flat():
    outputs = Outputs(4, D, M, frames_per_state=7.0)
    law = outputs(torch.randn(9, 1024), torch.randn(9, 1024))
    torch.testing.assert_close(law.mean, torch.zeros(9, M))
    torch.testing.assert_close(law.deviation, torch.ones(9, M))
    torch.testing.assert_close(law.leave.sigmoid(), torch.full((9,), 1 / 7))


def test_autocast_keeps_densities_and_recursion_exact():
    torch.manual_seed(0)
    model = NeuralHMM(M, D, prenet=P, memory=16, hidden=64, dropout=0.0)
    torch.nn.init.normal_(model.outputs.last.weight, std=0.1)
    cells, x, frames, states, _ = batch((6, 9), (30, 25))
    given = (cells.detach().float(), x.detach().float(), frames, states)
    exact = model(*given)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(*given)
    assert mixed.dtype == torch.float64
    torch.testing.assert_close(mixed, exact, rtol=2e-3, atol=0)
    ours, theirs = (torch.cat([g.flatten() for g in gradients(model, total)]) for total in (mixed, exact))
    assert off([ours], [theirs]) < 5e-2


def one_rank(rank: int, folder: str, backward: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    model = DistributedDataParallel(small(backward=backward, threshold=0.0))
    for _ in range(2):  # the second step fails where the first marked a parameter ready twice
        model.zero_grad()
        model(*share(rank)).sum().backward()
    torch.save([parameter.grad for parameter in model.parameters()], Path(folder, f"{rank}.pt"))
    distributed.destroy_process_group()


def share(rank: int) -> tuple[torch.Tensor, ...]:
    return tuple(part[2 * rank : 2 * rank + 2].detach() for part in batch())


@pytest.mark.process
@pytest.mark.parametrize("backward", ["posterior", "checkpoint"])
def test_gradients_of_two_processes_are_the_mean_of_both(backward, tmp_path):
    multiprocessing.start_processes(one_rank, (str(tmp_path), backward), nprocs=2, start_method="spawn")
    each = []
    for rank in range(2):
        model = small(backward=backward, threshold=0.0)
        each.append(gradients(model, model(*share(rank))))
    wanted = [(a + b) / 2 for a, b in zip(*each, strict=True)]
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert off(found, wanted) < 1e-12


class TestPatience:
    def test_past_frames_are_heard_only_after_it(self):
        model = small(patience=2, dropout=0.0)
        x = batch((3,), (7,))[1].detach()
        other = x.clone()
        other[:, :-1] += 1
        alone = [model.memory(x).detach(), model.memory(other).detach()]  # two batches of training
        assert all((h == 0).all() for h in alone)
        assert not torch.equal(model.memory(x)[:, -1], model.memory(other)[:, -1])
        model.eval()
        assert model.memory.batches == 4
        stepped, _ = model.memory.step(x[:, 0], torch.ones(1, 2, P, dtype=torch.bool), None)
        assert (stepped != 0).any()

    def test_nothing_leaps_when_they_are_heard_at_last(self):
        torch.manual_seed(0)
        model = NeuralHMM(M, D, prenet=P, memory=7, hidden=8, patience=1).double()
        torch.nn.init.normal_(model.outputs.last.weight)
        before, after = model(*batch()), model(*batch())
        torch.testing.assert_close(before, after)
        wanted = torch.autograd.grad(after.sum(), model.outputs.first.weight)[0][:, :7]
        assert (wanted != 0).any()

    def test_every_parameter_takes_part_meanwhile(self):
        """Data-parallel training waits for the gradient of each."""
        model = small(patience=5)
        model(*batch()).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
