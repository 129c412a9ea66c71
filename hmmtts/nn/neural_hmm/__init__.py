"""The neural HMM (arXiv 2108.13320): an HMM whose emissions and transitions hear the frames that went before.

b utterances, s symbols, n states, t frames, m mel bins, d width of a cell, p of the prenet, h of the memory, f of the
output net, o = 2m + 1 its outputs, c pairs of frame and state.

    x_1 ... x_(t-1) -> prenet, LSTM -> h_t    knows no state: one call for all frames
    h_t, cell_n -> output net -> mean, deviation of x_t in state n, and the logit of leaving n after frame t
    log p(x | text): the exact sum over all paths, by hmmtts.hmm
"""

from hmmtts.nn.neural_hmm.core import NeuralHMM

__all__ = ["NeuralHMM"]
