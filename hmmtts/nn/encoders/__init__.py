"""Encoders: symbols in their context. One variant per file; conf/encoder chooses."""

from hmmtts.nn.encoders.base import Encoder

__all__ = ["Encoder"]
