"""Aligners: which frames belong to which symbol. One variant per file; conf/aligner chooses."""

from hmmtts.nn.aligners.base import Aligner

__all__ = ["Aligner"]
