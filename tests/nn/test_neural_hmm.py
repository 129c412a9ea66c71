"""The neural HMM against its equations, its gradients against autograd, its speech against the law it was trained with."""

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from hmmtts.autoregressive import Autoregressive, state_frames
from hmmtts.bench.peers import neural_hmm_loop
from hmmtts.model import Sizes, TTSModel
from hmmtts.nn.aligners.neural_hmm import NeuralHMMAligner
from hmmtts.nn.decoders.conv import Conv
from hmmtts.nn.decoders.flow import Flow
from hmmtts.nn.durations.regression import Regression
from hmmtts.nn.encoders.conv_lstm import ConvLSTM
from hmmtts.nn.neural_hmm import NeuralHMM, draws
from hmmtts.nn.neural_hmm.outputs import Outputs
from hmmtts.nn.neural_hmm.speech import Manner, speak, steps
from hmmtts.nn.neural_hmm.text import TextCells
from hmmtts.nn.pitch import Pitch
from tests.nn import oracle
from tests.nn.voices import BINS, FEATURES, SYMBOLS, speech

M, D, P = 3, 5, 6  # bins, cell, prenet
BACKWARDS = [("posterior", 0.0), ("posterior", 1e-6), ("checkpoint", 0.0)]


def small(seed=0, **options) -> NeuralHMM:
    torch.manual_seed(seed)
    model = NeuralHMM(M, D, prenet=P, memory=7, hidden=8, **options).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def batch(states=(3, 1, 4, 2), frames=(7, 1, 4, 9), seed=0):
    generator = torch.Generator().manual_seed(seed)
    states, frames = torch.tensor(states), torch.tensor(frames)
    b, n, t = len(states), int(states.max()), int(frames.max())
    cells = torch.randn(b, n, D, generator=generator, dtype=torch.float64)
    x = torch.randn(b, t, M, generator=generator, dtype=torch.float64)
    kept = torch.rand(b, t, 2, P, generator=generator) > 0.5
    return cells.requires_grad_(), x.requires_grad_(), frames, states, kept


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


class TestSpeech:
    def test_is_what_training_expects_of_it(self):
        """At temperature 0 the training's net, shown the spoken frames, says the same means and the same durations."""
        model = small(dropout=0.0)
        cells, _, _, states, _ = batch()
        keys = [1, 2, 3, 4]
        made = speak(model, cells.detach(), states, keys, Manner(quantile=0.6))
        rows = zip(cells, made.mel, made.frames.tolist(), states.tolist(), made.durations, strict=True)
        for e, mel, frames, count, durations in rows:
            out = oracle.outputs(model, e[:count], mel[:frames], torch.ones(frames, 2, P))
            path = torch.arange(len(durations)).repeat_interleave(durations)
            taken = out[torch.arange(frames), path]
            torch.testing.assert_close(taken[:, :M], mel[:frames])
            tau = taken[:, -1].sigmoid()
            assert (durations[:count] >= 1).all()
            assert (durations[count:] == 0).all()
            at = 0
            for d in durations[:count].tolist():
                passed = 1 - torch.cumprod(1 - tau[at : at + d], 0)  # P(D <= 1), P(D <= 2), ...
                assert passed[-1] >= 0.6
                assert (passed[:-1] < 0.6).all()
                at += d

    def test_quantile_and_rate_follow_the_geometric_law(self):
        model = small(dropout=0.0)
        torch.nn.init.zeros_(model.outputs.last.weight)
        torch.nn.init.constant_(model.outputs.last.bias, math.log(0.14 / 0.86))
        cells, states = torch.zeros(1, 3, D, dtype=torch.float64), torch.tensor([3])

        def frames(rate=None, **manner):
            return speak(model, cells, states, [0], Manner(**manner), rate).durations[0].tolist()

        # Smallest d with 1 - 0.86^d >= quantile.
        assert frames(quantile=0.7) == [8] * 3
        assert frames(quantile=0.5) == [5] * 3
        assert frames(quantile=0.3) == [3] * 3
        assert frames(torch.tensor([[2.0, 1.0, 0.5]]).double(), quantile=0.5) == [3, 5, 10]

    def test_drawn_durations_follow_the_law(self):
        model = small(dropout=0.0)
        torch.nn.init.zeros_(model.outputs.last.weight)
        torch.nn.init.constant_(model.outputs.last.bias, math.log(0.25 / 0.75))
        b, n = 20, 40
        cells = torch.zeros(b, n, D, dtype=torch.float64)
        drawn = speak(model, cells, torch.full((b,), n), range(b), Manner(drawn=True)).durations.double()
        assert drawn.mean() == pytest.approx(4.0, abs=4 * math.sqrt(12 / (b * n)))
        assert (drawn == 1).double().mean() == pytest.approx(0.25, abs=4 * math.sqrt(0.19 / (b * n)))

    def test_temperature_scales_the_deviation(self):
        model = small(dropout=0.0)
        torch.nn.init.zeros_(model.outputs.last.weight)
        torch.nn.init.zeros_(model.outputs.last.bias)
        cells, states = torch.zeros(8, 40, D, dtype=torch.float64), torch.full((8,), 40)
        made = speak(model, cells, states, range(8), Manner(temperature=0.5))
        sigma = model.outputs.floor + math.log(2)
        real = made.mel[made.mel.abs().sum(-1) > 0]
        assert real.std().item() == pytest.approx(0.5 * sigma, rel=0.1)

    @pytest.mark.parametrize(
        "manner",
        [Manner(temperature=0.7, drawn=True), Manner(temperature=0.3, quantile=0.4)],
        ids=["drawn", "quantile"],
    )
    def test_alone_in_a_batch_and_as_a_stream_it_is_the_same(self, manner):
        model = small()
        cells, _, _, states, _ = batch()
        keys = [5, 6, 7, 8]
        with torch.no_grad():
            made = speak(model, cells, states, keys, manner)
            for i, count in enumerate(states.tolist()):
                stream = steps(model, cells[i : i + 1, :count], states[i : i + 1], keys[i : i + 1], manner)
                frames = torch.cat([step.mel for step in stream])
                assert len(frames) == made.frames[i]
                torch.testing.assert_close(frames, made.mel[i, : made.frames[i]])
                assert (made.mel[i, made.frames[i] :] == 0).all()

    def test_longest_is_said_and_no_text_is_lost(self, caplog):
        model = small(dropout=0.0)
        torch.nn.init.zeros_(model.outputs.last.weight)
        torch.nn.init.constant_(model.outputs.last.bias, -20.0)  # never leaves
        cells, states = torch.zeros(1, 2, D, dtype=torch.float64), torch.tensor([2])
        made = speak(model, cells, states, [0], Manner(longest=12))
        assert made.durations.tolist() == [[12, 12]]
        assert "state 1 was left after 12 frames" in caplog.text

    def test_given_durations_are_kept(self):
        model = small()
        cells, _, _, states, _ = batch()
        wanted = torch.tensor([[2, 1, 3, 1], [4, 1, 1, 1], [1, 1, 1, 5], [2, 2, 1, 1]])
        made = speak(model, cells.detach(), states, [1, 2, 3, 4], Manner(), durations=wanted)
        real = torch.arange(4) < states[:, None]
        assert torch.equal(made.durations, wanted * real)
        with pytest.raises(ValueError, match="at least 1 frame"):
            speak(model, cells.detach(), states, [1, 2, 3, 4], Manner(), durations=wanted - 1)

    def test_manner_says_what_is_wrong(self):
        with pytest.raises(ValueError, match="quantile must lie between 0 and 1, got 1"):
            Manner(quantile=1.0)


