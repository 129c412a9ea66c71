"""The flow against autograd's Jacobian, back and forth, and its first batch on several processes."""

import math
import tempfile
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from hmmtts.audio.io import read
from hmmtts.audio.mel import LogMel
from hmmtts.nn.decoders.flow import MOST, ActNorm, Flow, GroupedMix
from tests.data import TEST_DATA, needs_data
from tests.nn import voices
from tests.nn.test_neural_hmm_voice import mels, voice

BINS = 4


def scattered(seed=0) -> Flow:
    torch.manual_seed(seed)
    flow = Flow(BINS, blocks=2, width=6, layers=2).double()
    flow(3 * torch.randn(3, 9, BINS).double() + 1, torch.tensor([9, 8, 7]))
    for parameter in flow.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return flow.eval()


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5])
def test_log_determinant_is_that_of_the_jacobian(frames):
    """Odd lengths too: the density is one of every frame."""
    flow, count = scattered(), torch.tensor([frames])
    x = torch.randn(1, frames, BINS).double()

    def z(values):
        return flow(values.view(1, frames, BINS), count).y.flatten()

    jacobian = torch.autograd.functional.jacobian(z, x.flatten())
    found = flow(x, count).log_determinant[0]
    torch.testing.assert_close(found, torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-10, atol=1e-10)


def test_inverse_and_padding():
    flow, frames = scattered(), torch.tensor([5, 4, 1, 2])
    x = torch.randn(4, 5, BINS).double()
    real = (torch.arange(5) < frames[:, None])[..., None]
    z, log_determinant = flow(x, frames)
    torch.testing.assert_close(flow.inverse(z, frames), x * real)
    assert (z[~real.expand_as(z)] == 0).all()
    dirty = flow(torch.where(real, x, torch.nan), frames)
    assert torch.equal(dirty.y, z)
    assert torch.equal(dirty.log_determinant, log_determinant)
    for i, count in enumerate(frames.tolist()):
        alone = flow(x[i : i + 1, :count], frames[i : i + 1])
        torch.testing.assert_close(alone.y[0], z[i, :count])
        torch.testing.assert_close(alone.log_determinant[0], log_determinant[i])


@pytest.mark.parametrize("frames", [1, 2, 19, 60, 61])
def test_inverse_as_a_stream_is_the_inverse_and_keeps_its_distance(frames):
    flow = scattered()
    assert flow.reach == 2 * 2 * 2 * 2  # two blocks of two layers that hear two pairs on either side
    z = torch.randn(1, frames, BINS).double()
    given = []

    def coming():
        for frame in z[0]:
            given.append(frame)
            yield frame

    got = []
    for frame in flow.inverse_stream(coming(), chunk=4):
        got.append(frame)
        behind = len(given) - len(got)
        assert behind < flow.reach + 4
    torch.testing.assert_close(torch.stack(got), flow.inverse(z, torch.tensor([frames]))[0])


def test_a_frame_further_than_the_reach_changes_nothing():
    flow, z = scattered(), torch.randn(1, 60, BINS).double()
    other = z.clone()
    other[0, 40:] += 1
    apart = (flow.inverse(z, torch.tensor([60])) - flow.inverse(other, torch.tensor([60])))[0].abs().amax(1)
    assert (apart[: 40 - flow.reach] == 0).all()
    assert apart[40 - flow.reach : 40].max() > 0


def test_first_batch_comes_out_normal():
    torch.manual_seed(0)
    flow, frames = Flow(BINS, blocks=3, width=6, layers=2), torch.tensor([30, 21, 17])
    x = 3 * torch.randn(3, 30, BINS) @ torch.randn(BINS, BINS) + 2
    z, _ = flow(x, frames)
    rows = z[torch.arange(30) < frames[:, None]]
    # A rotation after the last norm keeps the second moments of white channels only on average.
    assert rows.mean(0).abs().max() < 0.2
    assert rows.square().mean().item() == pytest.approx(1.0, abs=0.1)
    before = [norm.shift.clone() for norm in flow.blocks if isinstance(norm, ActNorm)]
    flow(x + 5, frames)
    after = [norm.shift for norm in flow.blocks if isinstance(norm, ActNorm)]
    assert all(map(torch.equal, before, after))


