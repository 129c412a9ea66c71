"""The slots: the shapes of their contracts, that padding is never read, and the mathematics of each."""

import pytest
import torch

from hmmtts.nn import timing
from hmmtts.nn.decoders import conv, transformer
from hmmtts.nn.durations import Spoken
from hmmtts.nn.durations.geometric import Geometric
from hmmtts.nn.durations.regression import Regression
from hmmtts.nn.embedding import Embedding
from hmmtts.nn.emissions.gaussian import Gaussian
from hmmtts.nn.encoders.conv_lstm import ConvLSTM
from hmmtts.nn.encoders.neighbours import Neighbours, shifted
from hmmtts.nn.encoders.transformer import Transformer
from hmmtts.nn.losses import spectral_error
from hmmtts.nn.pitch import Contour, Pitch
from hmmtts.nn.transitions import Learned, Predicted, logit_of

SEQUENCES = {
    "encoder conv_lstm": lambda: ConvLSTM(8),
    "encoder transformer": lambda: Transformer(8, layers=2, heads=2),
    "encoder neighbours": lambda: Neighbours(8, side="both", patience=0),
    "decoder conv": lambda: conv.Conv(8, 5),
    "decoder transformer": lambda: transformer.Transformer(8, 5, layers=2, heads=2),
    "pitch": lambda: Pitch(8, bumps=5),
    "duration regression": lambda: Regression(8, 3, hop=0.01),
    "duration geometric": lambda: Geometric(8, 3, hop=0.01),
}


