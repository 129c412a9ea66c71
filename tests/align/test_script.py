"""Symbols in a row, open pauses, shared sounds; what a frame's time is; centring; files that others read back."""

import json

import numpy as np
import pytest
from praatio import textgrid as praat

from hmmtts.align import centring, output
from hmmtts.align.corpus import Line, phones_of, training_order
from hmmtts.align.listening import COARSE, FINE, RATE, edges, frames_at, listen, prepared
from hmmtts.align.panel import Aligned, Phone, Word
from hmmtts.align.script import (
    BETWEEN,
    EDGE,
    by_duration,
    certain,
    inventory,
    settled,
    sound,
    with_open_pauses,
)
from hmmtts.data.alignment import read_lab, read_textgrid
from hmmtts.data.manifest import Utterance
from hmmtts.text import Phones, Transcript

SPOKEN = Transcript(["h", "i", "sil", "y", "o", "u"], ["hi", "you"], [0, 0, -1, 1, 1, 1])


@pytest.mark.parametrize(
    ("symbol", "plain"),
    [("AH0", "AH"), ("AH1", "AH"), ("ˈeɪ", "eɪ"), ("b", "b"), ("1", "1"), ("ˈ", "ˈ"), ("sil", "sil")],
)
def test_stress_is_not_part_of_a_sound(symbol, plain):
    assert sound(symbol) == plain


def test_open_pauses_stand_at_the_ends_and_between_words():
    script = with_open_pauses(SPOKEN)
    assert script.symbols == ["sil", "h", "i", "sil", "y", "o", "u", "sil"]
    assert script.open_pauses == [EDGE, 0, 0, BETWEEN, 0, 0, 0, EDGE]
    assert script.word_of == [-1, 0, 0, -1, 1, 1, 1, -1]


def test_short_open_pauses_go_and_neighbours_share_their_time():
    script = with_open_pauses(SPOKEN)
    times = np.array(
        [0.0, 0.02, 0.2, 0.3, 0.32, 0.5, 0.6, 0.7, 1.0]
    )  # 20 ms at the start and between the words
    found = settled(script, times)
    assert found.script.symbols == ["h", "i", "y", "o", "u", "sil"]
    assert not any(found.script.open_pauses)
    np.testing.assert_allclose(found.edges, [0.0, 0.2, 0.31, 0.5, 0.6, 0.7, 1.0])


def test_a_written_pause_stays_however_short():
    script = certain(SPOKEN)
    times = np.linspace(0, 0.06, 7)
    found = settled(script, times)
    assert found.script == script
    np.testing.assert_array_equal(found.edges, times)


def test_states_by_duration():
    scripts = [certain(Phones()("sil t a t a sil"))]
    times = [np.cumsum([0, 0.5, 0.012, 0.1, 0.012, 0.1, 0.5])]
    number = by_duration(scripts, times, hop=0.005, most=5, quantile=0.25)
    assert number == {"sil": 5, "t": 2, "a": 5}
    places = inventory(number)
    assert places.size == 12
    assert sorted(i for name in number for i in places.states(name)) == list(range(12))
    assert places.states("a") == places.states("ˈa")


def utterance(phones: str | None, text: str = "hi you", id: str = "a") -> Utterance:
    return Utterance(id, None, 0, 0.0, 0.0, 0.0, text, phones=phones.split() if phones else None)


def test_words_take_their_spelling_from_the_text_where_it_matches():
    assert phones_of(utterance("h i | y o u")).transcript.words == ["hi", "you"]
    assert phones_of(utterance("h i y o u")).transcript.words == ["hiyou"]


def test_no_sound_is_missed_in_training():
    lines = [Line(utterance(None, id=str(i)), certain(Phones()("a b"))) for i in range(50)]
    lines.append(Line(utterance(None, id="rare"), certain(Phones()("a x"))))
    chosen = list(training_order(lines, seed=0))
    assert sorted(line.id for line in chosen) == sorted(line.id for line in lines)
    assert "rare" in [line.id for line in chosen[:12]]
    assert [line.id for line in chosen] == [line.id for line in training_order(lines, seed=0)]
    assert [line.id for line in chosen] != [line.id for line in training_order(lines, seed=1)]


