"""Text to symbols: frontends, symbol tables, normalisation, lexica."""

from hmmtts.text.frontend import NO_WORD, SILENCE, Frontend, Mark, Transcript, from_alignment, marks
from hmmtts.text.phones import Phones
from hmmtts.text.symbols import PADDING, SymbolTable

__all__ = [
    "NO_WORD",
    "PADDING",
    "SILENCE",
    "Frontend",
    "Mark",
    "Phones",
    "SymbolTable",
    "Transcript",
    "from_alignment",
    "marks",
]
