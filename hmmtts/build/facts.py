"""What a model must know of its data: learned once from the training set, kept in the bundle, plain on disk."""

from dataclasses import dataclass

from hmmtts.audio.normaliser import Normaliser
from hmmtts.text.symbols import SymbolTable


@dataclass(frozen=True)
class Facts:
    symbols: SymbolTable
    mel: Normaliser
    acoustic: Normaliser
    speakers: tuple[str, ...]
    languages: tuple[str, ...]
    frames_per_symbol: float  # of the aligner, on average: where its transitions start

    def state(self) -> dict:
        """Plain data, which from_state reads back."""
        return {
            "symbols": self.symbols.state(),
            "mel": self.mel.state(),
            "acoustic": self.acoustic.state(),
            "speakers": list(self.speakers),
            "languages": list(self.languages),
            "frames_per_symbol": self.frames_per_symbol,
        }

    @classmethod
    def from_state(cls, state: dict) -> "Facts":
        return cls(
            symbols=SymbolTable.from_state(state["symbols"]),
            mel=Normaliser.from_state(state["mel"]),
            acoustic=Normaliser.from_state(state["acoustic"]),
            speakers=tuple(state["speakers"]),
            languages=tuple(state["languages"]),
            frames_per_symbol=float(state["frames_per_symbol"]),
        )
