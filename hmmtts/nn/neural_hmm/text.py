"""Text to the cells of the states: the encoder of the published model. b utterances, s symbols, n states, d width."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import dropout, relu
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hmmtts.nn.embedding import Embedding, Voice
from hmmtts.nn.lengths import mask


class TextCells(nn.Module):
    """Embedding, convolutions, and an LSTM in both directions whose output is shared out to the states of a symbol.

    The published code gives a symbol's first state the forward direction and its second the backward one; here each
    state gets its share of both. Layer norm stands where batch norm did: as many parameters, and nothing depends on
    the other utterances.

    `rich` embeds what a symbol resembles and its place in the word too; as published, it is the symbol alone.
    """

    def __init__(
        self,
        kin: Sequence[int],
        speakers: int,
        languages: int,
        states_per_symbol: int,
        width: int = 512,
        layers: int = 3,
        kernel: int = 5,
        dropout: float = 0.5,
        rich: bool = False,
    ) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"width must be even: half of each direction of the LSTM; got {width}")
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, so that it has a middle, got {kernel}: take {kernel + 1}")
        self.states_per_symbol, self.dropout = states_per_symbol, dropout
        voices = {"speakers": speakers, "languages": languages}
        self.embedding = (
            Embedding(width, kin, **voices) if rich else PlainEmbedding(width, len(kin), **voices)
        )
        convolutions = [nn.Conv1d(width, width, kernel, padding=kernel // 2) for _ in range(layers)]
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.lstm = nn.LSTM(width, states_per_symbol * width // 2, batch_first=True, bidirectional=True)
        for convolution in convolutions:
            nn.init.xavier_uniform_(convolution.weight, nn.init.calculate_gain("relu"))
        self.convolutions = nn.ModuleList(convolutions)

    def forward(
        self,
        ids: Int[Tensor, "b s"],
        symbols: Int[Tensor, "b"],
        marks: Int[Tensor, "b s"],
        speaker: Int[Tensor, "b"],
        language: Int[Tensor, "b"],
    ) -> Float[Tensor, "b n d"]:
        x = self.embedding(ids, marks, speaker, language)
        b, s, d = x.shape
        real = mask(symbols, s)[..., None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = relu(norm(convolution(torch.where(real, x, 0.0).mT).mT))
            x = dropout(x, self.dropout, self.training)
        # Packed, so that the backward direction begins at each utterance's own last symbol.
        packed = pack_padded_sequence(x, symbols.cpu(), batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=s)
        shares = y.view(b, s, 2, self.states_per_symbol, d // 2).transpose(2, 3)
        return shares.reshape(b, s * self.states_per_symbol, d)


class PlainEmbedding(nn.Module):
    """The symbol alone, and whose voice it is."""

    def __init__(self, width: int, symbols: int, speakers: int, languages: int) -> None:
        super().__init__()
        self.symbols = nn.Embedding(symbols, width)
        self.voice = Voice(width, speakers, languages)

    def forward(
        self, ids: Int[Tensor, "b s"], marks: Int[Tensor, "b s"], speaker: Int[Tensor, "b"], language: Int[Tensor, "b"]
    ) -> Float[Tensor, "b s d"]:  # fmt: skip
        return self.voice(self.symbols(ids), speaker, language)
