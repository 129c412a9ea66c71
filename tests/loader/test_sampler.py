"""The properties that training and evaluation rest on, over random corpora."""

from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hmmtts.data.dataset import Draw
from hmmtts.data.manifest import Utterance, write_utterances
from hmmtts.data.sampler import Epochs, EvaluationBatches, StreamedBatches, TrainingBatches
from tests.examples import examples

LONGEST = 10.0


def utterance(number: int, seconds: float) -> Utterance:
    return Utterance(f"u{number}", Path("a.wav"), 16000, 0.0, seconds, seconds, "text")


class Limits(NamedTuple):
    max_seconds: float
    max_items: int
    bucket_count: int
    world_size: int


limits = st.builds(Limits, st.floats(LONGEST, 60.0), st.integers(1, 9), st.integers(1, 8), st.integers(1, 5))
corpora = st.lists(st.floats(0.1, LONGEST), min_size=1, max_size=60).map(
    lambda seconds: [utterance(number, value) for number, value in enumerate(seconds)]
)
plans = st.builds(lambda utterances, limits: Epochs(utterances, *limits), corpora, limits)


def names(batches: list[list[Draw]], counted_only: bool = False) -> list[str]:
    return [draw.utterance.id for batch in batches for draw in batch if draw.counted or not counted_only]


def ranks(epochs: Epochs, **options: int) -> list[list[list[Draw]]]:
    """The first epoch of every rank."""
    return [
        list(islice(TrainingBatches(epochs, rank=rank, **options), epochs.steps))
        for rank in range(epochs.world_size)
    ]


@examples(60)
@given(corpora, limits, st.integers(0, 3))
def test_an_epoch_covers_the_corpus_in_equal_steps_within_the_limits(
    utterances: list[Utterance], limits: Limits, seed: int
):
    epochs = Epochs(utterances, *limits)
    shares = ranks(epochs, seed=seed)
    assert {len(share) for share in shares} == {epochs.steps}
    batches = [batch for share in shares for batch in share]
    assert sorted(names(batches, counted_only=True)) == sorted(u.id for u in utterances)
    for batch in batches:
        assert 1 <= len(batch) <= limits.max_items
        assert len(batch) * max(draw.utterance.duration for draw in batch) <= limits.max_seconds


@examples(60)
@given(plans)
def test_evaluation_counts_every_utterance_once(epochs: Epochs):
    shares = [list(EvaluationBatches(epochs, rank)) for rank in range(epochs.world_size)]
    assert {len(share) for share in shares} == {epochs.steps}
    counted = names([batch for share in shares for batch in share], counted_only=True)
    assert sorted(counted) == sorted(u.id for u in epochs.utterances)
    assert shares == [list(EvaluationBatches(epochs, rank)) for rank in range(epochs.world_size)]


@examples(40)
@given(plans, st.integers(0, 40), st.integers(0, 3))
def test_resuming_is_a_slice_of_the_uninterrupted_run(epochs: Epochs, position: int, seed: int):
    rank = epochs.world_size - 1
    whole = list(islice(TrainingBatches(epochs, seed, rank), position + 5))
    assert list(islice(TrainingBatches(epochs, seed, rank, position), 5)) == whole[position:]


@examples(40)
@given(plans, st.integers(2, 5))
def test_the_order_of_utterances_does_not_depend_on_the_world_size(epochs: Epochs, world_size: int):
    """Steps of all ranks laid side by side give the order of one process: ranks may change when a run resumes."""
    together = Epochs(epochs.utterances, 60.0, 4, 5, world_size)
    alone = Epochs(epochs.utterances, 60.0, 4, 5)
    side_by_side = [batch for step in zip(*ranks(together), strict=True) for batch in step]
    assert names(side_by_side, counted_only=True) == names(ranks(alone)[0])


@examples(100)
@given(corpora, limits, st.integers(1, 5), st.integers(0, 40))
@example([utterance(i, s) for i, s in enumerate([1.0, 1.0, 1.0, 6.0])], Limits(10.0, 2, 2, 1), 2, 1)
def test_other_ranks_go_on_in_the_same_order(
    utterances: list[Utterance], limits: Limits, before: int, steps: int
):
    """What some ranks have drawn of an epoch and others draw then is the order of one process, nothing left out.

    Nor is a whole step drawn twice. In the example the two ranks had split the first batch, not the last.
    """
    old, new, alone = (
        Epochs(utterances, *limits._replace(world_size=count)) for count in (before, limits.world_size, 1)
    )

    def drawn(epochs: Epochs, first: int, last: int) -> list[str]:
        steps = zip(
            *(
                islice(TrainingBatches(epochs, 0, rank, first), last - first)
                for rank in range(epochs.world_size)
            ),
            strict=True,
        )
        return names([batch for step in steps for batch in step], counted_only=True)

    epoch = steps // old.steps
    earlier = drawn(old, epoch * old.steps, steps)
    position = new.after(steps, before, seed=0)
    later = drawn(new, position, (epoch + 1) * new.steps)
    whole = drawn(alone, epoch * alone.steps, (epoch + 1) * alone.steps)
    assert earlier == whole[: len(earlier)]
    assert later == whole[len(whole) - len(later) :]
    assert 0 <= len(earlier) + len(later) - len(whole) < len(drawn(new, position, position + 1))


