"""Vocoders in ONNX files: a transposed convolution whose answer torch knows, and files that are none."""

import pytest
import torch

from hmmtts.audio.mel import LogMel
from hmmtts.audio.onnx_vocoder import OnnxVocoder

onnx = pytest.importorskip("onnx", reason="needs the extra `onnx`")
pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")

BINS, HOP = 8, 64
LOGMEL = LogMel(16000, n_fft=256, hop=HOP, win=256, n_mels=BINS, padding="same")


def write(path, bins: int = BINS, hop: int = HOP) -> torch.Tensor:
    """A vocoder whose every frame becomes a hop of samples; returns its weights."""
    weights = torch.randn(bins, 1, hop, generator=torch.Generator().manual_seed(0))
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("ConvTranspose", ["mel", "weights"], ["wave"], strides=[hop])],
        "vocoder",
        [helper.make_tensor_value_info("mel", kind, [1, bins, "frames"])],
        [helper.make_tensor_value_info("wave", kind, [1, 1, "samples"])],
        [helper.make_tensor("weights", kind, weights.shape, weights.flatten().tolist())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return weights


def test_the_file_makes_the_sound(tmp_path):
    weights = write(tmp_path / "v.onnx")
    mel = torch.randn(20, BINS)
    expected = torch.nn.functional.conv_transpose1d(mel.mT[None], weights, stride=HOP)[0, 0]
    torch.testing.assert_close(OnnxVocoder(LOGMEL, tmp_path / "v.onnx")(mel), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: write(path, bins=80), "takes mels of 80 bins, and this voice makes 8"),
        (lambda path: write(path, hop=32), "and this voice's hop is 64"),
        (lambda path: path.write_text("<html>"), "not a model that onnxruntime can run"),
        (lambda path: None, "there is no such file"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, make, message):
    make(tmp_path / "v.onnx")
    with pytest.raises(ValueError, match=message):
        OnnxVocoder(LOGMEL, tmp_path / "v.onnx")(torch.zeros(20, BINS))
