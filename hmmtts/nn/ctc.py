"""CTC as a module: labels read off encoded audio. b utterances, t frames, d width, s labels, v classes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hmmtts.hmm.ctc import CTCAlignment, ctc_align, ctc_log_likelihood
from hmmtts.hmm.segmentation import Segment, segment


class CTCAligner(nn.Module):
    """The last layer of a recogniser: any encoder of frames stands before it, trained by -log_likelihood.

    In float32 whatever the autocast around it. An utterance with too few frames for its labels is a ValueError;
    `hmmtts.hmm.ctc.ctc(targets, lengths).feasible(frames)` tells them apart.
    """

    def __init__(self, width: int, classes: int, blank: int = 0) -> None:
        super().__init__()
        if not 0 <= blank < classes:
            raise ValueError(f"blank must be one of the {classes} classes, got {blank}")
        self.blank = blank
        self.project = nn.Linear(width, classes)

    def forward(self, h: Float[Tensor, "*b t d"]) -> Float[Tensor, "*b t v"]:
        """log-probabilities of the classes."""
        with torch.autocast(h.device.type, enabled=False):
            return self.project(h.float()).log_softmax(-1)

    def log_likelihood(
        self,
        h: Float[Tensor, "b t d"],
        frames: Int[Tensor, "b"],
        targets: Int[Tensor, "b s"],
        lengths: Int[Tensor, "b"],
    ) -> Float[Tensor, "b"]:
        return ctc_log_likelihood(self(h), frames, targets, lengths, self.blank)

    def align(
        self,
        h: Float[Tensor, "b t d"],
        frames: Int[Tensor, "b"],
        targets: Int[Tensor, "b s"],
        lengths: Int[Tensor, "b"],
    ) -> CTCAlignment:
        with torch.no_grad():
            return ctc_align(self(h), frames, targets, lengths, self.blank)

    def segment(self, h: Float[Tensor, "t d"], texts: Sequence[Int[Tensor, "s"]]) -> list[Segment]:
        """Where the utterances of a long text lie in long audio."""
        with torch.no_grad():
            return segment(self(h), texts, self.blank)
