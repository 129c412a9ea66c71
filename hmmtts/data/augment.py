"""Changes to the items of training, each from a generator of its own for every utterance of every epoch."""

import torch

from hmmtts.data.dataset import Item


class Noise:
    """Gaussian noise on the normalised mel.

    Digital silence gives frames that are all equal, where a density can grow without bound; noise of 0.01 bounds it
    and is far below what is heard.
    """

    def __init__(self, deviation: float = 0.01) -> None:
        if deviation <= 0:
            raise ValueError(
                f"deviation must be positive, got {deviation}: augment=null leaves the mel alone"
            )
        self.deviation = deviation

    def __call__(self, item: Item, random: torch.Generator) -> Item:
        return item._replace(mel=item.mel + self.deviation * torch.randn(item.mel.shape, generator=random))