@pytest.mark.process
def test_constant_sound_keeps_the_likelihood_bounded():
    """R15, with a flow: no training makes more of frames that are all equal than the sharpest density has."""
    model, silence = voice(partial(Flow, blocks=2, width=8, groups=2)), mels()
    silence = silence._replace(mel=torch.full_like(silence.mel, -0.7))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    floor = model.aligner.model.outputs.floor
    bound = -voices.BINS * (MOST - math.log(floor) - 0.5 * math.log(2 * math.pi))
    losses = []
    for _ in range(200):
        loss = model.means(silence)["nll"].value
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert bound <= min(losses)
    assert max(losses) < 100 * voices.BINS  # no layer blows up what the one before it changes
    assert min(losses) < losses[0] - voices.BINS  # and there is something to gain
    for norm in [layer for layer in model.flow.blocks if isinstance(layer, ActNorm)]:
        norm.log_scale.data += 10
    gained = model.flow(silence.mel, silence.frames).log_determinant
    torch.testing.assert_close(gained, MOST * voices.BINS * silence.frames)


@needs_data
def test_speech_stays_far_below_the_bound():
    """Also what a synthesiser made, whose pauses are all alike."""
    for corpus in ("ljspeech32", "espeak_en_us", "flite_slt"):
        torch.manual_seed(0)
        wave, rate = read(sorted((TEST_DATA / corpus / "wavs").iterdir())[0])
        mel = LogMel(rate)(torch.from_numpy(wave)[None])
        mel = (mel - mel.mean(1)) / mel.std(1)
        frames = torch.tensor([mel.shape[1]])
        gained = Flow(80, width=8, layers=1)(mel, frames).log_determinant / mel.numel()
        assert float(gained.detach()) < MOST / 3, corpus


def test_evaluation_starts_nothing():
    flow = Flow(BINS, blocks=1, width=6, layers=1).eval()
    flow(torch.randn(1, 8, BINS) + 4, torch.tensor([8]))
    assert not flow.single.seen
    assert (flow.single.shift == 0).all()


def first_batch_of_a_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    x, real = data()
    norm = ActNorm(BINS)
    norm.see(x[rank : rank + 1], real[rank : rank + 1])
    torch.save([norm.log_scale.detach(), norm.shift.detach()], Path(folder, f"{rank}.pt"))
    distributed.destroy_process_group()


def data() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(2, 50, BINS, generator=torch.Generator().manual_seed(0))
    x[1] = 4 * x[1] + 3
    return x, torch.arange(50) < torch.tensor([[50], [20]])


@pytest.mark.process
def test_first_batch_is_that_of_all_processes():
    whole = ActNorm(BINS)
    whole.see(*data())
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.start_processes(first_batch_of_a_rank, (folder,), nprocs=2, start_method="spawn")
        for rank in range(2):
            log_scale, shift = torch.load(Path(folder, f"{rank}.pt"), weights_only=True)
            torch.testing.assert_close(log_scale, whole.log_scale.detach())
            torch.testing.assert_close(shift, whole.shift.detach())


def test_mixing_matrix_begins_as_a_rotation_and_mixes_both_halves():
    torch.manual_seed(0)
    mix = GroupedMix(8, 4)
    torch.testing.assert_close(torch.linalg.det(mix.weight), torch.tensor(1.0))
    seen = torch.autograd.functional.jacobian(
        lambda x: mix.mix(x, mix.weight).sum(1)[0], torch.zeros(1, 1, 8)
    )
    reached = seen[:, 0, 0].abs() > 1e-6
    assert (reached.sum(1) == 4).all()
    assert (reached[:, :4].sum(1) == 2).all()


def test_sizes_that_cannot_be_say_so():
    with pytest.raises(ValueError, match="bins must be even"):
        Flow(5)
    with pytest.raises(ValueError, match="groups must be even and divide the 8 channels, got 3"):
        Flow(4, groups=3)
