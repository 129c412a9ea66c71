"""The user's lexicon: its file, its errors, and what it does to a transcript."""

import pytest

from hmmtts.text import Transcript
from hmmtts.text.lexicon import Lexicon


def test_respelling_keeps_pauses_and_the_other_words():
    transcript = Transcript(["sil", "a", "b", "b", "sil", "c"], ["Ab", "b", "see"], [-1, 0, 0, 1, -1, 2])
    assert Lexicon.read({"AB": "x", "see": "s iː"}).respell(transcript) == Transcript(
        ["sil", "x", "b", "sil", "s", "iː"], ["Ab", "b", "see"], [-1, 0, 1, -1, 2, 2]
    )
    assert Lexicon.read(None).respell(transcript) is transcript


def test_a_word_twice_in_a_row():
    transcript = Transcript(["a", "a"], ["a", "a"], [0, 1])
    assert Lexicon.read({"a": "x y"}).respell(transcript).symbols == ["x", "y", "x", "y"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("one w ʌ n\nONE w a n\n", r"lexicon\.txt:2: 'ONE' is in the lexicon twice"),
        ("# nothing\none\n", r"lexicon\.txt:2: 'one' has no phones"),
    ],
)
def test_errors_name_the_line(tmp_path, content, message):
    path = tmp_path / "lexicon.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        Lexicon.read(str(path))


def test_byte_order_mark_tabs_and_windows_lines(tmp_path):
    path = tmp_path / "lexicon.txt"
    path.write_bytes("\ufeffone\tw ʌ n\r\ntwo t uː\r\n".encode())
    assert Lexicon.read(path).words == {"one": ["w", "ʌ", "n"], "two": ["t", "uː"]}
