"""Monotonic alignment search: the best left-to-right path as text-to-speech libraries look for it."""

import numba
import numpy as np
import torch
from torch import Tensor

from hmmtts.bench.batches import Batch
from hmmtts.bench.race import Run


def monotonic_align(batch: Batch) -> Run:
    """The Cython package of that name (Glow-TTS, VITS)."""
    from monotonic_align import maximum_path

    mask = _mask(batch)
    return Run(lambda: maximum_path(batch.log_obs, mask), lambda out: out.argmax(2))


def monotonic_alignment_search(batch: Batch) -> Run:
    """coqui's successor of it, states before frames."""
    from monotonic_alignment_search import maximum_path

    scores, mask = (x.transpose(1, 2).contiguous() for x in (batch.log_obs, _mask(batch)))
    return Run(lambda: maximum_path(scores, mask), lambda out: out.argmax(1))


def nemo_style(batch: Batch) -> Run:
    """numba over whole rows of float32 with int16 pointers, as in NeMo and RAD-TTS; written anew, on one thread."""
    scores, frames, states = batch.log_obs.numpy(), batch.frames.numpy(), batch.states.numpy()

    def call() -> np.ndarray:
        # The search works in place.
        return _search_all(scores.copy(), frames, states)

    return Run(call, lambda out: torch.from_numpy(out.argmax(2)))


@numba.njit
def _search_all(scores, frames, states):
    chosen = np.zeros(scores.shape, np.int16)
    for b in range(len(frames)):
        t, n = frames[b], states[b]
        chosen[b, :t, :n] = _search(scores[b, :t, :n])
    return chosen


@numba.njit
def _search(scores):
    scores[0, 1:] = -np.inf
    pointers = np.zeros(scores.shape, np.int16)
    pointers[1:, 1:] = np.arange(1, scores.shape[1])
    for t in range(1, scores.shape[0]):
        scores[t, 1:] += np.maximum(scores[t - 1, :-1], scores[t - 1, 1:])
        scores[t, 0] += scores[t - 1, 0]
        pointers[t, 1:] -= (scores[t - 1, :-1] >= scores[t - 1, 1:]).astype(np.int16)
    chosen = np.zeros(scores.shape, np.int16)
    state = scores.shape[1] - 1
    for t in range(scores.shape[0] - 1, -1, -1):
        chosen[t, state] = 1
        state = pointers[t, state]
    return chosen


def _mask(batch: Batch) -> Tensor:
    _, t, n = batch.log_obs.shape
    frames = torch.arange(t) < batch.frames[:, None]
    states = torch.arange(n) < batch.states[:, None]
    return (frames[:, :, None] & states[:, None]).float()
