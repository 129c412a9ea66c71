"""Modules with parameters: what a voice is built of, and HMMs to use in networks of your own."""

from hmmtts.nn.hmm import HMM
from hmmtts.nn.layer import HMMLayer
from hmmtts.nn.mixture_hmm import GaussianHMM, MixtureHMM
from hmmtts.nn.semi_markov_hmm import SemiMarkovHMM

__all__ = ["HMM", "GaussianHMM", "HMMLayer", "MixtureHMM", "SemiMarkovHMM"]
