"""DTW paths against stored ones of another program (tests/hmm/test_dtw.py enumerates them); pairs and padding."""

import numpy as np
import pytest
import torch

from hmmtts.metrics.functional import by_dtw, by_index, select, valid
from tests.data import needs_data
from tests.metrics.reference import FOLDER, WITH_FEATURES


def path_of(ref, hyp):
    """Of one pair."""
    pairs = by_dtw(ref[None], torch.tensor([len(ref)]), hyp[None], torch.tensor([len(hyp)]))
    return torch.stack([pairs.ref[0], pairs.hyp[0]], 1)


@needs_data
@pytest.mark.parametrize("pair", WITH_FEATURES)
def test_stored_paths(pair):
    ref, hyp = (
        np.load(FOLDER / "features" / f"{pair}_{side}.npz")["mcep"][:, 1:] for side in ("ref", "test")
    )
    path = path_of(torch.from_numpy(ref), torch.from_numpy(hyp)).numpy()
    assert np.array_equal(path, np.load(FOLDER / "features" / f"{pair}_dtwpath.npy"))


def test_padding_does_not_change_the_pairs():
    torch.manual_seed(0)
    ref, hyp = torch.randn(3, 9, 4), torch.randn(3, 7, 4)
    ref_frames, hyp_frames = torch.tensor([9, 4, 0]), torch.tensor([5, 7, 3])
    pairs = by_dtw(ref, ref_frames, hyp, hyp_frames)
    assert pairs.length[2] == 0
    for row in range(2):
        alone = path_of(ref[row, : ref_frames[row]], hyp[row, : hyp_frames[row]])
        assert pairs.ref[row, : pairs.length[row]].tolist() == alone[:, 0].tolist()
        assert pairs.hyp[row, : pairs.length[row]].tolist() == alone[:, 1].tolist()


def test_by_index_ends_with_the_shorter_side():
    pairs = by_index(torch.tensor([3, 5, 0]), torch.tensor([4, 2, 1]))
    assert pairs.length.tolist() == [3, 2, 0]
    assert pairs.ref.tolist() == pairs.hyp.tolist() == [[0, 1, 2], [0, 1, 0], [0, 0, 0]]
    chosen = select(torch.tensor([[10, 11, 12], [20, 21, 22], [30, 31, 32]]), pairs.ref)
    assert chosen[valid(pairs.length, 3)].tolist() == [10, 11, 12, 20, 21]
