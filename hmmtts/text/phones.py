"""The frontend for transcripts that already are phones, separated by spaces."""

from hmmtts.text.frontend import NO_WORD, SILENCE, Transcript


class Phones:
    """`"sil h ə l ˈoʊ | w ˈɜː l d sil"` -> its symbols.

    `word_separator` ends a word. A pause ends one too, so that without separators a stretch between two pauses
    counts as one word. Every symbol of `pauses` is a pause and becomes `sil`.
    """

    def __init__(self, word_separator: str = "|", pauses: tuple[str, ...] = (SILENCE, "sp")):
        self.word_separator = word_separator
        self.pauses = frozenset(pauses) | {SILENCE}

    def __call__(self, text: str, language: str | None = None) -> Transcript:
        symbols: list[str] = []
        word_of: list[int] = []
        spelling: list[list[str]] = []
        inside = False
        for symbol in text.split():
            if symbol == self.word_separator:
                inside = False
                continue
            if symbol in self.pauses:
                inside = False
                symbols.append(SILENCE)
                word_of.append(NO_WORD)
                continue
            if not inside:
                spelling.append([])
                inside = True
            spelling[-1].append(symbol)
            symbols.append(symbol)
            word_of.append(len(spelling) - 1)
        return Transcript(symbols, ["".join(spelt) for spelt in spelling], word_of)