@pytest.mark.parametrize("listening", [COARSE, FINE])
@pytest.mark.parametrize("phase", [0.0, 0.0025])
def test_the_time_of_a_frame_is_its_centre(listening, phase):
    """Silence, then noise from 0.5 s on: energy crosses the middle of its range at the frame centred there."""
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.3
    noise[: RATE // 2] = 0
    energy = listen(prepared(noise, RATE), listening, phase)[:, 0]
    # The centre of the window crosses when half of its power lies in the noise: a fall of 3 dB from the plateau.
    plateau = np.median(energy[len(energy) * 3 // 4 :])
    loud = int(np.argmax(energy > plateau - 3 * np.sqrt(26)))
    centre = phase + loud * listening.hop
    assert abs(centre - 0.5) <= listening.hop / 2 + listening.window / 2
    first = round(float(frames_at(np.array([0.5]), listening, phase)[0]))
    assert abs(edges(np.array([first]), listening, phase)[0] - 0.5) <= listening.hop / 2 + 1e-9


def test_edges_and_frames_are_inverse():
    firsts = np.arange(10)
    np.testing.assert_allclose(frames_at(edges(firsts, FINE, 0.0025), FINE, 0.0025), firsts)


@pytest.mark.parametrize(("spread", "remains"), [(0.0, 0.0), (3.0, 0.15)])
def test_voices_are_brought_together_and_one_voice_is_left_alone(spread, remains):
    """Means of utterances differ by chance (phones of 80 ms); only what is more than chance is removed."""
    random = np.random.default_rng(0)
    corpus = []
    for _ in range(200):
        phones = np.repeat(random.standard_normal((40, 2)), 8, axis=0)
        corpus.append(phones + spread * random.standard_normal(2))
    centre = centring.learn(corpus, hop=0.01)
    means = np.stack([centre(features).mean(0) for features in corpus])
    if spread:
        assert means.var(0).max() < remains
    else:
        assert means.var(0).min() > 0.6 / 40  # the chance of the sentences is still there
    total = np.concatenate([centre(features) for features in corpus])
    np.testing.assert_allclose(total.std(0), 1.0, atol=0.05)


ALIGNED = Aligned(
    "clip",
    0.9,
    [Word('h"i', 0.1, 0.3), Word("you", 0.3, 0.7)],
    [
        Phone("sil", 0.0, 0.1, 0.5),
        Phone("h", 0.1, 0.2, 1.0),
        Phone("ˈaɪ", 0.2, 0.3, 0.25),
        Phone('"', 0.3, 0.7, 0.75),
        Phone("sil", 0.7, 0.9, 1.0),
    ],
    -1.0,
)


def test_textgrid_is_read_back(tmp_path):
    output.write(ALIGNED, tmp_path, ["textgrid", "ctm", "json", "lab"])
    times = read_textgrid(tmp_path / "clip.TextGrid")
    assert [item.symbol for item in times.phones] == [phone.label for phone in ALIGNED.phones]
    np.testing.assert_allclose(
        [item.start for item in times.phones], [phone.start for phone in ALIGNED.phones]
    )
    assert [item.symbol for item in times.words] == ['h"i', "you"]
    grid = praat.openTextgrid(str(tmp_path / "clip.TextGrid"), includeEmptyIntervals=True)
    assert grid.tierNames == ("words", "phones")
    assert [entry.label for entry in grid.getTier("words").entries] == ["", 'h"i', "you", ""]
    assert grid.maxTimestamp == 0.9


def test_json_lab_and_ctm_are_read_back(tmp_path):
    output.write(ALIGNED, tmp_path, ["ctm", "json", "lab"])
    content = json.loads((tmp_path / "clip.json").read_text(encoding="utf-8"))
    assert (content["id"], content["duration"]) == ("clip", 0.9)
    assert content["phones"][2] == {"label": "ˈaɪ", "start": 0.2, "end": 0.3, "confidence": 0.25}
    assert content["words"][1] == {"label": "you", "start": 0.3, "end": 0.7}
    labels = read_lab(tmp_path / "clip.lab")
    np.testing.assert_allclose([item.start for item in labels], [phone.start for phone in ALIGNED.phones])
    rows = [line.split() for line in (tmp_path / "clip.ctm").read_text(encoding="utf-8").splitlines()]
    assert rows[1] == ["clip", "1", "0.1000", "0.1000", "h", "1.000"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.ctm", "clip.json", "clip.lab"]