def test_dropout_outside_training_depends_on_nothing_but_seed_and_symbols():
    ids, symbols = torch.tensor([[3, 1, 4], [1, 5, 0]]), torch.tensor([3, 2])
    keys = draws.keys(ids, symbols, 0)
    assert keys == [*draws.keys(ids[:1], symbols[:1], 0), *draws.keys(ids[1:, :2], symbols[1:], 0)]
    assert keys != draws.keys(ids, symbols, 1)
    whole = draws.kept_units(keys, 150, P, 0.5, torch.device("cpu"))
    again = draws.kept_units(keys[1:], 70, P, 0.5, torch.device("cpu"))
    assert torch.equal(whole[1:, :70], again)
    frames = draws.frame_by_frame(keys, P, 0.5, M, torch.zeros(0))
    stepped = torch.stack([next(frames).kept for _ in range(150)], 1)
    assert torch.equal(stepped, whole)
    assert 0.45 < whole.float().mean() < 0.55


def voice(decoder=None, speakers=1) -> Autoregressive:
    torch.manual_seed(0)
    aligner = partial(
        NeuralHMMAligner,
        text=partial(TextCells, dropout=0.1),
        model=partial(NeuralHMM, prenet=P, memory=7, hidden=8),
        width=6,
    )
    sizes = Sizes(tuple(range(SYMBOLS)), BINS, BINS, hop=0.01, acoustic_hop=0.01, speakers=speakers)
    model = Autoregressive(sizes, aligner, Manner(), decoder)
    torch.nn.init.normal_(model.aligner.model.outputs.last.weight, std=0.3)
    return model


FLOWS = [None, partial(Flow, blocks=2, width=8, groups=2)]


