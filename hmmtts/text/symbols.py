"""The table of symbols: learned from the data, kept in the model bundle, looked up by name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

PADDING = "_"


@dataclass(frozen=True)
class SymbolTable:
    """Numbers for symbols; number 0 is the padding of a batch, which no text may use."""

    symbols: tuple[str, ...]
    number: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        number = {symbol: index for index, symbol in enumerate(self.symbols)}
        if not self.symbols or self.symbols[0] != PADDING:
            raise ValueError(f"symbols must begin with the padding {PADDING!r}, got {self.symbols[:1]}")
        if len(number) < len(self.symbols):
            twice = sorted({symbol for symbol in self.symbols if self.symbols.count(symbol) > 1})
            raise ValueError(f"symbols must differ from each other, got {twice} more than once")
        object.__setattr__(self, "number", number)

    @classmethod
    def learn(cls, texts: Iterable[Iterable[str]]) -> "SymbolTable":
        """The symbols that occur in the texts, sorted, so that the order of the corpus does not matter."""
        seen = {symbol for text in texts for symbol in text}
        if PADDING in seen:
            raise ValueError(f"the symbol {PADDING!r} is the padding of a batch: a text may not use it")
        return cls((PADDING, *sorted(seen)))

    def encode(self, symbols: Sequence[str], where: str = "") -> list[int]:
        """The numbers of the symbols; `where` names the utterance, file and line in the error."""
        unknown = sorted({symbol for symbol in symbols if symbol not in self.number or symbol == PADDING})
        if unknown:
            names = ", ".join(describe(symbol) for symbol in unknown)
            raise ValueError(
                f"{where + ': ' if where else ''}unknown symbols: {names}. The table holds {len(self) - 1} symbols, "
                "those of the training texts: correct the text, respell it with a lexicon, or train with texts that use them"
            )
        return [self.number[symbol] for symbol in symbols]

    def decode(self, ids: Iterable[int]) -> list[str]:
        return [self.symbols[index] for index in ids]

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, symbol: str) -> bool:
        return symbol in self.number

    def shared(self, other: "SymbolTable") -> dict[int, int]:
        """Number here -> number in the other table, for the symbols of both: what fine-tuning can carry over."""
        return {index: other.number[symbol] for index, symbol in enumerate(self.symbols) if symbol in other}

    def state(self) -> list[str]:
        """Plain data for the bundle, which from_state reads back."""
        return list(self.symbols)

    @classmethod
    def from_state(cls, state: Sequence[str]) -> "SymbolTable":
        return cls(tuple(state))


def describe(symbol: str) -> str:
    """A symbol and its code points, since two symbols may look the same: 'ɡ' (U+0261)."""
    return f"{symbol!r} ({' '.join(f'U+{ord(character):04X}' for character in symbol)})"
