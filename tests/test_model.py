"""TTSModel: what its losses count, its alignment in seconds, its speech; and that the aligner learns."""

import copy

import pytest
import torch

from hmmtts.batch import Batch
from hmmtts.nn.decoders.transformer import Transformer as TransformerDecoder
from hmmtts.nn.durations.geometric import Geometric
from hmmtts.nn.encoders.transformer import Transformer
from tests.nn.voices import FEATURES, SYMBOLS, formed, speech, voice

TERMS = {"nll", "mel", "duration", "shares", "f0", "voicing", "impossible"}


def gradients(model, batch) -> dict[str, torch.Tensor]:
    model.zero_grad()
    sum(model.losses(batch).values()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def say(model, batch, **options):
    return model.synthesize(batch.ids, batch.symbols, batch.marks, batch.speaker, batch.language, **options)


@pytest.mark.parametrize(
    "slots",
    [{}, {"encoder": lambda: Transformer(16, 1, 2), "decoder": TransformerDecoder}, {"duration": Geometric}],
    ids=["default", "transformers", "geometric"],
)
def test_every_part_learns_from_every_batch(slots):
    model = voice(**{name: make() if name == "encoder" else make for name, make in slots.items()})
    losses = model.losses(speech())
    assert set(losses) == TERMS - ({"shares"} if slots.get("duration") else set())
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_nll_is_in_nats_per_acoustic_frame():
    """At the flat start every state is N(0, 1), so the emissions of a path do not depend on the path."""
    model, batch = voice(), speech(symbols=(1,), acoustic_frames=(7,))
    emitted = torch.distributions.Normal(0, 1).log_prob(batch.acoustic).sum()
    leave = 1 / 4
    paths = 6 * leave**2 * (1 - leave) ** 5  # two states in seven frames: six places for the border
    expected = -(emitted + torch.log(torch.tensor(paths))) / 7
    assert model.losses(batch)["nll"].item() == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_impossible_utterances_are_counted_and_change_nothing_else(half: bool):
    """R14: fewer frames than states, or a repeat; the losses and gradients are, bit for bit, those without it."""
    model = voice().eval()
    both = speech(symbols=(5, 6, 3), acoustic_frames=(40, 11, 24))
    assert model.possible(both).tolist() == [True, False, True]
    kept = both.take(torch.tensor([True, False, True]))
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        got, expected = model.losses(both), model.losses(kept)
        assert float(got.pop("impossible")) == 1
        assert float(expected.pop("impossible")) == 0
        assert all(torch.equal(got[name], expected[name]) for name in got)
        first, second = gradients(model, both), gradients(model, kept)
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert all(gradient.isfinite().all() for gradient in first.values())
        repeated = both._replace(names=["u0", "u1", ""], acoustic_frames=torch.tensor([40, 30, 24]))
        assert float(model.losses(repeated)["impossible"]) == 0


def test_a_batch_without_any_possible_utterance_gives_zeros_to_every_parameter():
    model, batch = voice(), speech(symbols=(6, 6), acoustic_frames=(11, 10))
    losses = model.losses(batch)
    assert float(losses["impossible"]) == 2
    assert sum(value.item() for name, value in losses.items() if name != "impossible") == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_padding_and_neighbours_in_the_batch_change_nothing():
    model, batch = formed(voice()), speech()
    together = model.align(batch)
    spoken = say(model, batch)
    for i in range(3):
        alone = batch.take(torch.arange(3) == i)
        s, u, t = int(alone.symbols), int(alone.acoustic_frames), int(spoken.frames[i])
        aligned = model.align(alone)
        torch.testing.assert_close(aligned.starts[0], together.starts[i, :s])
        torch.testing.assert_close(
            aligned.alignment.posterior[0], together.alignment.posterior[i, :u, : 2 * s]
        )
        own = say(model, alone)
        assert int(own.frames) == t
        torch.testing.assert_close(own.mel[0], spoken.mel[i, :t], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(own.f0[0], spoken.f0[i, :t], atol=1e-3, rtol=1e-4)
        assert not spoken.mel[i, t:].any()


def test_alignment_in_seconds():
    batch = speech(symbols=(5, 6, 3), acoustic_frames=(40, 11, 24))
    aligned = formed(voice()).align(batch)
    durations = aligned.alignment.durations
    assert durations.sum(1).tolist() == [40, 0, 24]
    assert aligned.starts[0, 0] == 0
    assert float(aligned.ends[0, 4]) == pytest.approx((40 - 0.5) * 0.005)
    assert torch.equal(aligned.starts[0, 1:5], aligned.ends[0, :4])
    assert aligned.starts[1].isnan().all()  # impossible
    assert aligned.ends[2, 3:].isnan().all()  # padding
    assert (aligned.alignment.path[1] == -1).all()


def test_speech_follows_rate_and_given_durations():
    model, batch = voice().eval(), speech()
    normal, fast = say(model, batch), say(model, batch, rate=2.0)
    torch.testing.assert_close(fast.durations, normal.durations / 2)
    assert (fast.frames < normal.frames).all()
    given = torch.rand(3, 6) * 0.2
    told = say(model, batch, durations=given)
    real = torch.arange(6) < batch.symbols[:, None]
    torch.testing.assert_close(told.durations, torch.where(real, given, 0.0))
    assert told.frames.tolist() == [int(x / 0.01 + 1e-6) + 1 for x in told.durations.sum(1)]
    one = torch.ones(3, 6)
    one[:, 0] = 0.5
    slow_start = say(model, batch, rate=one)
    torch.testing.assert_close(slow_start.durations[:, 0], 2 * normal.durations[:, 0])


def test_speech_is_the_same_under_the_same_generator():
    def draw(seed):
        return say(model, batch, generator=torch.Generator().manual_seed(seed))

    def sampled(**known):
        return Geometric(**known, statistic="sampled")

    model, batch = voice(duration=sampled).eval(), speech()
    first, second, other = draw(1), draw(1), draw(2)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first.durations, other.durations)


def test_speakers_and_languages_sound_different_only_where_there_are_several():
    batch = speech()
    one, several = voice().eval(), voice(speakers=2, languages=2).eval()
    other = batch._replace(speaker=1 - batch.speaker)
    assert torch.equal(say(one, batch).mel, say(one, other).mel)
    assert not torch.equal(say(several, batch).durations, say(several, other).durations) or not torch.equal(
        several.encode(batch.ids, batch.symbols, batch.marks, batch.speaker, batch.language),
        several.encode(batch.ids, batch.symbols, batch.marks, other.speaker, batch.language),
    )
    names = dict(one.named_parameters()).keys()
    assert not [name for name in names if "speakers" in name or "languages" in name]


def test_autocast_leaves_the_alignment_as_it_is():
    model, batch = formed(voice()), speech()
    expected = model.losses(batch)["nll"]
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.losses(batch)
    assert torch.equal(losses["nll"], expected)
    assert all(torch.isfinite(value) for value in losses.values())


def test_a_copy_speaks_alike_and_its_state_is_tensors():
    model, batch = voice().eval(), speech()
    twin = copy.deepcopy(model)
    assert torch.equal(say(twin, batch).mel, say(model, batch).mel)
    assert all(isinstance(value, torch.Tensor) for value in model.state_dict().values())


def spoken_by_rule(utterances: int, frames: int) -> tuple[Batch, torch.Tensor]:
    """Each symbol has a sound of its own and lasts 5 to 12 frames; the batch, and the symbol of every frame."""
    generator = torch.Generator().manual_seed(0)
    sounds = 2 * torch.randn(SYMBOLS, FEATURES, generator=generator)
    counts = torch.randint(5, 8, (utterances,), generator=generator).tolist()
    batch = speech(symbols=counts, acoustic_frames=(frames,) * utterances)
    truth = torch.zeros(utterances, frames, dtype=torch.long)
    for i, count in enumerate(counts):
        ids = 1 + torch.randperm(SYMBOLS - 1, generator=generator)[:count]
        ends = (5 + 7 * torch.rand(count, generator=generator)).cumsum(0)
        truth[i] = torch.searchsorted((ends / ends[-1] * frames).round(), torch.arange(frames), right=True)
        batch.ids[i, :count] = ids
        batch.acoustic[i] = sounds[ids[truth[i]]] + 0.3 * batch.acoustic[i]
    return batch._replace(acoustic=batch.acoustic / batch.acoustic.std()), truth


@pytest.mark.parametrize("shuffled", [False, True], ids=["true text", "wrong text"])
def test_the_aligner_learns_where_symbols_lie(shuffled):
    """From a flat start to the true boundaries; with the texts of other utterances it does not."""
    batch, truth = spoken_by_rule(16, 56)
    heard = batch._replace(ids=batch.ids.roll(1, 0)) if shuffled else batch
    model = voice(patience=40)
    optimizer = torch.optim.Adam(model.aligner.parameters(), lr=0.01)
    for _ in range(80):
        loss = -model.aligner(heard).log_likelihood.sum() / batch.acoustic_frames.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = model.eval().align(batch).alignment.path // 2
    accuracy = (found == truth).float().mean().item()
    assert accuracy < 0.6 if shuffled else accuracy > 0.95
