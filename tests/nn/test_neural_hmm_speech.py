"""Speech of the neural HMM against the law that it was trained with; what is drawn belongs to the utterance."""

import math

import pytest
import torch

from hmmtts.nn.neural_hmm import draws
from hmmtts.nn.neural_hmm.speech import Manner, speak, steps
from tests.nn import oracle
from tests.nn.neural_hmms import D, M, P, batch, small


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
