"""Settings that must stand before torch and Triton are imported.

One OpenMP thread: pytest's own processes share the cores, and a process forked from one with OpenMP threads can hang.
Where there is no GPU, Triton's interpreter runs the kernels (tests/hmm/test_gpu.py).
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
