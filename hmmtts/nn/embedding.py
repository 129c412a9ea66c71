"""Numbers of symbols, marks, speakers and languages to vectors. b utterances, s symbols, d width."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hmmtts.text.frontend import Mark


class Embedding(nn.Module):
    """What is to be said and who says it: symbol + its kin + place in the word + language + speaker.

    `kin` gives for each symbol the number of the one it resembles, such as a vowel without its stress mark: rare
    symbols learn from frequent ones. A table of speakers or languages exists only where there are several.
    """

    def __init__(self, width: int, kin: Sequence[int], speakers: int = 1, languages: int = 1) -> None:
        super().__init__()
        self.kin = nn.Buffer(torch.tensor(kin), persistent=False)
        self.symbols = nn.Embedding(len(kin), width)
        self.kinds = nn.Embedding(len(kin), width)
        self.marks = nn.Embedding(len(Mark), width)
        self.voice = Voice(width, speakers, languages)

    def forward(
        self,
        ids: Int[Tensor, "b s"],
        marks: Int[Tensor, "b s"],
        speaker: Int[Tensor, "b"],
        language: Int[Tensor, "b"],
    ) -> Float[Tensor, "b s d"]:
        return self.voice(
            self.symbols(ids) + self.kinds(self.kin[ids]) + self.marks(marks), speaker, language
        )


class KinEmbedding(nn.Module):
    """What an aligner listens for: the kin of the symbol alone, and whose voice it is."""

    def __init__(self, width: int, kin: Sequence[int], speakers: int = 1, languages: int = 1) -> None:
        super().__init__()
        self.kin = nn.Buffer(torch.tensor(kin), persistent=False)
        self.kinds = nn.Embedding(len(kin), width)
        self.voice = Voice(width, speakers, languages)

    def forward(
        self, ids: Int[Tensor, "b s"], speaker: Int[Tensor, "b"], language: Int[Tensor, "b"]
    ) -> Float[Tensor, "b s d"]:
        return self.voice(self.kinds(self.kin[ids]), speaker, language)


class Voice(nn.Module):
    """Adds the vectors of speaker and language, where there are several to tell apart."""

    def __init__(self, width: int, speakers: int, languages: int) -> None:
        super().__init__()
        self.speakers = nn.Embedding(speakers, width) if speakers > 1 else None
        self.languages = nn.Embedding(languages, width) if languages > 1 else None

    def forward(
        self, x: Float[Tensor, "b s d"], speaker: Int[Tensor, "b"], language: Int[Tensor, "b"]
    ) -> Float[Tensor, "b s d"]:
        if self.speakers is not None:
            x = x + self.speakers(speaker)[:, None]
        if self.languages is not None:
            x = x + self.languages(language)[:, None]
        return x
