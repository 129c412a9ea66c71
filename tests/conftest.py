"""Before any test imports Triton: where there is no GPU, its interpreter runs the kernels (tests/hmm/test_gpu.py)."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
