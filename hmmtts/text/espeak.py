"""The frontend that pronounces text in IPA by espeak-ng, in every language that espeak-ng speaks."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Literal

from hmmtts.text.espeak_library import Clause, clauses
from hmmtts.text.frontend import NO_WORD, SILENCE, Transcript
from hmmtts.text.lexicon import Lexicon
from hmmtts.text.normalise import normalise
from hmmtts.text.words import STRESS, assign

PUNCTUATION = re.compile(r"([,.;:!?…–—、。，．！？；：])\W*\w?$")  # espeak-ng reads one letter past a clause
FLAG = re.compile(r"\([\w-]+\)")  # "(en)": espeak-ng changes the language for a word
AROUND = "\"'“”„‘’‚«»‹›()[]{}<>,.;:!?…–—-、。，．！？；：「」『』"  # a word, but no part of it


class Espeak:
    """`stress` keeps ˈ and ˌ on the vowels.

    `pauses`: "sil" makes every pause `sil`; "punctuation" makes it the mark that causes it, so that a question
    differs from a statement; "none" leaves pauses out. `edges` puts one at the beginning and end of the text, where
    a recording has silence. `normalise_numbers` writes numbers and abbreviations out by our tables before espeak-ng
    reads them by its own rules. The words of `lexicon` (a file, or a mapping word -> spaced phones) replace espeak-ng's.
    """

    def __init__(
        self,
        language: str = "en-us",
        stress: bool = True,
        pauses: Literal["sil", "punctuation", "none"] = "sil",
        edges: bool = True,
        normalise_numbers: bool = False,
        lexicon: str | Mapping[str, str] | None = None,
    ):
        if pauses not in ("sil", "punctuation", "none"):
            raise ValueError(f"pauses must be sil, punctuation or none, got {pauses!r}")
        self.language = language
        self.stress = stress
        self.pauses = pauses
        self.edges = edges
        self.normalise_numbers = normalise_numbers
        self.lexicon = Lexicon.read(lexicon)

    def __call__(self, text: str, language: str | None = None) -> Transcript:
        voice = language or self.language
        text = unicodedata.normalize("NFC", text)  # espeak-ng does not know letters taken apart
        if self.normalise_numbers:
            text = normalise(text, voice)
        read = [(words, clause) for clause in clauses(text, voice) if (words := self._words(clause))]
        if not read:
            return Transcript([], [], [])
        symbols = [SILENCE] if self.edges else []
        is_phone = [False] * len(symbols)
        chunks: list[tuple[str, ...]] = []
        for number, (words, clause) in enumerate(read, start=1):
            for word in words:
                symbols += word
                is_phone += [symbol != SILENCE for symbol in word]
                chunks.append(tuple(symbol for symbol in word if symbol != SILENCE))
            pause = self._pause(clause, last=number == len(read))
            if pause and symbols[-1] == SILENCE:  # the last word's own pause runs into that of its clause
                symbols.pop()
                is_phone.pop()
            symbols += pause
            is_phone += [False] * len(pause)
        named = self._alone(text, voice)
        owners = assign(tuple(chunks), tuple(phones for _, phones in named))
        heard = sorted(set(owners))  # a word may lose all its phones to its neighbour
        place = {owner: index for index, owner in enumerate(heard)}
        owner = iter(owners)
        word_of = [place[next(owner)] if phone else NO_WORD for phone in is_phone]
        return self.lexicon.respell(Transcript(symbols, [named[index][0] for index in heard], word_of))

    def _words(self, clause: Clause) -> list[list[str]]:
        """The phones of every word; a pause inside the clause is `sil`, at the end of the word before it."""
        words = []
        for spoken in clause.words:
            phones: list[str] = []
            gap = False
            for phone in (phone for phone in spoken if not FLAG.fullmatch(phone)):
                if phone:
                    phones.append(phone if self.stress else phone.translate(STRESS))
                elif gap and self.pauses != "none":  # two empty phonemes in a row
                    phones.append(SILENCE)
                gap = not phone and not gap
            if phones:
                words.append(phones)
        return words

    def _pause(self, clause: Clause, last: bool) -> list[str]:
        """What is between this clause and the next, or at the end."""
        mark = PUNCTUATION.search(clause.text) if self.pauses == "punctuation" else None
        if mark:
            return [mark[1]]
        wanted = self.edges if last else self.pauses != "none"
        return [SILENCE] if wanted else []

    def _alone(self, text: str, voice: str) -> list[tuple[str, tuple[str, ...]]]:
        """Every word of the text with the phones that it has by itself."""
        words = [token.strip(AROUND) or token for token in text.split()]
        spoken = [(word, _phones(clauses(word, voice))) for word in words]
        return [(word, phones) for word, phones in spoken if phones] or [(text.strip(), (SILENCE,))]


def _phones(read: tuple[Clause, ...]) -> tuple[str, ...]:
    words = (word for clause in read for word in clause.words)
    return tuple(phone for word in words for phone in word if phone and not FLAG.fullmatch(phone))
