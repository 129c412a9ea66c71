"""The semi-Markov aligner in a voice: it learns where symbols lie and how long they last, and speaks by that law."""

from functools import partial

import pytest
import torch

from hmmtts.batch import Batch
from hmmtts.model import TTSModel
from hmmtts.nn.aligners.semi_markov import SemiMarkovAligner
from hmmtts.nn.decoders.conv import Conv
from hmmtts.nn.duration_laws import Gamma, Law, Predicted, Table, quantile
from hmmtts.nn.durations.semi_markov import SemiMarkov
from hmmtts.nn.emissions.gaussian import Gaussian
from hmmtts.nn.encoders.conv_lstm import ConvLSTM
from hmmtts.nn.encoders.neighbours import Neighbours
from hmmtts.nn.pitch import Pitch
from hmmtts.speech_model import Sizes
from hmmtts.synthesis.manner import varied
from tests.nn.voices import BINS, FEATURES, SYMBOLS, speech

LONGEST = 14


def voice(law: type[Law] = Gamma, shortest: int = 1, per_symbol: int = 1, patience: int = 0) -> TTSModel:
    torch.manual_seed(0)
    aligner = partial(
        SemiMarkovAligner,
        encoder=Neighbours(8, side="right", patience=patience),  # as conf/aligner/semi_markov.yaml
        emission=Gaussian,
        durations=partial(Predicted, law=law(), longest=LONGEST, shortest=shortest),
        states_per_symbol=per_symbol,
    )
    duration = partial(SemiMarkov, law=law(), longest=LONGEST, shortest=shortest)
    sizes = Sizes(tuple(range(SYMBOLS)), BINS, FEATURES, hop=0.01, acoustic_hop=0.005)
    return TTSModel(sizes, ConvLSTM(16), aligner, duration, Conv, partial(Pitch, bumps=12))


def spoken_by_rule(utterances: int) -> tuple[Batch, torch.Tensor]:
    """Each symbol has a sound and a length of its own, give or take a frame; the batch, and the symbol of every frame."""
    g = torch.Generator().manual_seed(0)
    sounds = 2 * torch.randn(SYMBOLS, FEATURES, generator=g)
    counts = torch.randint(5, 8, (utterances,), generator=g).tolist()
    texts = [1 + torch.randperm(SYMBOLS - 1, generator=g)[:count] for count in counts]
    lasted = [length_of(ids) + torch.randint(-1, 2, ids.shape, generator=g) for ids in texts]
    batch = speech(symbols=counts, acoustic_frames=[int(frames.sum()) for frames in lasted])
    truth = torch.full(batch.acoustic.shape[:2], -1)
    for i, (ids, frames) in enumerate(zip(texts, lasted, strict=True)):
        symbol = torch.arange(len(ids)).repeat_interleave(frames)
        batch.ids[i, : len(ids)] = ids
        truth[i, : len(symbol)] = symbol
        batch.acoustic[i, : len(symbol)] = sounds[ids[symbol]] + 0.6 * batch.acoustic[i, : len(symbol)]
    return batch._replace(acoustic=batch.acoustic / batch.acoustic.std()), truth


def length_of(ids: torch.Tensor) -> torch.Tensor:
    return 3 + ids


@pytest.mark.parametrize("law", [Gamma, Table])
def test_it_learns_where_symbols_lie_and_how_long_they_last(law):
    batch, truth = spoken_by_rule(16)
    model = voice(law, patience=40)
    optimizer = torch.optim.Adam(model.aligner.parameters(), lr=0.02)
    for _ in range(80):
        loss = -model.aligner(batch).log_likelihood.sum() / batch.acoustic_frames.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    found, real = model.align(batch).alignment.path, truth >= 0
    assert float((found == truth)[real].float().mean()) > 0.97
    with torch.no_grad():
        durations = model.aligner.hmm.trellis(batch).topology.durations
    middle = quantile(durations, 0.5)
    for i, count in enumerate(batch.symbols.tolist()):
        expected = length_of(batch.ids[i, :count]).float()
        assert float((middle[i, :count] - expected).abs().mean()) < 1.2


def test_every_part_learns_from_every_batch():
    model = voice()
    sum(model.losses(speech()).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_utterances_beyond_the_hard_limits_are_left_out():
    """Three symbols of 2 to 14 frames: 6 to 42."""
    model = voice(shortest=2)
    batch = speech(symbols=(3, 3, 3, 3), acoustic_frames=(42, 43, 6, 5))
    assert model.possible(batch).tolist() == [True, False, True, False]
    assert float(model.losses(batch)["impossible"]) == 2
    aligned = model.eval().align(batch)
    assert aligned.alignment.durations.sum(1).tolist() == [42, 0, 6, 0]
    assert aligned.starts[1].isnan().all()


def test_speech_lasts_as_the_law_says_and_a_lower_quantile_speaks_faster():
    model, batch = voice(), speech()
    with torch.no_grad():
        for parameter in model.duration.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        model.duration.law.free.bias.copy_(Gamma().start(6.0, torch.arange(1.0, LONGEST + 1)))
    model.eval()

    def say(model, **options):
        return model.synthesize(
            batch.ids, batch.symbols, batch.marks, batch.speaker, batch.language, **options
        )

    spoken = [say(varied(model, None, share)).durations for share in (0.2, 0.5, 0.8)]
    assert (spoken[0] <= spoken[1]).all()
    assert (spoken[1] <= spoken[2]).all()
    assert spoken[0].sum() < 0.8 * spoken[1].sum()
    assert spoken[1].sum() < 0.8 * spoken[2].sum()
    h = model.encode(batch.ids, batch.symbols, batch.marks, batch.speaker, batch.language)
    law = model.duration.log_probabilities(h)
    real = torch.arange(6) < batch.symbols[:, None]
    median = torch.where(real, quantile(law, 0.5) * 0.005, 0.0)
    torch.testing.assert_close(spoken[1], median)
    model.duration.statistic = "sampled"
    drawn = [say(model, generator=torch.Generator().manual_seed(seed)).durations for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_settings_of_speech_are_refused_by_name():
    for options, message in (
        ({"statistic": "mode"}, "statistic must be expected, quantile or sampled, got 'mode'"),
        ({"quantile": 1.0}, "quantile must lie between 0 and 1, got 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            SemiMarkov(8, 1, 0.005, Gamma(), LONGEST, **options)
