"""The DTW benchmark: both find a path of the least cost."""

from hmmtts.bench.family import dtw


def test_both_paths_are_best():
    for work in dtw.works(quick=True):
        records = list(work.measure())
        assert [record.contender for record in records] == ["ours", "librosa"]
        assert all(record.error is not None and record.error < 1e-12 for record in records)
        assert all(record.value is not None and record.value > 0 for record in records)
