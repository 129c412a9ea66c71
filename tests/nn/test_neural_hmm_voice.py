"""Voices made of the neural HMM: one that speaks by itself, with and without a flow, and one with a parallel decoder."""

from functools import partial

import pytest
import torch

from hmmtts.autoregressive import Autoregressive, state_frames
from hmmtts.model import TTSModel
from hmmtts.nn.aligners.neural_hmm import NeuralHMMAligner
from hmmtts.nn.decoders.conv import Conv
from hmmtts.nn.decoders.flow import Flow
from hmmtts.nn.durations.regression import Regression
from hmmtts.nn.encoders.conv_lstm import ConvLSTM
from hmmtts.nn.neural_hmm import NeuralHMM
from hmmtts.nn.neural_hmm.speech import Manner
from hmmtts.nn.neural_hmm.text import OwnThenContext, TextCells
from hmmtts.nn.pitch import Pitch
from hmmtts.speech_model import Sizes
from tests.nn.neural_hmms import P
from tests.nn.voices import BINS, FEATURES, SYMBOLS, speech


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


def mels(symbols=(5, 3, 6), frames=(20, 12, 16), names=None):
    """Speech whose acoustic features are the mel."""
    made = speech(symbols, tuple(2 * count for count in frames), names)
    return made._replace(acoustic=made.mel, acoustic_frames=made.frames)


FLOWS = [None, partial(Flow, blocks=2, width=8, groups=2)]


class TestVoice:
    @pytest.mark.parametrize("decoder", FLOWS, ids=["plain", "flow"])
    def test_what_cannot_be_aligned_and_what_does_not_count_change_nothing(self, decoder):
        model = voice(decoder)
        given = mels(symbols=(5, 9, 6), frames=(20, 12, 16), names=["a", "short", ""])
        model.losses(given)  # the flow has seen its first batch
        model.eval()
        losses = model.losses(given)
        assert losses["impossible"] == 1
        one = given.take(torch.tensor([True, False, False]))
        torch.testing.assert_close(losses["nll"], model.losses(one)["nll"])

    @pytest.mark.parametrize("decoder", FLOWS, ids=["plain", "flow"])
    def test_a_rank_without_an_utterance_still_gives_every_gradient(self, decoder):
        model = voice(decoder)
        nothing = mels(symbols=(9,), frames=(10,))
        losses = model.losses(nothing)
        losses["nll"].backward()
        assert losses["nll"] == 0
        assert all(parameter.grad is not None for parameter in model.parameters())

    @pytest.mark.parametrize("decoder", FLOWS, ids=["plain", "flow"])
    def test_likelihood_of_the_alignment_is_that_of_the_loss(self, decoder):
        model = voice(decoder)
        given = mels()
        model.losses(given)
        model.eval()
        aligned = model.align(given)
        total = aligned.alignment.log_likelihood.sum()
        torch.testing.assert_close(-(total / given.frames.sum()).float(), model.losses(given)["nll"])
        spans = aligned.ends - aligned.starts
        assert (spans[:, 0] > 0).all()

    @pytest.mark.parametrize("decoder", FLOWS, ids=["plain", "flow"])
    def test_a_few_steps_lower_the_loss(self, decoder):
        model, given = voice(decoder), mels()
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
        given = mels()
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

    @pytest.mark.parametrize("decoder", FLOWS, ids=["plain", "flow"])
    def test_stream_is_the_synthesis(self, decoder):
        model = voice(decoder)
        given = mels((5,), (20,))
        model.losses(given)  # the flow has seen its first batch
        model.eval()
        text = (given.ids, given.symbols, given.marks, given.speaker * 0, given.language * 0)
        made = model.synthesize(*text, rate=0.2, generator=torch.Generator().manual_seed(3))
        stream = model.stream(
            given.ids[0], given.marks[0], rate=0.2, generator=torch.Generator().manual_seed(3)
        )
        heard = list(stream)
        torch.testing.assert_close(torch.stack([frame.mel for frame in heard]), made.mel[0])
        assert [frame.symbol for frame in heard if frame.begins] == [0, 1, 2, 3, 4]

    def test_another_hop_than_the_mels_is_refused(self):
        sizes = Sizes(tuple(range(SYMBOLS)), BINS, BINS, hop=0.01, acoustic_hop=0.005)
        with pytest.raises(ValueError, match="features/acoustic=mel"):
            Autoregressive(sizes, partial(NeuralHMMAligner), Manner())


def test_a_state_knows_its_own_symbol_first_and_the_sentence_after_patience():
    torch.manual_seed(0)
    context = partial(TextCells, dropout=0.0, rich=True)
    text = OwnThenContext((0, 1, 2, 1), 1, 1, 2, context, width=6, patience=1)
    torch.nn.init.normal_(text.heard.weight)
    ids, others = torch.tensor([[1, 2, 1]]), torch.tensor([[3, 1, 2]])  # 3 is of 1's kin
    marks, count, one = torch.zeros_like(ids), torch.tensor([3]), torch.tensor([0])
    alone = text(ids, count, marks, one, one)  # the one batch of patience
    torch.testing.assert_close(alone[:, :2], alone[:, 4:])
    text.batches.zero_()
    text.eval()
    torch.testing.assert_close(text(others, count, marks, one, one)[:, :2], alone[:, :2])
    text.batches.add_(1)
    heard = text(ids, count, marks, one, one)
    assert not torch.allclose(heard[:, :2], heard[:, 4:])


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