def test_padding_counts_towards_max_seconds():
    seconds = [9.0, 8.0, 7.0, 3.0, 3.0, 2.9, 1.0, 1.0, 1.0, 1.0]
    epochs = Epochs([utterance(i, s) for i, s in enumerate(seconds)], max_seconds=18.0, bucket_count=10)
    for batch in EvaluationBatches(epochs):
        durations = [draw.utterance.duration for draw in batch]
        assert len(durations) * max(durations) <= 18.0


def test_epochs_and_seeds_differ_and_lengths_stay_together():
    epochs = Epochs([utterance(i, 1.0 + i / 100) for i in range(200)], max_seconds=12.0, bucket_count=10)
    first, second = epochs.shuffled(0, 0), epochs.shuffled(0, 1)
    assert first != second
    assert first != epochs.shuffled(1, 0)
    assert first == epochs.shuffled(0, 0)
    real = sum(u.duration for u in epochs.utterances)
    padded = sum(len(b) * max(epochs.utterances[i].duration for i in b) for b in first)
    assert padded / real < 1.1


def test_more_ranks_than_utterances_still_take_equal_steps():
    epochs = Epochs([utterance(0, 1.0)], max_seconds=10.0, world_size=2)
    (first,), (second,) = ranks(epochs)
    assert first[0].counted
    assert second == [first[0]._replace(counted=False)]


def test_what_cannot_be_batched_is_named():
    with pytest.raises(ValueError, match=r"longest utterance, u1 of 9.00 s, got 5: raise it, or leave out"):
        Epochs([utterance(0, 1.0), utterance(1, 9.0)], max_seconds=5)
    with pytest.raises(ValueError, match="must not be empty"):
        Epochs([], max_seconds=5)
    with pytest.raises(ValueError, match="rank must be from 0 to world_size - 1, got rank 2 of 2"):
        next(iter(TrainingBatches(Epochs([utterance(0, 1.0)], 5, world_size=2), rank=2)))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stream") / "cuts_train.jsonl.gz"
    write_utterances(path, (utterance(number, 1.0 + number % 17 / 4) for number in range(300)))
    return path


def streamed(manifest: Path, **options: int) -> StreamedBatches:
    return StreamedBatches(manifest, max_seconds=20.0, bucket_count=4, window=100, **options)


def test_a_stream_is_covered_within_limits_and_resumes(manifest: Path):
    batches = list(islice(streamed(manifest), 150))
    first_epoch = [batch for batch in batches if batch[0].epoch == 0]
    assert len(first_epoch) < 150
    assert sorted(names(first_epoch)) == sorted(f"u{number}" for number in range(300))
    for batch in batches:
        assert len(batch) * max(draw.utterance.duration for draw in batch) <= 20.0
    for position in (37, len(first_epoch), len(first_epoch) + 7):
        assert list(islice(streamed(manifest, position=position), 20)) == batches[position : position + 20]


def test_ranks_share_a_stream_in_equal_steps(manifest: Path):
    shares = [list(islice(streamed(manifest, rank=rank, world_size=2), 60)) for rank in (0, 1)]
    epochs = [[batch[0].epoch for batch in share] for share in shares]
    assert epochs[0] == epochs[1]
    first = [names([batch for batch in share if batch[0].epoch == 0]) for share in shares]
    assert sorted(first[0] + first[1]) == sorted(f"u{number}" for number in range(300))


def test_a_stream_reads_no_further_than_it_must(tmp_path: Path):
    """Memory is one window: the first batch comes although the manifest breaks off behind it."""
    good = [utterance(number, 1.0) for number in range(10)]
    path = tmp_path / "cuts.jsonl"
    write_utterances(path, good)
    with path.open("a") as file:
        file.write("broken\n")
    stream = iter(StreamedBatches(path, max_seconds=5.0, window=10))
    assert {len(next(stream)), len(next(stream))} == {5}
    with pytest.raises(ValueError, match=r"cuts.jsonl:11: not a lhotse cut"):
        next(stream)


def test_an_empty_stream_is_an_error(tmp_path: Path):
    write_utterances(tmp_path / "cuts.jsonl", [])
    with pytest.raises(ValueError, match="holds no utterance"):
        next(iter(StreamedBatches(tmp_path / "cuts.jsonl", max_seconds=5.0)))
