"""A trained vocoder from an ONNX file: HiFi-GAN, Vocos and the like, exported by whoever trained it.

An ONNX file is a graph of arithmetic: unlike a pickled checkpoint it cannot run code of its own. l samples, t frames,
m mel bins.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.audio.mel import LogMel
from hmmtts.audio.vocoder import Vocoder


class OnnxVocoder(Vocoder):
    """One input, mel [1 m t] in natural logarithms; one output, wave [1 l] or [1 1 l] with a hop of samples a frame.

    The mel is the voice's own: train it with the features that the vocoder expects (`features=hifigan`, `vocos`).
    """

    def __init__(self, logmel: LogMel, path: Path) -> None:
        super().__init__(logmel)
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError(
                "a vocoder in an .onnx file needs onnxruntime: pip install 'hmmtts[onnx]'"
            ) from error
        if not path.is_file():
            raise ValueError(f"vocoder {path}: there is no such file")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # its messages come as exceptions too
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own kinds have no common parent
            reason = str(error).splitlines()[0]
            raise ValueError(f"vocoder {path}: not a model that onnxruntime can run: {reason}") from error
        self.path, inputs = path, self.session.get_inputs()
        shape = list(inputs[0].shape) if len(inputs) == 1 else []
        if len(shape) != 3 or inputs[0].type != "tensor(float)" or len(self.session.get_outputs()) != 1:
            raise ValueError(f"vocoder {path}: needs one input, float32 [1, bins, frames], and one output")
        if isinstance(shape[1], int) and shape[1] != logmel.dim:
            raise ValueError(
                f"vocoder {path}: takes mels of {shape[1]} bins, and this voice makes {logmel.dim}: "
                "train the voice with the vocoder's features"
            )

    @torch.no_grad()
    def forward(self, mel: Float[Tensor, "t m"]) -> Float[Tensor, "l"]:
        given = {self.session.get_inputs()[0].name: mel.float().cpu().mT[None].contiguous().numpy()}
        try:
            (wave,) = self.session.run(None, given)
        except Exception as error:
            raise ValueError(f"vocoder {self.path}: fails: {str(error).splitlines()[0]}") from error
        frames, hop = len(mel), self.logmel.hop
        if wave.size != max(wave.shape) or not (frames - 1) * hop <= wave.size <= frames * hop:
            raise ValueError(
                f"vocoder {self.path}: made {list(wave.shape)} samples of {frames} frames, and this voice's hop is {hop}: "
                "train the voice with the vocoder's features"
            )
        return torch.from_numpy(wave.reshape(-1))
