"""A listener of the panel follows real speech: piece by piece the same phones as of the whole recording."""

import numpy as np
import pytest

from hmmtts.align import training
from hmmtts.align.aligner import answers
from hmmtts.align.corpus import hear, read_scripts, speller
from hmmtts.align.following import follow_by, steady
from hmmtts.align.training import track, train
from hmmtts.audio.io import read
from hmmtts.data.corpus import open_corpus
from tests.data import TEST_DATA, needs_data

UTTERANCES = 2


@pytest.fixture(scope="module")
def heard():
    """Two short sentences of LJ Speech, and a panel that has hardly learnt them."""
    reading = read_scripts(open_corpus(str(TEST_DATA / "ljspeech32")).entries, speller(None, None))
    lines = sorted(reading.lines, key=lambda line: line.utterance.duration)[:UTTERANCES]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("COARSE_FIT", "FINE_FIT", "CONTEXT_FIT", "REFIT"):
            patch.setattr(training, name, 1)
        spoken = [hear(line) for line in lines]
        return lines, spoken, train(spoken)


@needs_data
@pytest.mark.parametrize(("kind", "size"), [("coarse", 160), ("fine", 4000)])
def test_phones_of_the_stream_are_those_of_the_whole(heard, kind, size):
    lines, spoken, panel = heard
    listener = getattr(panel, kind)[1]  # at a phase of its own
    line, whole = lines[0], spoken[0]
    edges = answers(steady(listener), [track(steady(listener), whole)])[0].edges
    expected = [
        (symbol, start, end)
        for symbol, start, end in zip(line.script.symbols, edges[:-1], edges[1:], strict=True)
        if end > start
    ]
    wave, rate = read(line.utterance.audio)
    pieces = (wave[at : at + size] for at in range(0, len(wave), size))
    followed = list(follow_by(listener, line.script, pieces, rate, lag=60.0))
    assert [phone.label for phone in followed] == [symbol for symbol, _, _ in expected]
    times = np.array([(phone.start, phone.end) for phone in followed])
    np.testing.assert_allclose(times, [(start, end) for _, start, end in expected], atol=1e-6)


@needs_data
def test_two_seconds_are_as_good_as_the_whole(heard):
    lines, _, panel = heard
    wave, rate = read(lines[1].utterance.audio)
    told = [list(follow_by(panel.scout, lines[1].script, iter([wave]), rate, lag)) for lag in (2.0, 60.0)]
    assert told[0] == told[1]