def scatter(module: torch.nn.Module) -> torch.nn.Module:
    """Parameters away from zero, so that no output hides what it was made of."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


@pytest.mark.parametrize("name", SEQUENCES)
def test_padding_is_never_read(name):
    torch.manual_seed(0)
    module, lengths = scatter(SEQUENCES[name]()), torch.tensor([7, 4])
    x = torch.randn(2, 7, 8)

    def run(x, lengths):
        y = module(x, lengths)
        return torch.stack(y, -1) if isinstance(y, Contour) else y

    with torch.no_grad():
        whole = run(x, lengths)
        assert torch.isfinite(whole).all()
        x[1, 4:] = 1e3
        dirty = run(x, lengths)
        assert torch.equal(dirty[0], whole[0])
        places = whole.shape[1] * 4 // 7  # a duration has several states to a symbol
        assert torch.equal(dirty[1, :places], whole[1, :places])
        alone = run(x[1:, :4], lengths[1:])
        torch.testing.assert_close(alone[0], whole[1, :places], atol=1e-5, rtol=1e-5)


def test_neighbours_are_heard_on_the_side_named_and_only_after_patience():
    torch.manual_seed(0)
    encoder = Neighbours(4, side="right", patience=2)
    torch.nn.init.normal_(encoder.mlp[-1].weight)
    x, symbols = torch.randn(1, 5, 4), torch.tensor([5])
    for _ in range(2):
        assert torch.equal(encoder(x, symbols), x)
    open_now = encoder(x, symbols)
    assert not torch.equal(open_now, x)
    changed = x.clone()
    changed[0, 2] += 1
    moved = (encoder(changed, symbols) != open_now).any(-1)[0]
    assert moved.tolist() == [False, True, True, False, False]
    assert int(encoder.batches) == 4
    assert int(encoder.eval()(x, symbols).shape[1]) == 5
    assert int(encoder.batches) == 4


def test_shifted():
    x = torch.arange(1.0, 4)[None, :, None]
    assert shifted(x, 1).flatten().tolist() == [2, 3, 0]
    assert shifted(x, -1).flatten().tolist() == [0, 1, 2]


def test_gaussian_is_the_normal_density():
    torch.manual_seed(0)
    emission = scatter(Gaussian(4, 80, floor=0.1))
    cells, x = torch.randn(2, 3, 4), torch.randn(2, 5, 80)
    mean, deviation = emission.gaussians(cells)
    expected = torch.distributions.Normal(mean[:, None].double(), deviation[:, None].double()).log_prob(
        x[:, :, None].double()
    )
    torch.testing.assert_close(emission(cells, x).double(), expected.sum(-1), atol=2e-3, rtol=1e-6)


def test_deviation_has_a_floor_where_its_gradient_lives():
    emission = Gaussian(1, 1, floor=0.2)
    emission.parameters_of.bias.data[1] = -20.0
    deviation = emission.gaussians(torch.zeros(1, 1, 1)).deviation
    assert 0.2 <= float(deviation) < 0.21
    deviation.sum().backward()
    assert float(emission.parameters_of.bias.grad[1]) > 0


def test_constant_sound_keeps_the_likelihood_bounded():
    """R15: silence whose every frame is equal cannot drive the deviation to zero and the loss to minus infinity."""
    emission = Gaussian(1, 3, floor=0.2)
    optimizer = torch.optim.Adam(emission.parameters(), lr=0.1)
    cells, silence = torch.ones(1, 2, 1), torch.full((1, 4, 3), -0.7)
    for _ in range(200):
        loss = -emission(cells, silence).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    bound = -torch.distributions.Normal(0.0, 0.2).log_prob(torch.tensor(0.0)) * 3
    assert float(bound) <= float(loss) < float(bound) + 0.3


def test_transitions_are_normalised_and_begin_at_their_duration():
    cells = torch.randn(1, 4, 6)
    for transitions in (Predicted(6, frames_per_state=5.0), Learned(6, frames_per_state=5.0)):
        stay, move, _ = transitions(cells)
        torch.testing.assert_close(stay.exp() + move.exp(), torch.ones(1, 4))
        torch.testing.assert_close(move.exp(), torch.full((1, 4), 0.2))
    with pytest.raises(ValueError, match="frames_per_state must be more than 1, got 1"):
        logit_of(1)


def test_kin_share_a_vector():
    embedding = Embedding(4, kin=(0, 1, 1))
    torch.nn.init.zeros_(embedding.symbols.weight)
    ids, none = torch.tensor([[1, 2]]), torch.zeros(1, dtype=torch.long)
    x = embedding(ids, torch.zeros_like(ids), none, none)
    assert torch.equal(x[0, 0], x[0, 1])


@pytest.mark.parametrize("statistic", ["expected", "quantile"])
def test_geometric_durations_are_those_of_the_law(statistic):
    law = Geometric(2, 1, hop=0.01, statistic=statistic, quantile=0.5)
    law.leave.bias.data.fill_(logit_of(1 / 0.14))
    seconds = law(torch.zeros(1, 1, 2), torch.tensor([1]))
    frames = {"expected": 1 / 0.14, "quantile": 5}[statistic]
    assert float(seconds) == pytest.approx(0.01 * frames, rel=1e-5)


def test_geometric_samples_have_the_mean_of_the_law_and_follow_the_generator():
    law = Geometric(2, 1, hop=0.01, statistic="sampled")
    law.leave.bias.data.fill_(logit_of(1 / 0.14))

    def draw():
        return law(torch.zeros(1, 4000, 2), torch.tensor([4000]), torch.Generator().manual_seed(5))

    assert float(draw().mean()) == pytest.approx(0.01 / 0.14, rel=0.05)
    assert torch.equal(draw(), draw())


@pytest.mark.parametrize("make", [Regression, Geometric])
def test_durations_are_learned(make):
    torch.manual_seed(0)
    model = make(6, states_per_symbol=2, hop=0.01)
    model.eval()
    h, symbols = torch.randn(1, 4, 6), torch.tensor([3])
    spoken = torch.tensor([[3, 1, 2, 2, 10, 5, 0, 0]]) * 0.01
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        losses = model.losses(h, Spoken(spoken, symbols))
        assert tuple(losses) == model.TERMS
        optimizer.zero_grad()
        sum(mean.value for mean in losses.values()).backward()
        optimizer.step()
    torch.testing.assert_close(model(h, symbols), spoken, atol=0.006, rtol=0.1)


def test_frames_are_placed_in_their_states():
    seconds = torch.tensor([[0.02, 0.01, 0.03, 0.0, 0.0, 0.0], [0.01, 0.01, 0.0, 0.01, 0.02, 0.01]])
    times = timing.frame_times(7, hop=0.01, offset=0.005)
    placed = timing.place(seconds, 2, times)
    # A state without duration gets no frame; beyond the end the last state with one goes on.
    assert placed.state.tolist() == [[0, 0, 1, 2, 2, 2, 2], [0, 1, 3, 4, 4, 5, 5]]
    torch.testing.assert_close(placed.place[0, :3, 0], torch.tensor([1 / 6, 1 / 2, 5 / 6]))  # in the symbol
    torch.testing.assert_close(placed.place[0, :2, 1], torch.tensor([1 / 4, 3 / 4]))  # in the state


def test_boundaries_lie_halfway_between_frames():
    durations = torch.tensor([[2.0, 1.0, 4.0, 3.0]])
    starts, ends = timing.boundaries(durations, 2, hop=0.01, offset=0.0)
    torch.testing.assert_close(starts, torch.tensor([[0.0, 0.025]]))
    torch.testing.assert_close(ends, torch.tensor([[0.025, 0.095]]))
    seconds = timing.state_seconds(durations, 0.01, 0.0)
    torch.testing.assert_close(seconds.unflatten(1, (2, 2)).sum(2).cumsum(1), ends)


def test_pitch_measures_octaves_where_the_recording_is_voiced():
    pitch = Pitch(4, lowest=100.0, highest=400.0, bumps=5)
    f0 = torch.tensor([[200.0, 0.0, 100.0, 300.0]])
    contour = Contour(torch.tensor([[1.0, 9.0, 0.5, 9.0]]), torch.tensor([[30.0, -30.0, 30.0, -30.0]]))
    losses = pitch.losses(contour, f0, torch.tensor([3]))
    assert float(losses["f0"].value) == pytest.approx(0.25)
    assert float(losses["voicing"].value) == pytest.approx(0.0, abs=1e-6)
    hertz = pitch.hertz(contour)[0]
    assert hertz[:2].tolist() == [200.0, 0.0]
    shown = pitch.show(f0)
    assert not torch.equal(shown[0, 0], shown[0, 2])


def test_spectral_error_is_a_mean_over_the_real_frames():
    made, natural = torch.zeros(2, 3, 2), torch.full((2, 3, 2), 2.0)
    natural[1, 1:] = torch.nan
    assert float(spectral_error(made, natural, torch.tensor([3, 1])).value) == pytest.approx(2 + 0.5 * 4)
