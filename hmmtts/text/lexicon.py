"""A user's own pronunciations of single words, in place of those that a frontend finds."""

from collections.abc import Mapping
from pathlib import Path

from hmmtts.text.frontend import NO_WORD, Transcript


class Lexicon:
    """Word -> its symbols. Words are compared without regard to upper and lower case."""

    def __init__(self, words: Mapping[str, list[str]]):
        self.words = {word.casefold(): list(symbols) for word, symbols in words.items()}

    @classmethod
    def read(cls, source: "str | Path | Mapping[str, str] | None") -> "Lexicon":
        """From a file of lines `word phone phone ...` (`#` begins a comment), or a mapping word -> "phone phone"."""
        if source is None:
            return cls({})
        if isinstance(source, Mapping):
            return cls({word: _symbols(symbols, f"lexicon: {word!r}") for word, symbols in source.items()})
        path = Path(source)
        words: dict[str, list[str]] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
            word, *symbols = line.partition("#")[0].split(maxsplit=1) or [""]
            if not word:
                continue
            if word.casefold() in words:
                raise ValueError(f"{path}:{number}: {word!r} is in the lexicon twice: keep one line")
            words[word.casefold()] = _symbols("".join(symbols), f"{path}:{number}: {word!r}")
        return cls(words)

    def respell(self, transcript: Transcript) -> Transcript:
        """The transcript with the symbols of the lexicon in every word that it holds."""
        if not any(word.casefold() in self.words for word in transcript.words):
            return transcript
        symbols: list[str] = []
        word_of: list[int] = []
        before = NO_WORD
        for symbol, word in zip(transcript.symbols, transcript.word_of, strict=True):
            own = self.words.get(transcript.words[word].casefold()) if word != NO_WORD else None
            if own is None:
                symbols.append(symbol)
                word_of.append(word)
            elif word != before:
                symbols += own
                word_of += [word] * len(own)
            before = word
        return Transcript(symbols, transcript.words, word_of)


def _symbols(text: str, where: str) -> list[str]:
    if not text.split():
        raise ValueError(
            f"{where} has no phones: write the word and its phones with spaces between, or delete the line"
        )
    return text.split()
