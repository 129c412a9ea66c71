"""DTW beside librosa's: through given costs, and from two sequences of features (t frames each, c features)."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from hmmtts.bench.race import Contender, Effort, Run, race
from hmmtts.bench.record import Record
from hmmtts.bench.work import Work
from hmmtts.hmm.dtw import Warp, distances, dtw, dtw_sequences

FEATURES = 24  # as many as MCD compares


def works(quick: bool) -> list[Work]:
    effort = Effort(seconds=1, rounds=3) if quick else Effort(seconds=10, rounds=50)
    t = 60 if quick else 1000
    return [
        Work(f"dtw_{t}", partial(_given, t, effort)),
        Work(f"dtw_{t}_c{FEATURES}", partial(_sequences, t, effort)),
    ]


def _given(t: int, effort: Effort) -> list[Record]:
    ref, hyp = _pair(t)
    cost = distances(ref, hyp, "euclidean")

    def ours(cost: Tensor) -> Run:
        frames = torch.tensor([t])
        return Run(lambda: dtw(cost, frames, frames), _cells)

    def librosa(cost: Tensor) -> Run:
        from librosa.sequence import dtw as theirs

        matrix = cost[0].numpy()
        return Run(lambda: theirs(C=matrix), _cells_of_librosa)

    contenders = [Contender("ours", ours), Contender("librosa", librosa, bar=5)]
    return race(f"dtw_{t}", cost, contenders, partial(_excess, cost), effort)


def _sequences(t: int, effort: Effort) -> list[Record]:
    pair = _pair(t)

    def ours(pair: tuple[Tensor, Tensor]) -> Run:
        frames, (ref, hyp) = torch.tensor([t]), pair
        return Run(lambda: dtw_sequences(ref, frames, hyp, frames), _cells)

    def librosa(pair: tuple[Tensor, Tensor]) -> Run:
        from librosa.sequence import dtw as theirs

        ref, hyp = (side[0].T.contiguous().numpy() for side in pair)
        return Run(lambda: theirs(ref, hyp), _cells_of_librosa)

    excess = partial(_excess, distances(*pair, "euclidean"))
    return race(
        f"dtw_{t}_c{FEATURES}", pair, [Contender("ours", ours), Contender("librosa", librosa)], excess, effort
    )


def _pair(t: int) -> tuple[Float[Tensor, "b t c"], Float[Tensor, "b t c"]]:
    """Noise that drifts, so that the best path wanders."""
    generator = torch.Generator().manual_seed(0)
    ref, hyp = torch.randn(2, t, FEATURES, generator=generator, dtype=torch.float64).cumsum(1)
    return ref[None], hyp[None]


def _cells(warp: Warp) -> Tensor:
    n = int(warp.length[0])
    return torch.stack([warp.ref[0, :n], warp.hyp[0, :n]], 1)


def _cells_of_librosa(answer) -> Tensor:
    return torch.from_numpy(answer[1][::-1].copy())


def _excess(cost: Float[Tensor, "b t u"], cells: Tensor) -> float:
    """By how much the cells' cost is more than the least, relative."""
    frames = torch.tensor([cost.shape[1]])
    least = float(dtw(cost, frames, frames).cost)
    return abs(float(cost[0][tuple(cells.T)].sum()) / least - 1)
