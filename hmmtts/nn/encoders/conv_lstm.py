"""Convolutions for the neighbourhood, a bidirectional LSTM for the sentence: Tacotron 2's encoder (arXiv 1712.05884)."""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hmmtts.nn.encoders.base import Encoder
from hmmtts.nn.layers import ConvBlock
from hmmtts.nn.lengths import mask
from hmmtts.nn.recompute import Stack


class ConvLSTM(Encoder):
    """Layer norm stands where the original has batch norm: no state, and nothing depends on the other utterances."""

    def __init__(self, width: int = 256, layers: int = 3, kernel: int = 5, dropout: float = 0.1) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"width must be even: half for each direction of the LSTM; got {width}")
        self.width = width
        self.blocks = Stack(ConvBlock(width, kernel, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.lstm = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)

    def forward(self, x: Float[Tensor, "b s d"], symbols: Int[Tensor, "b"]) -> Float[Tensor, "b s d"]:
        size = x.shape[1]
        real = mask(symbols, size)
        x = self.blocks(x, real)
        # Packed, so that the backward direction begins at each utterance's own last symbol.
        packed = pack_padded_sequence(self.norm(x), symbols.cpu(), batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=size)
        return x + y
