"""Decoders: frames of text vectors to mel. One variant per file; conf/decoder chooses."""

from hmmtts.nn.decoders.base import Decoder

__all__ = ["Decoder"]
