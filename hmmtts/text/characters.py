"""The frontend that spells text with its own letters: no pronunciation, no other program, any alphabet."""

import unicodedata
from collections.abc import Mapping
from typing import Literal

from hmmtts.text.frontend import NO_WORD, SILENCE, Transcript
from hmmtts.text.lexicon import Lexicon
from hmmtts.text.normalise import normalise

MARKS = frozenset(",.;:!?…–—،؛؟、。，．！？；：।")  # where a speaker pauses
SILENT = frozenset('"“”„‘‚«»‹›()[]{}<>「」『』*_')  # written, but not heard
APOSTROPHES = str.maketrans({"’": "'", "ʼ": "'"})


class Characters:
    """`normalise_numbers` writes numbers, abbreviations and symbols out by the table of the language.

    `jamo` takes Hangul syllables apart, so that Korean needs 67 symbols and not 11,172. `pauses` and `edges` are as in
    the espeak frontend: "sil" makes every mark a pause, "punctuation" keeps the mark as the symbol, "none" drops it.
    A character that is no letter, mark or quotation stays a symbol, for the symbol table to name as unknown.
    """

    def __init__(
        self,
        language: str = "en",
        normalise_numbers: bool = True,
        lower: bool = True,
        jamo: bool = True,
        pauses: Literal["sil", "punctuation", "none"] = "sil",
        edges: bool = True,
        lexicon: str | Mapping[str, str] | None = None,
    ):
        if pauses not in ("sil", "punctuation", "none"):
            raise ValueError(f"pauses must be sil, punctuation or none, got {pauses!r}")
        self.language = language
        self.normalise_numbers = normalise_numbers
        self.lower = lower
        self.jamo = jamo
        self.pauses = pauses
        self.edges = edges
        self.lexicon = Lexicon.read(lexicon)

    def __call__(self, text: str, language: str | None = None) -> Transcript:
        if self.normalise_numbers:
            text = normalise(text, language or self.language)
        words: list[str] = []
        spelt = Transcript([], words, [])
        for token in _tokens(unicodedata.normalize("NFC", text).translate(APOSTROPHES)):
            if token in MARKS:
                self._pause(spelt, token)
                continue
            symbols = self._symbols(token)
            words.append(token)
            spelt.symbols.extend(symbols)
            spelt.word_of.extend([len(words) - 1] * len(symbols))
        if not words:
            return Transcript([], [], [])
        return self.lexicon.respell(self._edged(spelt))

    def _symbols(self, word: str) -> list[str]:
        """Letters; an accent stays on its letter, Hangul comes apart."""
        word = word.lower() if self.lower else word
        return [part for letter in word for part in (_jamo(letter) if self.jamo else letter)]

    def _pause(self, spelt: Transcript, mark: str) -> None:
        """One pause for several marks in a row: the last of them decides ("?!", "...")."""
        if self.pauses == "none" or not spelt.words:
            return
        if spelt.word_of[-1] == NO_WORD:
            spelt.symbols.pop()
            spelt.word_of.pop()
        spelt.symbols.append(mark if self.pauses == "punctuation" else SILENCE)
        spelt.word_of.append(NO_WORD)

    def _edged(self, spelt: Transcript) -> Transcript:
        symbols, word_of = spelt.symbols, spelt.word_of
        last = symbols[-1] if word_of[-1] == NO_WORD else None
        if last == SILENCE and not self.edges:
            symbols, word_of = symbols[:-1], word_of[:-1]
        if not self.edges:
            return Transcript(symbols, spelt.words, word_of)
        end = [] if last else [SILENCE]
        return Transcript(
            [SILENCE, *symbols, *end], spelt.words, [NO_WORD, *word_of, *([NO_WORD] * len(end))]
        )


def _tokens(text: str) -> list[str]:
    """Words and single marks. An apostrophe belongs to a word only inside it."""
    tokens: list[str] = []
    word = ""
    for character in [*text, " "]:
        ends = character.isspace() or character in MARKS or character in SILENT or character == "-"
        if not ends:
            word += character
            continue
        if stripped := word.strip("'"):
            tokens.append(stripped)
        word = ""
        if character in MARKS:
            tokens.append(character)
    return tokens


def _jamo(letter: str) -> str:
    return unicodedata.normalize("NFD", letter) if "가" <= letter <= "힣" else letter
