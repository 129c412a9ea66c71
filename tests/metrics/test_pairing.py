"""Exact DTW against the enumeration of every path and against stored paths of another program; pairs and padding."""

import numpy as np
import pytest
import torch

from hmmtts.metrics.functional import by_dtw, by_index, dtw_path, select, valid
from tests.data import needs_data
from tests.metrics.reference import FOLDER, WITH_FEATURES


def every_path(rows: int, columns: int):
    if (rows, columns) == (1, 1):
        yield [(0, 0)]
        return
    for up, left in ((1, 1), (1, 0), (0, 1)):
        if rows > up and columns > left:
            for path in every_path(rows - up, columns - left):
                yield [*path, (rows - 1, columns - 1)]


@pytest.mark.parametrize(("t", "u"), [(1, 1), (1, 4), (5, 1), (4, 4), (5, 3), (3, 6)])
def test_the_path_is_the_best_of_all(t, u):
    generator = np.random.default_rng(t * 10 + u)
    for _ in range(20):
        ref, hyp = generator.normal(size=(t, 3)), generator.normal(size=(u, 3))
        cost = np.linalg.norm(ref[:, None] - hyp, axis=-1)
        totals = [sum(cost[cell] for cell in path) for path in every_path(t, u)]
        path = dtw_path(ref, hyp)
        assert [tuple(cell) for cell in path] in list(every_path(t, u))
        assert cost[path[:, 0], path[:, 1]].sum() == pytest.approx(min(totals), abs=1e-12)


@needs_data
@pytest.mark.parametrize("pair", WITH_FEATURES)
def test_stored_paths(pair):
    ref, hyp = (
        np.load(FOLDER / "features" / f"{pair}_{side}.npz")["mcep"][:, 1:] for side in ("ref", "test")
    )
    assert np.array_equal(dtw_path(ref, hyp), np.load(FOLDER / "features" / f"{pair}_dtwpath.npy"))


def test_padding_does_not_change_the_pairs():
    torch.manual_seed(0)
    ref, hyp = torch.randn(3, 9, 4), torch.randn(3, 7, 4)
    ref_frames, hyp_frames = torch.tensor([9, 4, 0]), torch.tensor([5, 7, 3])
    pairs = by_dtw(ref, ref_frames, hyp, hyp_frames)
    assert pairs.length[2] == 0
    for row in range(2):
        alone = dtw_path(ref[row, : ref_frames[row]].numpy(), hyp[row, : hyp_frames[row]].numpy())
        assert pairs.ref[row, : pairs.length[row]].tolist() == alone[:, 0].tolist()
        assert pairs.hyp[row, : pairs.length[row]].tolist() == alone[:, 1].tolist()


def test_by_index_ends_with_the_shorter_side():
    pairs = by_index(torch.tensor([3, 5, 0]), torch.tensor([4, 2, 1]))
    assert pairs.length.tolist() == [3, 2, 0]
    assert pairs.ref.tolist() == pairs.hyp.tolist() == [[0, 1, 2], [0, 1, 0], [0, 0, 0]]
    chosen = select(torch.tensor([[10, 11, 12], [20, 21, 22], [30, 31, 32]]), pairs.ref)
    assert chosen[valid(pairs.length, 3)].tolist() == [10, 11, 12, 20, 21]