class TestVoice:
    @pytest.mark.parametrize("decoder", FLOWS, ids=["plain", "flow"])
    def test_what_cannot_be_aligned_and_what_does_not_count_change_nothing(self, decoder):
        model = voice(decoder)
        given = speech(symbols=(5, 9, 6), acoustic_frames=(40, 24, 31), names=["a", "short", ""])
        model.losses(given)  # the flow has seen its first batch
        model.eval()
        losses = model.losses(given)
        assert losses["impossible"] == 1
        one = given.take(torch.tensor([True, False, False]))
        torch.testing.assert_close(losses["nll"], model.losses(one)["nll"])

    @pytest.mark.parametrize("decoder", FLOWS, ids=["plain", "flow"])
    def test_a_rank_without_an_utterance_still_gives_every_gradient(self, decoder):
        model = voice(decoder)
        nothing = speech(symbols=(9,), acoustic_frames=(20,))
        losses = model.losses(nothing)
        losses["nll"].backward()
        assert losses["nll"] == 0
        assert all(parameter.grad is not None for parameter in model.parameters())

    @pytest.mark.parametrize("decoder", FLOWS, ids=["plain", "flow"])
    def test_likelihood_of_the_alignment_is_that_of_the_loss(self, decoder):
        model = voice(decoder)
        given = speech()
        model.losses(given)
        model.eval()
        aligned = model.align(given)
        total = aligned.alignment.log_likelihood.sum()
        torch.testing.assert_close(-(total / given.frames.sum()).float(), model.losses(given)["nll"])
        spans = aligned.ends - aligned.starts
        assert (spans[:, 0] > 0).all()

    @pytest.mark.parametrize("decoder", FLOWS, ids=["plain", "flow"])
    def test_a_few_steps_lower_the_loss(self, decoder):
        model, given = voice(decoder), speech()
        optimiser = torch.optim.Adam(model.parameters(), 0.01)
        before = None
        for _ in range(15):
            loss = model.losses(given)["nll"]
            before = loss.detach() if before is None else before
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert loss < before - 0.2

    def test_speaks_with_its_own_and_with_given_durations(self):
        model = voice().eval()
        given = speech()
        text = (given.ids, given.symbols, given.marks, given.speaker, given.language)
        made = model.synthesize(*text)
        real = torch.arange(given.ids.shape[1]) < given.symbols[:, None]
        assert (made.durations[real] > 0).all()
        assert (made.durations[~real] == 0).all()
        wanted = torch.where(real, torch.linspace(0.04, 0.12, given.ids.shape[1]), 0.0)
        told = model.synthesize(*text, durations=wanted)
        torch.testing.assert_close(told.durations.cumsum(1), wanted.cumsum(1), atol=0.0051, rtol=0)
        slow = model.synthesize(*text, rate=0.5)
        assert (slow.frames > 1.5 * made.frames).all()

    def test_stream_is_the_synthesis(self):
        model = voice().eval()
        given = speech((5,), (40,))
        made = model.synthesize(given.ids, given.symbols, given.marks, given.speaker * 0, given.language * 0)
        heard = list(model.stream(given.ids[0], given.marks[0]))
        torch.testing.assert_close(torch.stack([frame.mel for frame in heard]), made.mel[0])
        assert [frame.symbol for frame in heard if frame.begins] == [0, 1, 2, 3, 4]

    def test_another_hop_than_the_mels_is_refused(self):
        sizes = Sizes(tuple(range(SYMBOLS)), BINS, BINS, hop=0.01, acoustic_hop=0.005)
        with pytest.raises(ValueError, match="features/acoustic=mel"):
            Autoregressive(sizes, partial(NeuralHMMAligner), Manner())


def test_it_also_aligns_for_a_parallel_decoder():
    torch.manual_seed(0)
    aligner = partial(NeuralHMMAligner, text=TextCells, model=partial(NeuralHMM, prenet=P, memory=7), width=6)
    sizes = Sizes(tuple(range(SYMBOLS)), BINS, FEATURES, hop=0.01, acoustic_hop=0.005)
    model, given = (
        TTSModel(sizes, ConvLSTM(16), aligner, Regression, Conv, partial(Pitch, bumps=12)),
        speech(),
    )
    losses = model.losses(given)
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    durations = model.eval().align(given).alignment.durations
    assert torch.equal(durations.sum(1).long(), given.acoustic_frames)


def test_state_frames_end_where_the_seconds_do():
    seconds = torch.tensor([[0.045, 0.10, 0.031, 0.0]])
    frames = state_frames(seconds, 2, hop=0.01, offset=0.0)
    assert frames.tolist() == [[2, 3, 5, 5, 1, 2, 1, 1]]


def test_parameters_are_the_published_ones():
    """15,291,121 with 148 symbols: embedding, encoder, prenet, LSTM, output net, go frame."""
    aligner = NeuralHMMAligner(tuple(range(148)), 80, partial(TextCells), partial(NeuralHMM))
    memory, outputs, text = aligner.model.memory, aligner.model.outputs, aligner.text

    def count(*modules):
        return sum(p.numel() for module in modules for p in module.parameters())

    assert count(text.embedding) == 75_776
    assert count(text.convolutions, text.norms, text.lstm) == 8_139_264
    assert (count(memory.layers), count(memory.lstm), memory.go.numel()) == (86_016, 5_251_072, 80)
    assert count(outputs) == 1_738_913
    assert count(aligner) == 15_291_121


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
