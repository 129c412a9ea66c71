"""Text to the cells of the states: the encoder of the published model. b utterances, s symbols, n states, d width."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import dropout, relu
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hmmtts.nn.embedding import Embedding, KinEmbedding, Voice
from hmmtts.nn.lengths import mask
from hmmtts.nn.states import States


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


class OwnThenContext(nn.Module):
    """Each state its own view of the kin of its symbol, plus what `context` knows of the sentence: the latter only
    after `patience` batches of training.

    With the whole sentence in every cell from a flat start any segmentation explains the sound, and the right one is
    not found: on the demo corpus 44 % of the frames after 100 batches, where 81 % are right after 80 without context.
    """

    def __init__(
        self,
        kin: Sequence[int],
        speakers: int,
        languages: int,
        states_per_symbol: int,
        context: Callable[..., TextCells],
        width: int = 192,
        patience: int = 60,
    ) -> None:
        super().__init__()
        voices = {"speakers": speakers, "languages": languages}
        self.patience = patience
        self.embedding = KinEmbedding(width, kin, **voices)
        self.views = States(width, states_per_symbol)
        self.context = context(kin=kin, states_per_symbol=states_per_symbol, width=width, **voices)
        self.heard = nn.Linear(width, width)
        nn.init.zeros_(self.heard.weight)
        nn.init.zeros_(self.heard.bias)
        self.batches: Tensor = nn.Buffer(torch.tensor(0))  # of training so far: part of the checkpoint

    def forward(
        self,
        ids: Int[Tensor, "b s"],
        symbols: Int[Tensor, "b"],
        marks: Int[Tensor, "b s"],
        speaker: Int[Tensor, "b"],
        language: Int[Tensor, "b"],
    ) -> Float[Tensor, "b n d"]:
        own = self.views(self.embedding(ids, speaker, language))
        heard = self.heard(self.context(ids, symbols, marks, speaker, language))
        cells = own + torch.where(self.batches >= self.patience, heard, 0.0)
        if self.training:
            self.batches.add_(1)
        return cells
