"""Given times: read from files, gaps become pauses, phones share the time of their word."""

import json

import pytest
from lhotse.supervision import AlignmentItem

from hmmtts.synthesis.timed import check_phones, from_phones, from_words, read_timing
from hmmtts.text import Transcript


def item(label: str, start: float, end: float) -> AlignmentItem:
    return AlignmentItem(label, start, end - start)


def test_what_lies_between_phones_is_a_pause():
    phones = [item("a", 0.1, 0.2), item("b", 0.2, 0.3), item("sil", 0.3, 0.4), item("c", 0.6, 0.7)]
    found = from_phones(phones, [item("ab", 0.1, 0.3), item("c", 0.6, 0.7)])
    assert found.transcript == Transcript(
        ["sil", "a", "b", "sil", "sil", "c"], ["ab", "c"], [-1, 0, 0, -1, -1, 1]
    )
    assert found.seconds == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.2, 0.1])


def test_phones_share_the_time_of_their_word_as_they_would_by_themselves():
    read = Transcript(["sil", "a", "b", "sil", "c", "sil"], ["ab", "c"], [-1, 0, 0, -1, 1, -1])
    found = from_words(read, [0.1, 0.1, 0.3, 0.1, 0.2, 0.1], [item("ab", 0.5, 1.3), item("c", 1.3, 1.4)])
    assert found.transcript == Transcript(["sil", "a", "b", "c"], ["ab", "c"], [-1, 0, 0, 1])
    assert found.seconds == pytest.approx([0.5, 0.2, 0.6, 0.1])
    with pytest.raises(ValueError, match="read as 2 words, the times are of 1: ab c"):
        from_words(read, [0.1] * 6, [item("ab", 0.5, 1.3)])


def test_a_text_must_have_the_phones_of_the_times():
    given = from_phones([item("a", 0, 0.1), item("sil", 0.1, 0.2), item("b", 0.2, 0.3)], [item("ab", 0, 0.3)])
    check_phones(Transcript(["sil", "a", "b"], ["ab"], [-1, 0, 0]), given)
    with pytest.raises(ValueError, match="from phone 2 on the text has c d, the file b"):
        check_phones(Transcript(["a", "c", "d"], ["acd"], [0, 0, 0]), given)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", "", r"must be a .json, .TextGrid or .lab file, got .*x\.txt"),
        ("x.json", "{", "JSON"),
        ("x.json", '{"phones": [{"label": "a"}]}', r"KeyError: 'start'"),
        ("x.json", "[1]", "AttributeError"),
        ("x.json", "{}", "holds no times of phones or words"),
        ("x.json", json.dumps({"phones": [{"label": "a", "start": 1, "end": 1}]}), "'a' at 1.000 s lasts 0.000 s"),
        (
            "x.json",
            json.dumps({"words": [{"label": n, "start": s, "end": s + 1} for n, s in (("a", 0), ("b", 0.5))]}),
            "words: 'b' at 0.500 s begins before the label before it ends",
        ),
        ("x.TextGrid", "no grid", "not readable as a TextGrid"),
    ],
)  # fmt: skip
def test_files_that_are_no_timing_by_their_message(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_timing(path)
    with pytest.raises(ValueError, match="there is no such file"):
        read_timing(tmp_path / "none.json")
