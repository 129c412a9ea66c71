"""Modules with parameters: what a voice is built of, and HMMs to use in networks of your own."""

from hmmtts.nn.hmm import HMM
from hmmtts.nn.layer import HMMLayer

__all__ = ["HMM", "HMMLayer"]
